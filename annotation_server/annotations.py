"""Routes to annotations."""

import json
from typing import Annotated, Any, Literal, NotRequired, TypeVar

from fastapi import APIRouter, Depends, Response
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic takes typing's own only from Python 3.12 on

from annotation_server.access import (
    Asker,
    CurrentStore,
    LoggedIn,
    require_dataset,
    require_read,
    require_writable,
)
from annotation_server.refusals import (
    INTERNAL,
    STRICT,
    Body,
    Limit,
    Natural,
    ObjectId,
    RefusalError,
    explain_invalid,
    is_object_id,
    parse_object,
    require_found,
    require_object_id,
)
from annotation_server.store import Store
from annotation_server.tables.database import row_number
from annotation_server.users import User

Parsed = TypeVar('Parsed')

router = APIRouter()


@with_config(STRICT)
class Point(TypedDict):
    """A vertex, in pixels."""

    x: float
    y: float


@with_config(STRICT)
class Location(TypedDict):
    """A position in the dataset, counted from 0."""

    XY: int
    Z: int
    Time: NotRequired[int]


@with_config(STRICT)
class Annotation(TypedDict):
    """An annotation as clients send it."""

    coordinates: Annotated[list[Point], Field(min_length=1)]
    tags: list[str]
    channel: int
    location: Location
    shape: Literal['point', 'line', 'polygon', 'rectangle']
    datasetId: str
    name: NotRequired[str]
    color: NotRequired[str | None]


ANNOTATION = TypeAdapter(Annotation)
ANNOTATIONS = TypeAdapter(list[Annotation])
UPDATES = TypeAdapter(list[dict[str, Any]])
IDS = TypeAdapter(list[ObjectId])
TAGS = TypeAdapter(list[str], config=ConfigDict(strict=True))


def parse_tags(tags: str | None = None) -> list[str]:
    """Return the tags of a query, a JSON array of strings. [] if the parameter is absent."""
    try:
        return TAGS.validate_json(tags) if tags is not None else []
    except ValidationError as error:
        is_json = error.errors()[0]['type'] != 'json_invalid'
        needed = 'a JSON array of strings' if is_json else 'valid JSON'
        raise RefusalError(400, f'Parameter tags must be {needed}.') from None


Tags = Annotated[list[str], Depends(parse_tags)]


@router.get('/upenn_annotation')
def list_annotations(
    datasetId: str,
    store: CurrentStore,
    user: Asker,
    tags: Tags,
    shape: str | None = None,
    limit: Limit = 50,
    offset: Natural = 0,
    sort: str = '_id',
    sortdir: Literal['1', '-1'] = '1',
    afterId: str | None = None,
) -> Response:
    """Return a page of annotations, oldest first unless `sortdir` is -1.

    With `afterId`, the page begins after the annotation of that id, and `offset` is ignored.
    """
    require_dataset(store, user, datasetId)
    if sort != '_id':
        raise RefusalError(
            400, f'Parameter sort must be "_id". Seen: "{sort}". No other order is supported.'
        )
    after = 0
    if afterId is not None:
        require_object_id(afterId)
        after, offset = row_number(afterId), 0
    page = store.annotations_json(datasetId, shape, tags, limit, offset, after, sortdir == '-1')
    return Response(page, media_type='application/json')


@router.get('/upenn_annotation/count')
def count_annotations(
    datasetId: str, store: CurrentStore, user: Asker, tags: Tags, shape: str | None = None
) -> dict[str, int]:
    """Return the number of annotations that match, as {'count': number}."""
    require_dataset(store, user, datasetId)
    return {'count': store.count_annotations(datasetId, shape, tags)}


@router.post('/upenn_annotation')
@router.post('/upenn_annotation/')
def create_annotation(store: CurrentStore, user: LoggedIn, body: Body) -> Response:
    """Save one annotation and return it with its `_id`."""
    return answer_json(save(store, user, [parse(ANNOTATION, body)])[0])


