"""Routes to the properties of annotations, and to their values."""

import json
from typing import Annotated, Any, NotRequired

from fastapi import APIRouter, Depends, Response
from pydantic import Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic takes typing's own only from Python 3.12 on

from annotation_server.access import (
    Asker,
    CurrentStore,
    LoggedIn,
    require_dataset,
    require_login,
    require_writable,
)
from annotation_server.refusals import (
    STRICT,
    Body,
    Limit,
    Natural,
    ObjectId,
    RefusalError,
    explain_invalid,
    parse_object,
)
from annotation_server.users import NOBODY

router = APIRouter()

MAX_ENTRIES_PER_CALL = 10_000


@with_config(STRICT)
class PropertyTags(TypedDict):
    """The tags of the annotations that have a property."""

    tags: list[str]
    exclusive: bool


@with_config(STRICT)
class Property(TypedDict):
    """A property as clients send it."""

    name: str
    shape: NotRequired[str]
    image: str
    tags: PropertyTags
    workerInterface: dict[str, Any]


Number = Annotated[float, Field(allow_inf_nan=False)]
Value = Number | str | None | dict[str, Number | str | None]


@with_config(STRICT)
class PropertyValues(TypedDict):
    """Values of one annotation, by the ids of their properties."""

    datasetId: str
    annotationId: ObjectId
    values: dict[str, Value]


PROPERTY = TypeAdapter(Property)
ALL_VALUES = TypeAdapter(list[PropertyValues])


@router.post('/annotation_property', dependencies=[Depends(require_login)])
def create_property(store: CurrentStore, body: Body) -> dict[str, Any]:
    """Save a property, even if its name exists. Return it with its `_id`."""
    try:
        created = PROPERTY.validate_python(parse_object(body))
    except ValidationError as error:
        raise explain_invalid('annotation property', error) from None
    return store.add_property(dict(created))


@router.get('/annotation_property')
def list_properties(
    store: CurrentStore, user: Asker, limit: Limit = 50, offset: Natural = 0
) -> list[dict[str, Any]]:
    """Return a page of properties, oldest first.

    A property is listed if a configuration that the user may read names it. A `limit` of 0 means
    no limit.
    """
    shown = store.shown_property_ids(user)
    found = [one for one in store.properties() if one['_id'] in shown]
    return found[offset : offset + limit if limit else None]


@router.get('/annotation_property/{propertyId}')
def get_property(propertyId: str, store: CurrentStore, user: Asker) -> dict[str, Any]:
    """Return a property. Refuse if no configuration that the user may read names it."""
    found = store.property(propertyId)
    if found is None:
        raise RefusalError(400, f'No such annotation_property: {propertyId}', 'validation')
    if propertyId not in store.shown_property_ids(user):
        status = 401 if user is NOBODY else 403
        raise RefusalError(status, f'Read access denied for property {propertyId}', 'access')
    return found


@router.post('/annotation_property_values/multiple')
def add_property_values(store: CurrentStore, user: LoggedIn, body: Body) -> Response:
    """Save all values or none. Existing values stay unchanged.

    The answer has one entry per entry of the body, with all values that the annotation has now.
    """
    try:
        entries = ALL_VALUES.validate_json(body)
    except ValidationError as error:
        raise explain_invalid('annotation property values', error) from None
    if len(entries) > MAX_ENTRIES_PER_CALL:
        message = (
            f'At most {MAX_ENTRIES_PER_CALL} annotation property values may be sent in a call, '
            f'not {len(entries)}'
        )
        raise RefusalError(400, message, 'validation')
    require_writable(store, user, {entry['datasetId'] for entry in entries})
    store.add_property_values(entries)
    saved = store.values_of_annotations([entry['annotationId'] for entry in entries])
    # An annotation without values has no record.
    answer = [saved.get((entry['datasetId'], entry['annotationId']), entry) for entry in entries]
    return Response(json.dumps(answer), media_type='application/json')


@router.get('/annotation_property_values')
def list_property_values(
    datasetId: str, store: CurrentStore, user: Asker, limit: Limit = 50, offset: Natural = 0
) -> Response:
    """Return a page of a dataset's values, in the form in which clients send them."""
    require_dataset(store, user, datasetId)
    return Response(
        json.dumps(store.property_values(datasetId, limit, offset)), media_type='application/json'
    )
