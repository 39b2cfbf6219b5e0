"""The items of datasets, and the files in them."""

import secrets
import sqlite3
from datetime import UTC, datetime

from annotation_server.tables.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS file (
    id TEXT PRIMARY KEY, item_id TEXT NOT NULL, name TEXT NOT NULL, content BLOB NOT NULL,
    created TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS file_of_item ON file (item_id);
"""
FILE_COLUMNS = 'id, item_id, name, LENGTH(content) AS size, created'


class FileTables(Database):
    """Items, and the files that clients stored in them. Image files are in the served folder."""

    def items(self, dataset_id: str, name: str | None = None) -> list[sqlite3.Row]:
        """Return id, dataset_id, name and size of a dataset's items, sorted by name.

        The size is that of the files that clients stored in the item. With `name`, only items of
        that name are returned.
        """
        query = """SELECT item.*, IFNULL(SUM(LENGTH(content)), 0) AS size
            FROM item LEFT JOIN file ON file.item_id = item.id
            WHERE dataset_id = ? AND (? IS NULL OR item.name = ?)
            GROUP BY item.id ORDER BY item.name"""
        return self._rows(query, [dataset_id, name, name])

    def item(self, item_id: str) -> sqlite3.Row | None:
        """Return id, dataset_id, name and size of an item, or None."""
        row = self._row('SELECT dataset_id, name FROM item WHERE id = ?', [item_id])
        return self.items(row['dataset_id'], row['name'])[0] if row else None

    def add_item(self, dataset_id: str, name: str) -> None:
        """Add an item if the dataset has no item of that name."""
        with self._transaction() as database:
            database.execute(
                'INSERT OR IGNORE INTO item VALUES (?, ?, ?)',
                (secrets.token_hex(12), dataset_id, name),
            )

    def remove_item(self, item_id: str) -> None:
        """Remove an item and its files."""
        with self._transaction() as database:
            database.execute('DELETE FROM file WHERE item_id = ?', (item_id,))
            database.execute('DELETE FROM item WHERE id = ?', (item_id,))

    def add_file(self, item_id: str, name: str, content: bytes) -> str:
        """Store a file, even if its name exists, and return its id."""
        file_id = secrets.token_hex(12)
        created = datetime.now(UTC).isoformat()
        with self._transaction() as database:
            database.execute(
                'INSERT INTO file VALUES (?, ?, ?, ?, ?)',
                (file_id, item_id, name, content, created),
            )
        return file_id

    def files(self, item_id: str) -> list[sqlite3.Row]:
        """Return id, item_id, name, size and time of an item's files, oldest first."""
        query = f'SELECT {FILE_COLUMNS} FROM file WHERE item_id = ? ORDER BY rowid'
        return self._rows(query, [item_id])

    def file(self, file_id: str) -> sqlite3.Row | None:
        """Return id, item_id, name, size and time of a file, or None."""
        return self._row(f'SELECT {FILE_COLUMNS} FROM file WHERE id = ?', [file_id])

    def file_content(self, file_id: str) -> bytes:
        """Return a file's bytes."""
        return self._rows('SELECT content FROM file WHERE id = ?', [file_id])[0]['content']

    def remove_file(self, file_id: str) -> None:
        """Remove a file."""
        with self._transaction() as database:
            database.execute('DELETE FROM file WHERE id = ?', (file_id,))
