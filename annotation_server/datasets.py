"""Routes to a dataset: its folder and the pixels of its image."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from large_image.exceptions import TileGeneralError
from pydantic import FiniteFloat

from annotation_server.access import Asker, CurrentStore, require_read
from annotation_server.images import read_metadata, read_region
from annotation_server.refusals import RefusalError, require_found

router = APIRouter()

# The real server labels every answer to a request for a region like this, even an error.
REGION_TYPE = 'image/jpeg'

Edge = Annotated[FiniteFloat | None, Query()]
Side = Annotated[int | None, Query(gt=0)]


@router.get('/folder/{folderId}')
def get_folder(folderId: str, request: Request, store: CurrentStore, user: Asker) -> dict[str, Any]:
    """Return a dataset: its name, the item that it shows, and the user's level."""
    dataset = require_found(store.dataset(folderId), 'folder', folderId)
    require_read(user, user.level, 'folder', folderId)
    meta = {'subtype': 'contrastDataset'}
    if request.app.state.files.get(dataset['name']):
        meta['selectedLargeImageId'] = dataset['item_id']
    return {
        '_accessLevel': user.level,
        '_id': dataset['id'],
        '_modelType': 'folder',
        'name': dataset['name'],
        'meta': meta,
    }


def find_image(itemId: str, request: Request, store: CurrentStore, user: Asker) -> Path:
    """Return the path of an item's image. Refuse if the item is not the one that is shown."""
    item = require_found(store.item(itemId), 'item', itemId)
    require_read(user, user.level, 'folder', item['dataset_id'])
    dataset = store.dataset(item['dataset_id'])
    files = request.app.state.files.get(dataset['name']) if dataset else None
    if not dataset or itemId != dataset['item_id'] or not files:
        raise RefusalError(400, 'No large image file in this item.')
    return files[0]


@router.get('/item/{itemId}/tiles')
def get_tiles(path: Annotated[Path, Depends(find_image)]) -> dict[str, Any]:
    """Return large_image's metadata of the image."""
    return read_metadata(path)


@router.get('/item/{itemId}/tiles/region')
def get_region(
    path: Annotated[Path, Depends(find_image)],
    encoding: Literal['pickle:5'],
    frame: int = 0,
    left: Edge = None,
    top: Edge = None,
    right: Edge = None,
    bottom: Edge = None,
    units: Literal['base_pixels'] = 'base_pixels',
    width: Side = None,
    height: Side = None,
) -> Response:
    """Return pixels of one frame as a pickled array, scaled to fit width and height."""
    edges = {'left': left, 'top': top, 'right': right, 'bottom': bottom}
    box = {name: edge for name, edge in edges.items() if edge is not None}
    try:
        status, content = 200, read_region(path, frame, box, width, height)
    except TileGeneralError as error:
        status, content = 400, json.dumps({'message': str(error), 'type': 'rest'}).encode()
    return Response(content, status, media_type=REGION_TYPE)
