"""Annotations, and the connections between them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from annotation_server.tables.database import Database, object_id, row_number

SCHEMA = """
CREATE TABLE IF NOT EXISTS annotation (
    id INTEGER PRIMARY KEY AUTOINCREMENT, dataset_id TEXT NOT NULL, shape TEXT NOT NULL,
    tags TEXT NOT NULL, body TEXT NOT NULL);
-- Every column that FILTER uses, so that a search reads only the outlines that it returns.
CREATE INDEX IF NOT EXISTS annotation_search ON annotation (dataset_id, id, shape, tags);
CREATE TABLE IF NOT EXISTS connection (
    id INTEGER PRIMARY KEY AUTOINCREMENT, dataset_id TEXT NOT NULL, parent_id INTEGER NOT NULL,
    child_id INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS connection_search ON connection (dataset_id, id);
"""

# instr takes an eighth of the time of json_each. It may let a wrong row pass, but it never drops a
# right one. json_each then removes the wrong rows.
FILTER = """
    dataset_id = :dataset AND id > :after AND (:shape IS NULL OR shape = :shape)
    AND instr(tags, :first_tag) AND instr(tags, :last_tag)
    AND NOT EXISTS (SELECT 1 FROM json_each(:tags) AS wanted
                    WHERE wanted.value NOT IN (SELECT value FROM json_each(annotation.tags)))
"""


def filter_values(
    dataset_id: str, shape: str | None, tags: list[str], after: int
) -> dict[str, Any]:
    """Return the values for FILTER. Tags have the same text there as in the column `tags`."""
    texts = [json.dumps(tag) for tag in tags] or ['']  # every text contains the empty text
    return {
        'dataset': dataset_id,
        'after': after,
        'shape': shape,
        'tags': json.dumps(tags),
        'first_tag': texts[0],
        'last_tag': texts[-1],
    }


def columns(annotation: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return dataset_id, shape, tags and body of an annotation's row. The body has no `_id`."""
    body = {key: value for key, value in annotation.items() if key != '_id'}
    text = json.dumps(body, allow_nan=False, separators=(',', ':'))
    return annotation['datasetId'], annotation['shape'], json.dumps(annotation['tags']), text


class AnnotationTables(Database):
    """Annotations and connections. An id is the number of the row, so ids sort by age."""

    def add_annotations(self, annotations: Sequence[Mapping[str, Any]]) -> list[str]:
        """Save all annotations or none. Return their new ids in the same order."""
        with self._transaction() as database:
            ids = []
            for annotation in annotations:
                cursor = database.execute(
                    'INSERT INTO annotation (dataset_id, shape, tags, body) VALUES (?, ?, ?, ?)',
                    columns(annotation),
                )
                ids.append(object_id(cursor.lastrowid or 0))
            return ids

    def replace_annotations(self, annotations: Sequence[Mapping[str, Any]]) -> None:
        """Replace all annotations with these `_id`s, or none."""
        rows = [(*columns(annotation), row_number(annotation['_id'])) for annotation in annotations]
        with self._transaction() as database:
            database.executemany(
                'UPDATE annotation SET dataset_id = ?, shape = ?, tags = ?, body = ? WHERE id = ?',
                rows,
            )

    def remove_annotations(self, annotation_ids: Sequence[str]) -> None:
        """Remove annotations. Ignore ids that do not exist."""
        rows = [(row_number(annotation_id),) for annotation_id in annotation_ids]
        with self._transaction() as database:
            database.executemany('DELETE FROM annotation WHERE id = ?', rows)

    def annotations_json(
        self,
        dataset_id: str,
        shape: str | None,
        tags: list[str],
        limit: int,
        offset: int,
        after: int,
        newest_first: bool = False,
    ) -> str:
        """Return a page of annotations as the text of a JSON list.

        Parameters
        ----------
        dataset_id : str
        shape : str or None
            Only annotations of this shape. None means any shape.
        tags : list of str
            Only annotations with all of these tags.
        limit : int
            Maximum number of annotations. 0 means no limit.
        offset : int
            Number of annotations to skip.
        after : int
            Only annotations with a larger row number.
        newest_first : bool
            By default the oldest come first.
        """
        order = 'id DESC' if newest_first else 'id'
        query = f"""SELECT id, body FROM annotation WHERE {FILTER}
            ORDER BY {order} LIMIT :limit OFFSET :offset"""
        values = {
            **filter_values(dataset_id, shape, tags, after),
            'limit': limit or -1,
            'offset': offset,
        }
        rows = self._rows(query, values)
        # The bodies are JSON texts already. Parsing and writing them would take twice as long.
        return (
            '['
            + ','.join(f'{{"_id":"{object_id(row["id"])}",{row["body"][1:]}' for row in rows)
            + ']'
        )

    def count_annotations(self, dataset_id: str, shape: str | None, tags: list[str]) -> int:
        """Count the annotations of a dataset with this shape and all of these tags."""
        values = filter_values(dataset_id, shape, tags, after=0)
        row = self._row(f'SELECT COUNT(*) AS n FROM annotation WHERE {FILTER}', values)
        return row['n'] if row else 0

    def annotations_by_id(self, annotation_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return annotations, oldest first. Ignore ids that do not exist."""
        numbers = json.dumps([row_number(annotation_id) for annotation_id in annotation_ids])
        query = """SELECT id, body FROM annotation
            WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"""
        rows = self._rows(query, [numbers])
        return [{'_id': object_id(row['id']), **json.loads(row['body'])} for row in rows]

    def annotations_at(self, dataset_id: str, location: Mapping[str, int]) -> list[dict[str, Any]]:
        """Return the polygons of a dataset at one location, oldest first.

        Parameters
        ----------
        dataset_id : str
        location : dict
            XY, Z and Time, counted from 0. Only the keys that are given are compared.
        """
        query = """SELECT id, body FROM annotation
            WHERE dataset_id = :dataset AND shape = 'polygon' AND NOT EXISTS (
                SELECT 1 FROM json_each(:location) AS wanted
                WHERE IFNULL(json_extract(body, '$.location.' || wanted.key), 0) <> wanted.value)
            ORDER BY id"""
        rows = self._rows(query, {'dataset': dataset_id, 'location': json.dumps(location)})
        return [{'_id': object_id(row['id']), **json.loads(row['body'])} for row in rows]

    def restore_annotations(self, annotations: Sequence[Mapping[str, Any]]) -> None:
        """Save removed annotations again, under the `_id`s that they had."""
        rows = [(row_number(annotation['_id']), *columns(annotation)) for annotation in annotations]
        with self._transaction() as database:
            database.executemany(
                'INSERT OR IGNORE INTO annotation (id, dataset_id, shape, tags, body) '
                'VALUES (?, ?, ?, ?, ?)',
                rows,
            )

    def count_tags(self, dataset_id: str) -> dict[str, int]:
        """Return {tag: number of polygons} of a dataset, sorted by tag."""
        query = """SELECT value AS tag, COUNT(*) AS n FROM annotation, json_each(annotation.tags)
            WHERE dataset_id = ? AND shape = 'polygon' GROUP BY value ORDER BY value"""
        return {row['tag']: row['n'] for row in self._rows(query, [dataset_id])}

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
        """Return a dataset's connections, oldest first."""
        rows = self._rows('SELECT * FROM connection WHERE dataset_id = ? ORDER BY id', [dataset_id])
        return [
            {
                '_id': object_id(row['id']),
                'datasetId': row['dataset_id'],
                'parentId': object_id(row['parent_id']),
                'childId': object_id(row['child_id']),
            }
            for row in rows
        ]
