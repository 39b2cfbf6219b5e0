"""Routes to the views of a dataset and their configurations."""

from typing import Any

from fastapi import APIRouter

from annotation_server.access import Asker, CurrentStore, LoggedIn, require_read, require_write
from annotation_server.refusals import Body, parse_object, require_found, require_object_id

router = APIRouter()


@router.get('/dataset_view')
def list_views(datasetId: str, store: CurrentStore, user: Asker) -> list[dict[str, Any]]:
    """Return the views of a dataset that the user may see."""
    require_object_id(datasetId)
    return store.views(datasetId, user)


@router.get('/upenn_collection/{configurationId}')
def get_configuration(configurationId: str, store: CurrentStore, user: Asker) -> dict[str, Any]:
    """Return a configuration, with its layers in `meta`."""
    configuration = require_found(
        store.configuration(configurationId), 'upenn_collection', configurationId
    )
    level = store.configuration_level(configurationId, user)
    require_read(user, level, 'upenn_collection', configurationId)
    return {**configuration, '_accessLevel': level}


@router.put('/upenn_collection/{configurationId}/metadata')
def merge_metadata(
    configurationId: str, store: CurrentStore, user: LoggedIn, body: Body
) -> dict[str, Any]:
    """Put the keys of the body into `meta`. They replace keys of the same name."""
    require_found(store.configuration(configurationId), 'upenn_collection', configurationId)
    level = store.configuration_level(configurationId, user)
    require_write(user, level, 'upenn_collection', configurationId)
    store.merge_configuration(configurationId, parse_object(body))
    return get_configuration(configurationId, store, user)
