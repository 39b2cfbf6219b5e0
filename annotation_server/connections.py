"""Routes to the connections between annotations."""

import json
from collections import defaultdict
from collections.abc import Iterator
from math import dist
from statistics import fmean
from typing import Any

from fastapi import APIRouter

from annotation_server.access import Asker, CurrentStore, LoggedIn, require_dataset
from annotation_server.refusals import INTERNAL, Body, RefusalError, parse_object, require_object_id

router = APIRouter()


@router.post('/annotation_connection/connectTo/')
def connect_to_nearest(store: CurrentStore, user: LoggedIn, body: Body) -> list[dict[str, Any]]:
    """Connect each annotation to the nearest other one at its location.

    The body gives the tags and the channel of the other one.
    """
    wanted = parse_object(body)
    ids, tags = wanted.get('annotationsIds'), wanted.get('tags')
    if 'channelId' not in wanted or not isinstance(ids, list) or not isinstance(tags, list):
        raise RefusalError(500, INTERNAL, 'internal')
    for annotation_id in ids:
        require_object_id(annotation_id)
    children = store.annotations_by_id(ids)
    connections = []
    for dataset_id in sorted({child['datasetId'] for child in children}):
        page = store.annotations_json(dataset_id, shape=None, tags=tags, limit=0, offset=0, after=0)
        parents = json.loads(page)
        if wanted['channelId'] is not None:
            parents = [parent for parent in parents if parent['channel'] == wanted['channelId']]
        same = [child for child in children if child['datasetId'] == dataset_id]
        for parent_id, child_id in nearest_pairs(parents, same):
            connections.append(
                {'datasetId': dataset_id, 'parentId': parent_id, 'childId': child_id}
            )
    return store.add_connections(connections)


@router.get('/annotation_connection')
@router.get('/annotation_connection/')
def list_connections(datasetId: str, store: CurrentStore, user: Asker) -> list[dict[str, Any]]:
    """Return all connections of a dataset."""
    require_dataset(store, user, datasetId)
    return store.connections(datasetId)


def nearest_pairs(
    parents: list[dict[str, Any]], children: list[dict[str, Any]]
) -> Iterator[tuple[str, str]]:
    """Find the parent with the nearest centre for each child.

    A child without another annotation at its location is skipped.

    Yields
    ------
    parent_id, child_id : str
    """
    places = defaultdict(list)
    for parent in parents:
        places[place(parent)].append((centre(parent), parent['_id']))
    for child in children:
        middle = centre(child)
        others = [
            (dist(middle, point), id) for point, id in places[place(child)] if id != child['_id']
        ]
        if others:
            yield min(others)[1], child['_id']


def centre(annotation: dict[str, Any]) -> tuple[float, float]:
    """Return the mean (x, y) of an annotation's vertices."""
    points = annotation['coordinates']
    return fmean(point['x'] for point in points), fmean(point['y'] for point in points)


def place(annotation: dict[str, Any]) -> tuple[int, int, int | None]:
    """Return the location of an annotation: XY, Z, Time."""
    location = annotation['location']
    return location['XY'], location['Z'], location.get('Time')
