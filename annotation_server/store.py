"""What has to outlive the server: datasets, configurations, annotations, connections, properties, interfaces, token."""

import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from annotation_server.users import LEVELS, READ, User

LARGEST_ID = 2**63 - 1  # SQLite's largest integer

SCHEMA = """
CREATE TABLE IF NOT EXISTS user (
    name TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, token TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS dataset (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, item_id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS configuration (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, meta TEXT NOT NULL);
-- Only where a user has another level than on the datasets.
CREATE TABLE IF NOT EXISTS configuration_level (
    configuration_id TEXT NOT NULL, user TEXT NOT NULL, level INTEGER NOT NULL, PRIMARY KEY (configuration_id, user));
CREATE TABLE IF NOT EXISTS view (
    id TEXT PRIMARY KEY, dataset_id TEXT NOT NULL, configuration_id TEXT NOT NULL, layer_contrasts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS worker_interface (
    image TEXT PRIMARY KEY, interface TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS annotation (
    id INTEGER PRIMARY KEY AUTOINCREMENT, dataset_id TEXT NOT NULL, shape TEXT NOT NULL, tags TEXT NOT NULL,
    body TEXT NOT NULL);
-- Everything a filter looks at, so that a search reads no outline that it does not answer with.
CREATE INDEX IF NOT EXISTS annotation_search ON annotation (dataset_id, id, shape, tags);
CREATE TABLE IF NOT EXISTS connection (
    id INTEGER PRIMARY KEY AUTOINCREMENT, dataset_id TEXT NOT NULL, parent_id INTEGER NOT NULL,
    child_id INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS connection_search ON connection (dataset_id, id);
CREATE TABLE IF NOT EXISTS property (
    id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS property_value (
    dataset_id TEXT NOT NULL, annotation_id TEXT NOT NULL, property_id TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (dataset_id, annotation_id, property_id)) WITHOUT ROWID;
"""

# instr reads a row in an eighth of the time that json_each needs; it lets a few too many through, and never too few.
FILTER = """
    dataset_id = :dataset AND id > :after AND (:shape IS NULL OR shape = :shape)
    AND instr(tags, :first_tag) AND instr(tags, :last_tag)
    AND NOT EXISTS (SELECT 1 FROM json_each(:tags) AS wanted
                    WHERE wanted.value NOT IN (SELECT value FROM json_each(annotation.tags)))
"""


def object_id(number: int) -> str:
    """Return a row's number as 24 hexadecimal digits; ids sort as their numbers do."""
    return f'{number:024x}'


def row_number(object_id: str) -> int:
    """Return the number behind an id of 24 hexadecimal digits."""
    return min(int(object_id, 16), LARGEST_ID)


def filter_values(dataset_id: str, shape: str | None, tags: list[str], after: int) -> dict[str, Any]:
    """What FILTER looks for; a single tag is searched for as the text that `add_annotations` writes for it."""
    texts = [json.dumps(tag) for tag in tags] or ['']  # the empty text is in every other
    return {
        'dataset': dataset_id,
        'after': after,
        'shape': shape,
        'tags': json.dumps(tags),
        'first_tag': texts[0],
        'last_tag': texts[-1],
    }


def add_configuration(database: sqlite3.Connection, dataset_id: str, configuration: Mapping[str, Any]) -> None:
    """Make a configuration and the view that shows a dataset with it."""
    configuration_id, view_id = secrets.token_hex(12), secrets.token_hex(12)
    meta = {'subtype': 'contrastConfiguration', 'layers': configuration['layers'], 'propertyIds': []}
    database.execute(
        'INSERT INTO configuration VALUES (?, ?, ?)', (configuration_id, configuration['name'], json.dumps(meta))
    )
    levels = [(configuration_id, user, level) for user, level in configuration['levels'].items()]
    database.executemany('INSERT INTO configuration_level VALUES (?, ?, ?)', levels)
    contrasts = json.dumps(configuration['layerContrasts'])
    database.execute('INSERT INTO view VALUES (?, ?, ?, ?)', (view_id, dataset_id, configuration_id, contrasts))


