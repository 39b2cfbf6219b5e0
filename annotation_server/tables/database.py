"""The SQLite file, and ids that sort by age."""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LARGEST_ID = 2**63 - 1  # SQLite's largest integer


def object_id(number: int) -> str:
    """Return a row's number as 24 hexadecimal digits. Ids sort in the same order as numbers."""
    return f'{number:024x}'


def row_number(object_id: str) -> int:
    """Return the row's number from an id of 24 hexadecimal digits."""
    return min(int(object_id, 16), LARGEST_ID)


class Database:
    """One SQLite file. Methods may be called from any thread. Each is one transaction."""

    def __init__(self, path: Path, schema: str):
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.row_factory = sqlite3.Row
        self._database.executescript(schema)

    @property
    def changes(self) -> int:
        """The number of rows that were changed since the file was opened."""
        with self._lock:
            return self._database.total_changes

    def close(self) -> None:
        """Close the database. The store cannot be used afterwards."""
        with self._lock:
            self._database.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._database:
            yield self._database

    def _rows(
        self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[sqlite3.Row]:
        """Return the rows that a query finds."""
        with self._transaction() as database:
            return database.execute(query, values).fetchall()

    def _row(
        self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()
    ) -> sqlite3.Row | None:
        """Return the first row that a query finds, or None."""
        with self._transaction() as database:
            return database.execute(query, values).fetchone()
