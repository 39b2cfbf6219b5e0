"""Users and their tokens."""

import secrets

from annotation_server.tables.database import Database
from annotation_server.users import LEVELS, User

SCHEMA = """
CREATE TABLE IF NOT EXISTS user (
    name TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, token TEXT NOT NULL UNIQUE);
"""


class UserTable(Database):
    """The users and their tokens."""

    def make_users(self) -> None:
        """Add the users that do not exist yet, each with an id and a token."""
        users = [(name, secrets.token_hex(12), secrets.token_hex(32)) for name in LEVELS]
        with self._transaction() as database:
            database.executemany('INSERT OR IGNORE INTO user VALUES (?, ?, ?)', users)

    def tokens(self) -> dict[str, str]:
        """Return {user name: token}."""
        rows = self._rows('SELECT * FROM user')
        return {row['name']: row['token'] for row in rows if row['name'] in LEVELS}

    def user_of_token(self, token: str) -> User | None:
        """Return the user with this token, or None."""
        row = self._row('SELECT * FROM user WHERE token = ?', [token])
        return User(row['id'], row['name'], row['token']) if row else None
