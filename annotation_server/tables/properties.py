"""Properties and their values; the interfaces of workers."""

import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from annotation_server.tables.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS property (
    id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS property_value (
    dataset_id TEXT NOT NULL, annotation_id TEXT NOT NULL, property_id TEXT NOT NULL,
    value TEXT NOT NULL, PRIMARY KEY (dataset_id, annotation_id, property_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS value_of_annotation ON property_value (annotation_id);
CREATE TABLE IF NOT EXISTS worker_interface (
    image TEXT PRIMARY KEY, interface TEXT NOT NULL);
"""
RECORD_COLUMNS = (
    'dataset_id, annotation_id, json_group_object(property_id, json(value)) AS found_values'
)


def as_record(row: sqlite3.Row) -> dict[str, Any]:
    """Return the values of one annotation in the form in which clients send them."""
    return {
        'datasetId': row['dataset_id'],
        'annotationId': row['annotation_id'],
        'values': json.loads(row['found_values']),
    }


class PropertyTables(Database):
    """Properties, their values for annotations, and workers' interfaces."""

    def add_property(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Save a property and return it with its new id."""
        created = {**body, '_id': secrets.token_hex(12)}
        with self._transaction() as database:
            database.execute(
                'INSERT INTO property VALUES (?, ?)', (created['_id'], json.dumps(created))
            )
        return created

    def properties(self) -> list[dict[str, Any]]:
        """Return all properties, oldest first."""
        rows = self._rows('SELECT body FROM property ORDER BY rowid')
        return [json.loads(row['body']) for row in rows]

    def property(self, property_id: str) -> dict[str, Any] | None:
        """Return the property of this id, or None."""
        row = self._row('SELECT body FROM property WHERE id = ?', [property_id])
        return json.loads(row['body']) if row else None

    def add_property_values(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Save {datasetId, annotationId, values: {property id: value}} records, all or none.

        Existing values stay unchanged.
        """
        rows = [
            (
                entry['datasetId'],
                entry['annotationId'],
                property_id,
                json.dumps(value, allow_nan=False),
            )
            for entry in entries
            for property_id, value in entry['values'].items()
        ]
        with self._transaction() as database:
            database.executemany(
                'INSERT INTO property_value VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING', rows
            )

    def property_values(
        self, dataset_id: str, limit: int = 0, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return a page of a dataset's values, one record per annotation, oldest annotation first.

        A `limit` of 0 means no limit.
        """
        query = f"""SELECT {RECORD_COLUMNS} FROM property_value WHERE dataset_id = ?
            GROUP BY annotation_id ORDER BY annotation_id LIMIT ? OFFSET ?"""
        return [as_record(row) for row in self._rows(query, [dataset_id, limit or -1, offset])]

    def values_of_annotations(
        self, annotation_ids: Sequence[str]
    ) -> dict[tuple[str, str], dict[str, Any]]:
        """Return {(dataset id, annotation id): record} for the annotations that have values."""
        query = f"""SELECT {RECORD_COLUMNS} FROM property_value
            WHERE annotation_id IN (SELECT value FROM json_each(?))
            GROUP BY dataset_id, annotation_id"""
        records = [as_record(row) for row in self._rows(query, [json.dumps(annotation_ids)])]
        return {(record['datasetId'], record['annotationId']): record for record in records}

    def set_worker_interface(self, image: str, interface: dict[str, Any]) -> None:
        """Store the form of the worker in an image."""
        with self._transaction() as database:
            database.execute(
                'REPLACE INTO worker_interface VALUES (?, ?)', (image, json.dumps(interface))
            )

    def worker_interface(self, image: str) -> dict[str, Any] | None:
        """Return the form of the worker in an image, or None."""
        row = self._row('SELECT interface FROM worker_interface WHERE image = ?', [image])
        return json.loads(row['interface']) if row else None
