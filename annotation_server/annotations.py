"""Routes to annotations and to the connections between them."""

import json
from collections import defaultdict
from collections.abc import Iterator
from math import dist
from statistics import fmean
from typing import Annotated, Any, NotRequired

from fastapi import APIRouter, Depends, Response
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic takes typing's own only from Python 3.12 on

from annotation_server.access import Asker, CurrentStore, LoggedIn, require_dataset, require_writable
from annotation_server.refusals import (
    STRICT,
    Body,
    Natural,
    RefusalError,
    explain_invalid,
    parse_object,
    require_object_id,
)
from annotation_server.store import row_number

router = APIRouter()


@with_config(STRICT)
class Point(TypedDict):
    x: float
    y: float


@with_config(STRICT)
class Location(TypedDict):
    XY: int
    Z: int
    Time: int


@with_config(STRICT)
class Annotation(TypedDict):
    coordinates: Annotated[list[Point], Field(min_length=1)]
    tags: list[str]
    channel: int
    location: Location
    shape: str
    datasetId: str
    name: NotRequired[str]
    color: NotRequired[str | None]


ANNOTATIONS = TypeAdapter(list[Annotation])
TAGS = TypeAdapter(list[str], config=ConfigDict(strict=True))


def parse_tags(tags: str | None = None) -> list[str]:
    """The tags of a query: a JSON array of strings, [] where the parameter is absent."""
    try:
        return TAGS.validate_json(tags) if tags is not None else []
    except ValidationError:
        raise RefusalError(400, f'Parameter tags must be a JSON array of strings, not {tags}') from None


Tags = Annotated[list[str], Depends(parse_tags)]


@router.get('/upenn_annotation')
def list_annotations(
    datasetId: str,
    store: CurrentStore,
    user: Asker,
    tags: Tags,
    shape: str | None = None,
    limit: Natural = 50,
    offset: Natural = 0,
    sort: str = '_id',
    afterId: str | None = None,
) -> Response:
    """A page of annotations, oldest first. `afterId` is an exclusive cursor, and with it `offset` is not looked at."""
    require_dataset(store, user, datasetId)
    if sort != '_id':
        raise RefusalError(400, f'Parameter sort must be "_id", not "{sort}": this server knows no other order.')
    after = 0
    if afterId is not None:
        require_object_id(afterId)
        after, offset = row_number(afterId), 0
    page = store.annotations_json(datasetId, shape, tags, limit, offset, after)
    return Response(page, media_type='application/json')


@router.get('/upenn_annotation/count')
def count_annotations(
    datasetId: str, store: CurrentStore, user: Asker, tags: Tags, shape: str | None = None
) -> dict[str, int]:
    """Return {'count': how many annotations the same filters let through}."""
    require_dataset(store, user, datasetId)
    return {'count': store.count_annotations(datasetId, shape, tags)}


@router.post('/upenn_annotation/multiple')
def create_annotations(store: CurrentStore, user: LoggedIn, body: Body) -> Response:
    """Save all of the annotations or none; the answer has them in the order sent, with their `_id`s."""
    try:
        annotations = ANNOTATIONS.validate_json(body)
    except ValidationError as error:
        raise explain_invalid('annotation', error) from None
    require_writable(store, user, {annotation['datasetId'] for annotation in annotations})
    ids = store.add_annotations(annotations)
    created = [{**annotation, '_id': id} for id, annotation in zip(ids, annotations, strict=True)]
    return Response(json.dumps(created), media_type='application/json')


@router.post('/annotation_connection/connectTo/')
def connect_to_nearest(store: CurrentStore, user: LoggedIn, body: Body) -> list[dict[str, Any]]:
    """Connect each of the annotations to the nearest other one of its location that has the tags and the channel."""
    wanted = parse_object(body)
    ids, tags = wanted.get('annotationsIds'), wanted.get('tags')
    if 'channelId' not in wanted or not isinstance(ids, list) or not isinstance(tags, list):
        raise RefusalError(500, 'An unexpected error occurred on the server.', 'internal')
    for annotation_id in ids:
        require_object_id(annotation_id)
    children = store.annotations_by_id(ids)
    connections = []
    for dataset_id in sorted({child['datasetId'] for child in children}):
        parents = json.loads(store.annotations_json(dataset_id, shape=None, tags=tags, limit=0, offset=0, after=0))
        if wanted['channelId'] is not None:
            parents = [parent for parent in parents if parent['channel'] == wanted['channelId']]
        same = [child for child in children if child['datasetId'] == dataset_id]
        for parent_id, child_id in nearest_pairs(parents, same):
            connections.append({'datasetId': dataset_id, 'parentId': parent_id, 'childId': child_id})
    return store.add_connections(connections)


@router.get('/annotation_connection')
def list_connections(datasetId: str, store: CurrentStore, user: Asker) -> list[dict[str, Any]]:
    """All of a dataset's connections."""
    require_dataset(store, user, datasetId)
    return store.connections(datasetId)


def nearest_pairs(parents: list[dict[str, Any]], children: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield (parent id, child id) for the parent whose centre is nearest; nothing for a child alone in its place."""
    places = defaultdict(list)
    for parent in parents:
        places[place(parent)].append((centre(parent), parent['_id']))
    for child in children:
        middle = centre(child)
        others = [(dist(middle, point), id) for point, id in places[place(child)] if id != child['_id']]
        if others:
            yield min(others)[1], child['_id']


def centre(annotation: dict[str, Any]) -> tuple[float, float]:
    """Return the mean (x, y) of an annotation's vertices."""
    points = annotation['coordinates']
    return fmean(point['x'] for point in points), fmean(point['y'] for point in points)


def place(annotation: dict[str, Any]) -> tuple[int, int, int]:
    """Where an annotation lies: XY, Z, Time."""
    location = annotation['location']
    return location['XY'], location['Z'], location['Time']
