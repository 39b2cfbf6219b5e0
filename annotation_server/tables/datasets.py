"""Datasets, their views and their configurations."""

import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from annotation_server.tables.database import Database
from annotation_server.users import READ, User

SCHEMA = """
CREATE TABLE IF NOT EXISTS dataset (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, item_id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS item (
    id TEXT PRIMARY KEY, dataset_id TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (dataset_id, name));
CREATE TABLE IF NOT EXISTS configuration (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, meta TEXT NOT NULL);
-- Only for users whose level here differs from their level on the datasets.
CREATE TABLE IF NOT EXISTS configuration_level (
    configuration_id TEXT NOT NULL, user TEXT NOT NULL, level INTEGER NOT NULL,
    PRIMARY KEY (configuration_id, user));
CREATE TABLE IF NOT EXISTS view (
    id TEXT PRIMARY KEY, dataset_id TEXT NOT NULL, configuration_id TEXT NOT NULL,
    layer_contrasts TEXT NOT NULL);
"""


def add_configuration(
    database: sqlite3.Connection, dataset_id: str, configuration: Mapping[str, Any]
) -> None:
    """Add a configuration, and a view that shows a dataset with it."""
    configuration_id, view_id = secrets.token_hex(12), secrets.token_hex(12)
    meta = {
        'subtype': 'contrastConfiguration',
        'layers': configuration['layers'],
        'propertyIds': [],
    }
    database.execute(
        'INSERT INTO configuration VALUES (?, ?, ?)',
        (configuration_id, configuration['name'], json.dumps(meta)),
    )
    levels = [(configuration_id, user, level) for user, level in configuration['levels'].items()]
    database.executemany('INSERT INTO configuration_level VALUES (?, ?, ?)', levels)
    contrasts = json.dumps(configuration['layerContrasts'])
    database.execute(
        'INSERT INTO view VALUES (?, ?, ?, ?)', (view_id, dataset_id, configuration_id, contrasts)
    )


class DatasetTables(Database):
    """Datasets, their views and their configurations."""

    def add_dataset(
        self, name: str, files: Sequence[str], configurations: Sequence[Mapping[str, Any]]
    ) -> str:
        """Return the id of the dataset of this name. Add the dataset if it is new.

        Parameters
        ----------
        name : str
        files : sequence of str
            The names of its files. Each is an item. The first is the image that is shown.
        configurations : sequence of dict
            As `annotation_server.layers` reads them. Each gives one configuration and one view.
        """
        with self._transaction() as database:
            found = database.execute(
                'SELECT id, item_id FROM dataset WHERE name = ?', (name,)
            ).fetchone()
            if not found:
                found = {'id': secrets.token_hex(12), 'item_id': secrets.token_hex(12)}
                database.execute(
                    'INSERT INTO dataset VALUES (?, ?, ?)', (found['id'], name, found['item_id'])
                )
                for configuration in configurations:
                    add_configuration(database, found['id'], configuration)
            for number, file in enumerate(files):
                item_id = secrets.token_hex(12) if number else found['item_id']
                database.execute(
                    'INSERT OR IGNORE INTO item VALUES (?, ?, ?)', (item_id, found['id'], file)
                )
            return found['id']

    def dataset(self, dataset_id: str) -> sqlite3.Row | None:
        """Return id, name and item_id of a dataset, or None. The item is the image shown."""
        return self._row('SELECT * FROM dataset WHERE id = ?', [dataset_id])

    def add_view(self, dataset_id: str, configuration: Mapping[str, Any]) -> None:
        """Add a configuration to a dataset, and a view that shows the dataset with it."""
        with self._transaction() as database:
            add_configuration(database, dataset_id, configuration)

    def set_layers(self, view_id: str, layers: Sequence[Mapping[str, Any]]) -> None:
        """Replace the layers of a view's configuration. The view keeps no other contrasts."""
        with self._transaction() as database:
            database.execute(
                'UPDATE view SET layer_contrasts = ? WHERE id = ?', (json.dumps({}), view_id)
            )
            database.execute(
                """UPDATE configuration SET meta = json_set(meta, '$.layers', json(?))
                WHERE id = (SELECT configuration_id FROM view WHERE id = ?)""",
                (json.dumps(layers), view_id),
            )

    def views(self, dataset_id: str, user: User) -> list[dict[str, Any]]:
        """Return a dataset's views, oldest first, if the user may read their configurations."""
        rows = self._rows('SELECT * FROM view WHERE dataset_id = ? ORDER BY rowid', [dataset_id])
        rows = [
            row for row in rows if self.configuration_level(row['configuration_id'], user) >= READ
        ]
        return [
            {
                '_id': row['id'],
                'datasetId': row['dataset_id'],
                'configurationId': row['configuration_id'],
                'layerContrasts': json.loads(row['layer_contrasts']),
            }
            for row in rows
        ]

    def configuration(self, configuration_id: str) -> dict[str, Any] | None:
        """Return the configuration of this id, or None."""
        row = self._row('SELECT * FROM configuration WHERE id = ?', [configuration_id])
        return (
            {'_id': row['id'], 'name': row['name'], 'meta': json.loads(row['meta'])}
            if row
            else None
        )

    def configuration_level(self, configuration_id: str, user: User) -> int:
        """Return the level of a user on a configuration."""
        query = 'SELECT level FROM configuration_level WHERE configuration_id = ? AND user = ?'
        row = self._row(query, [configuration_id, user.name])
        return row['level'] if row else user.level

    def shown_property_ids(self, user: User) -> set[str]:
        """Return the ids in `meta.propertyIds` of all configurations that a user may read."""
        rows = self._rows('SELECT id, meta FROM configuration')
        readable = [row for row in rows if self.configuration_level(row['id'], user) >= READ]
        return {id for row in readable for id in json.loads(row['meta']).get('propertyIds', [])}

    def merge_configuration(self, configuration_id: str, metadata: dict[str, Any]) -> None:
        """Put keys into the `meta` of a configuration. They replace keys of the same name."""
        with self._transaction() as database:
            row = database.execute(
                'SELECT meta FROM configuration WHERE id = ?', (configuration_id,)
            ).fetchone()
            meta = json.dumps(json.loads(row['meta']) | metadata)
            database.execute(
                'UPDATE configuration SET meta = ? WHERE id = ?', (meta, configuration_id)
            )