@router.post('/upenn_annotation/multiple')
def create_annotations(store: CurrentStore, user: LoggedIn, body: Body) -> Response:
    """Save all annotations or none. Return them in the same order, with their `_id`s."""
    return answer_json(save(store, user, parse(ANNOTATIONS, body)))


@router.get('/upenn_annotation/{annotationId}')
def get_annotation(annotationId: str, store: CurrentStore, user: Asker) -> Response:
    """Return one annotation."""
    annotation = find_annotation(store, annotationId)
    require_read(user, user.level, 'folder', annotation['datasetId'])
    return answer_json(annotation)


# These two routes come before the routes to one annotation. Else "multiple" would be an id.
@router.put('/upenn_annotation/multiple')
def update_annotations(store: CurrentStore, user: LoggedIn, body: Body) -> None:
    """Change all annotations of a list or none. An entry has `_id` or `id`, and new values."""
    updates = parse(UPDATES, body)
    for update in updates:
        update['_id'] = update.pop('id', None) or update.get('_id')
    change(store, user, updates)


@router.delete('/upenn_annotation/multiple')
def remove_annotations(store: CurrentStore, user: LoggedIn, body: Body) -> None:
    """Remove the annotations of a list of ids. Ignore ids that do not exist."""
    ids = parse(IDS, body)
    require_writable(
        store, user, {annotation['datasetId'] for annotation in store.annotations_by_id(ids)}
    )
    store.remove_annotations(ids)


@router.put('/upenn_annotation/{annotationId}')
def update_annotation(annotationId: str, store: CurrentStore, user: LoggedIn, body: Body) -> None:
    """Replace the keys of one annotation that are in the body."""
    change(store, user, [{**parse_object(body), '_id': annotationId}])


@router.delete('/upenn_annotation/{annotationId}')
def remove_annotation(annotationId: str, store: CurrentStore, user: LoggedIn) -> None:
    """Remove one annotation."""
    require_writable(store, user, {find_annotation(store, annotationId)['datasetId']})
    store.remove_annotations([annotationId])


def save(store: Store, user: User, annotations: list[Annotation]) -> list[dict[str, Any]]:
    """Save annotations and return them with their ids. Refuse if the user may not add them."""
    require_writable(store, user, {annotation['datasetId'] for annotation in annotations})
    ids = store.add_annotations(annotations)
    return [{**annotation, '_id': id} for id, annotation in zip(ids, annotations, strict=True)]


def change(store: Store, user: User, updates: list[dict[str, Any]]) -> None:
    """Replace keys of annotations. Each update has an `_id`. Refuse if the user may not."""
    old = [find_annotation(store, update['_id']) for update in updates]
    new = [{**annotation, **update} for annotation, update in zip(old, updates, strict=True)]
    try:
        for annotation in new:
            ANNOTATION.validate_python(annotation)
    except ValidationError as error:
        raise explain_invalid('annotation', error) from None
    require_writable(store, user, {annotation['datasetId'] for annotation in (*old, *new)})
    store.replace_annotations(new)


def find_annotation(store: Store, annotation_id: str) -> dict[str, Any]:
    """Return the annotation with an id. Refuse if it does not exist."""
    known = store.annotations_by_id([annotation_id]) if is_object_id(annotation_id) else []
    return require_found(known[0] if known else None, 'upenn_annotation', annotation_id)


def parse(adapter: TypeAdapter[Parsed], body: bytes) -> Parsed:
    """Return the content of a body, or refuse it. JSON that is not a list is refused with 500."""
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        if first['type'] == 'list_type' and not first['loc']:
            raise RefusalError(500, INTERNAL, 'internal') from None
        raise explain_invalid('annotation', error) from None


def answer_json(value: Any) -> Response:
    """Return a value as an answer that FastAPI does not validate again."""
    return Response(json.dumps(value), media_type='application/json')