class Store:
    """One SQLite file. Its methods may be called from any thread; each is one transaction."""

    def __init__(self, path: Path):
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.row_factory = sqlite3.Row
        self._database.executescript(SCHEMA)
        self._make_users()

    def close(self) -> None:
        """Close the database; the store cannot be used after it."""
        with self._lock:
            self._database.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._database:
            yield self._database

    # Users

    def _make_users(self) -> None:
        """Give every user who has none an id and a token."""
        users = [(name, secrets.token_hex(12), secrets.token_hex(32)) for name in LEVELS]
        with self._transaction() as database:
            database.executemany('INSERT OR IGNORE INTO user VALUES (?, ?, ?)', users)

    def tokens(self) -> dict[str, str]:
        """Return {user name: token}."""
        with self._transaction() as database:
            rows = database.execute('SELECT * FROM user').fetchall()
        return {row['name']: row['token'] for row in rows if row['name'] in LEVELS}

    def user_of_token(self, token: str) -> User | None:
        """Return the user who has a token, or None."""
        row = self._row('SELECT * FROM user WHERE token = ?', token)
        return User(row['id'], row['name'], row['token']) if row else None

    # Datasets and how they are shown

    def add_dataset(self, name: str, configurations: Sequence[Mapping[str, Any]]) -> str:
        """Return the id of the dataset of that name; the first time, make it with its configurations.

        `configurations` are as `annotation_server.layers` reads them. Each makes one configuration and one view.
        """
        with self._transaction() as database:
            row = database.execute('SELECT id FROM dataset WHERE name = ?', (name,)).fetchone()
            if row:
                return row['id']
            dataset_id, item_id = secrets.token_hex(12), secrets.token_hex(12)
            database.execute('INSERT INTO dataset VALUES (?, ?, ?)', (dataset_id, name, item_id))
            for configuration in configurations:
                add_configuration(database, dataset_id, configuration)
            return dataset_id

    def dataset(self, dataset_id: str) -> sqlite3.Row | None:
        """Return id, name and item_id of a dataset, or None."""
        return self._row('SELECT * FROM dataset WHERE id = ?', dataset_id)

    def dataset_of_item(self, item_id: str) -> sqlite3.Row | None:
        """Return id, name and item_id of the dataset that an item belongs to, or None."""
        return self._row('SELECT * FROM dataset WHERE item_id = ?', item_id)

    def views(self, dataset_id: str, user: User) -> list[dict[str, Any]]:
        """Return those of a dataset's views whose configuration a user may read, oldest first."""
        with self._transaction() as database:
            query = 'SELECT * FROM view WHERE dataset_id = ? ORDER BY rowid'
            rows = database.execute(query, (dataset_id,)).fetchall()
        rows = [row for row in rows if self.configuration_level(row['configuration_id'], user) >= READ]
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
        """The configuration of this id, or None."""
        row = self._row('SELECT * FROM configuration WHERE id = ?', configuration_id)
        return {'_id': row['id'], 'name': row['name'], 'meta': json.loads(row['meta'])} if row else None

    def configuration_level(self, configuration_id: str, user: User) -> int:
        """Return what a user may do with a configuration."""
        query = 'SELECT level FROM configuration_level WHERE configuration_id = :id AND user = :user'
        row = self._row(query, {'id': configuration_id, 'user': user.name})
        return row['level'] if row else user.level

    def shown_property_ids(self, user: User) -> set[str]:
        """Return the ids in `meta.propertyIds` of all configurations that a user may read."""
        with self._transaction() as database:
            rows = database.execute('SELECT id, meta FROM configuration').fetchall()
        readable = [row for row in rows if self.configuration_level(row['id'], user) >= READ]
        return {id for row in readable for id in json.loads(row['meta']).get('propertyIds', [])}

    def merge_configuration(self, configuration_id: str, metadata: dict[str, Any]) -> None:
        """Put keys into a configuration's `meta`."""
        with self._transaction() as database:
            row = database.execute('SELECT meta FROM configuration WHERE id = ?', (configuration_id,)).fetchone()
            meta = json.dumps(json.loads(row['meta']) | metadata)
            database.execute('UPDATE configuration SET meta = ? WHERE id = ?', (meta, configuration_id))

    # Worker interfaces

    def set_worker_interface(self, image: str, interface: dict[str, Any]) -> None:
        """Store the form of the worker that an image holds."""
        with self._transaction() as database:
            database.execute('REPLACE INTO worker_interface VALUES (?, ?)', (image, json.dumps(interface)))

    def worker_interface(self, image: str) -> dict[str, Any] | None:
        """The form of the worker that an image holds, or None."""
        row = self._row('SELECT interface FROM worker_interface WHERE image = ?', image)
        return json.loads(row['interface']) if row else None

    # Annotations

    def add_annotations(self, annotations: Sequence[Mapping[str, Any]]) -> list[str]:
        """Save all of the annotations, or none, and return their new ids in the same order."""
        with self._transaction() as database:
            ids = []
            for annotation in annotations:
                body = {key: value for key, value in annotation.items() if key != '_id'}
                values = (
                    annotation['datasetId'],
                    annotation['shape'],
                    json.dumps(annotation['tags']),
                    json.dumps(body, allow_nan=False, separators=(',', ':')),
                )
                cursor = database.execute(
                    'INSERT INTO annotation (dataset_id, shape, tags, body) VALUES (?, ?, ?, ?)', values
                )
                ids.append(object_id(cursor.lastrowid or 0))
            return ids

    def annotations_json(
        self, dataset_id: str, shape: str | None, tags: list[str], limit: int, offset: int, after: int
    ) -> str:
        """Return a page of annotations, oldest first, as the text of a JSON list.

        Parameters
        ----------
        shape : only this shape; None for any.
        tags : only annotations that carry all of these.
        limit : the most to return; 0 for no limit.
        offset : how many to pass over.
        after : only annotations whose row number is larger.
        """
        query = f'SELECT id, body FROM annotation WHERE {FILTER} ORDER BY id LIMIT :limit OFFSET :offset'
        values = {**filter_values(dataset_id, shape, tags, after), 'limit': limit or -1, 'offset': offset}
        with self._transaction() as database:
            rows = database.execute(query, values).fetchall()
        # The bodies are JSON objects already: parsing them only to write them out again would double the time.
        return '[' + ','.join(f'{{"_id":"{object_id(row["id"])}",{row["body"][1:]}' for row in rows) + ']'

    def count_annotations(self, dataset_id: str, shape: str | None, tags: list[str]) -> int:
        """How many annotations of a dataset have this shape and all of these tags."""
        values = filter_values(dataset_id, shape, tags, after=0)
        row = self._row(f'SELECT COUNT(*) AS n FROM annotation WHERE {FILTER}', values)
        return row['n'] if row else 0

    def annotations_by_id(self, annotation_ids: list[str]) -> list[dict[str, Any]]:
        """Return those of the annotations that exist, oldest first."""
        numbers = json.dumps([row_number(annotation_id) for annotation_id in annotation_ids])
        query = 'SELECT id, body FROM annotation WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id'
        with self._transaction() as database:
            rows = database.execute(query, (numbers,)).fetchall()
        return [{'_id': object_id(row['id']), **json.loads(row['body'])} for row in rows]

    # Connections

    def add_connections(self, connections: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Save {datasetId, parentId, childId} records and return them with their ids."""
        with self._transaction() as database:
            saved = []
            for connection in connections:
                cursor = database.execute(
                    'INSERT INTO connection (dataset_id, parent_id, child_id) VALUES (?, ?, ?)',
                    (
                        connection['datasetId'],
                        row_number(connection['parentId']),
                        row_number(connection['childId']),
                    ),
                )
                saved.append({'_id': object_id(cursor.lastrowid or 0), **connection})
            return saved

    def connections(self, dataset_id: str) -> list[dict[str, Any]]:
        """A dataset's connections, oldest first."""
        with self._transaction() as database:
            query = 'SELECT * FROM connection WHERE dataset_id = ? ORDER BY id'
            rows = database.execute(query, (dataset_id,)).fetchall()
        return [
            {
                '_id': object_id(row['id']),
                'datasetId': row['dataset_id'],
                'parentId': object_id(row['parent_id']),
                'childId': object_id(row['child_id']),
            }
            for row in rows
        ]

    # Properties and their values

    def add_property(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Save a property and return it with its new id."""
        created = {**body, '_id': secrets.token_hex(12)}
        with self._transaction() as database:
            database.execute('INSERT INTO property VALUES (?, ?)', (created['_id'], json.dumps(created)))
        return created

    def properties(self) -> list[dict[str, Any]]:
        """Return all properties, oldest first."""
        with self._transaction() as database:
            rows = database.execute('SELECT body FROM property ORDER BY rowid').fetchall()
        return [json.loads(row['body']) for row in rows]

    def add_property_values(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Save {datasetId, annotationId, values: {property id: {key: number}}} records, all or none.

        Where an annotation has something of a property, that stays and what is handed over is passed over.
        """
        rows = [
            (entry['datasetId'], entry['annotationId'], property_id, json.dumps(value, allow_nan=False))
            for entry in entries
            for property_id, value in entry['values'].items()
        ]
        with self._transaction() as database:
            database.executemany('INSERT INTO property_value VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING', rows)

    def property_values(self, dataset_id: str, limit: int, offset: int) -> list[dict[str, Any]]:
        """A page of a dataset's values as records of that form, one an annotation, by the annotations' age.

        `limit` is the most to return, 0 for no limit; `offset` is how many to pass over.
        """
        query = """SELECT annotation_id, json_group_object(property_id, json(value)) AS found FROM property_value
            WHERE dataset_id = ? GROUP BY annotation_id ORDER BY annotation_id LIMIT ? OFFSET ?"""
        with self._transaction() as database:
            rows = database.execute(query, (dataset_id, limit or -1, offset)).fetchall()
        return [
            {'datasetId': dataset_id, 'annotationId': row['annotation_id'], 'values': json.loads(row['found'])}
            for row in rows
        ]

    def _row(self, query: str, values: str | dict[str, Any]) -> sqlite3.Row | None:
        with self._transaction() as database:
            return database.execute(query, values if isinstance(values, dict) else (values,)).fetchone()
