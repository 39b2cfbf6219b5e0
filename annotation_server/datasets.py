"""Routes to a dataset: its folder, its item, its pixels and how it is shown; and the interfaces of workers."""

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from large_image.exceptions import TileGeneralError
from pydantic import FiniteFloat

from annotation_server.access import (
    Asker,
    CurrentStore,
    LoggedIn,
    require_dataset,
    require_login,
    require_read,
    require_write,
)
from annotation_server.images import read_metadata, read_region
from annotation_server.refusals import (
    Body,
    RefusalError,
    parse_object,
    require_found,
    require_object_id,
    require_property_right,
)

router = APIRouter()

Edge = Annotated[FiniteFloat | None, Query()]
Side = Annotated[int | None, Query(gt=0)]


@router.get('/folder/{folderId}')
def get_folder(folderId: str, store: CurrentStore, user: Asker) -> dict[str, Any]:
    """The dataset itself: its name, and which item it shows."""
    dataset = require_found(store.dataset(folderId), 'folder', folderId)
    require_read(user, user.level, 'folder', folderId)
    return {
        '_accessLevel': user.level,
        '_id': dataset['id'],
        '_modelType': 'folder',
        'name': dataset['name'],
        'meta': {'subtype': 'contrastDataset', 'selectedLargeImageId': dataset['item_id']},
    }


@router.get('/item')
def list_items(folderId: str, store: CurrentStore, user: Asker) -> list[dict[str, Any]]:
    """Every dataset has exactly one item, so that `limit` and `offset` change nothing and are not looked at."""
    dataset = require_dataset(store, user, folderId)
    return [
        {
            '_id': dataset['item_id'],
            '_modelType': 'item',
            'folderId': dataset['id'],
            'name': dataset['name'],
            'largeImage': {'fileId': dataset['item_id']},
            'meta': {},
        }
    ]


def find_image(itemId: str, request: Request, store: CurrentStore, user: Asker) -> Path:
    """Return the path of the image that an item holds."""
    dataset = require_found(store.dataset_of_item(itemId), 'item', itemId)
    require_read(user, user.level, 'folder', dataset['id'])
    path = request.app.state.images.get(dataset['name'])
    if path is None:
        raise RefusalError(400, f'No large image file in this item: "{dataset["name"]}" is no longer in the folder.')
    return path


@router.get('/item/{itemId}/tiles')
def get_tiles(path: Annotated[Path, Depends(find_image)]) -> dict[str, Any]:
    """large_image's metadata of the image."""
    return read_metadata(path)


@router.get('/item/{itemId}/tiles/region')
def get_region(
    path: Annotated[Path, Depends(find_image)],
    encoding: Literal['pickle:5', 'TIFF'],
    frame: int = 0,
    left: Edge = None,
    top: Edge = None,
    right: Edge = None,
    bottom: Edge = None,
    units: Literal['base_pixels'] = 'base_pixels',
    width: Side = None,
    height: Side = None,
) -> Response:
    """Pixels of one frame, made to fit width and height: the array as a pickle, or a TIFF file."""
    edges = {'left': left, 'top': top, 'right': right, 'bottom': bottom}
    box = {name: edge for name, edge in edges.items() if edge is not None}
    try:
        content, mime = read_region(path, frame, box, encoding, width, height)
    except TileGeneralError as error:
        raise RefusalError(400, str(error)) from error
    return Response(content, media_type=mime)


@router.get('/dataset_view')
def list_views(datasetId: str, store: CurrentStore, user: Asker) -> list[dict[str, Any]]:
    """Views that the user may not see are left out, not refused."""
    require_object_id(datasetId)
    return store.views(datasetId, user)


@router.get('/upenn_collection/{configurationId}')
def get_configuration(configurationId: str, store: CurrentStore, user: Asker) -> dict[str, Any]:
    """A configuration; its layers stand under `meta`."""
    configuration = require_found(store.configuration(configurationId), 'upenn_collection', configurationId)
    level = store.configuration_level(configurationId, user)
    require_read(user, level, 'upenn_collection', configurationId)
    return {**configuration, '_accessLevel': level}


@router.put('/upenn_collection/{configurationId}/metadata', dependencies=[Depends(require_property_right)])
def merge_metadata(configurationId: str, store: CurrentStore, user: LoggedIn, body: Body) -> dict[str, Any]:
    """Put the body's keys into `meta`, in place of those of the same name."""
    require_found(store.configuration(configurationId), 'upenn_collection', configurationId)
    level = store.configuration_level(configurationId, user)
    require_write(user, level, 'upenn_collection', configurationId)
    store.merge_configuration(configurationId, parse_object(body))
    return get_configuration(configurationId, store, user)


@router.get('/worker_interface')
def get_worker_interface(image: str, store: CurrentStore, user: Asker) -> dict[str, Any] | None:
    """The form of the worker that this image holds; null where none was stored."""
    require_read(user, user.level, 'worker_interface', image)
    return store.worker_interface(image)


@router.post('/worker_interface', dependencies=[Depends(require_login)])
def set_worker_interface(image: str, store: CurrentStore, body: Body) -> dict[str, Any]:
    """Store the form of a worker in place of its last one."""
    interface = parse_object(body)
    store.set_worker_interface(image, interface)
    return {'image': image, 'interface': interface}
