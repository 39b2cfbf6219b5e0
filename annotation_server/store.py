"""The stored data, in one SQLite file."""

from pathlib import Path

from annotation_server.tables import annotations, datasets, files, properties, users


class Store(
    users.UserTable,
    datasets.DatasetTables,
    files.FileTables,
    annotations.AnnotationTables,
    properties.PropertyTables,
):
    """All tables in one SQLite file.

    Methods may be called from any thread. Each is one transaction.
    """

    def __init__(self, path: Path):
        tables = (users, datasets, files, annotations, properties)
        super().__init__(path, '\n'.join(module.SCHEMA for module in tables))
        self.make_users()
