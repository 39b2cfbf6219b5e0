"""Routes to the items of a dataset, and to the files that clients store in them."""

import sqlite3
from typing import Any, Literal

from fastapi import APIRouter, Response
from starlette.requests import Request

from annotation_server.access import (
    Asker,
    CurrentStore,
    LoggedIn,
    require_dataset,
    require_read,
    require_write,
)
from annotation_server.refusals import Body, Limit, Natural, RefusalError, require_found
from annotation_server.store import Store
from annotation_server.users import User

router = APIRouter()


@router.get('/item')
def list_items(
    folderId: str,
    request: Request,
    store: CurrentStore,
    user: Asker,
    name: str | None = None,
    limit: Limit = 50,
    offset: Natural = 0,
) -> list[dict[str, Any]]:
    """Return a page of a dataset's items, sorted by name. With `name`, only items of that name."""
    require_dataset(store, user, folderId)
    items = store.items(folderId, name)[offset : offset + limit if limit else None]
    return [describe_item(request, store, item) for item in items]


@router.post('/item')
def create_item(
    folderId: str,
    name: str,
    reuseExisting: Literal['true'],
    request: Request,
    store: CurrentStore,
    user: LoggedIn,
) -> dict[str, Any]:
    """Return the dataset's item of this name. Create it if it does not exist."""
    require_found(store.dataset(folderId), 'folder', folderId)
    require_write(user, user.level, 'folder', folderId)
    store.add_item(folderId, name)
    return describe_item(request, store, store.items(folderId, name)[0])


@router.get('/item/{itemId}')
def get_item(itemId: str, request: Request, store: CurrentStore, user: Asker) -> dict[str, Any]:
    """Return one item."""
    return describe_item(request, store, find_item(store, user, itemId))


@router.delete('/item/{itemId}')
def remove_item(
    itemId: str, request: Request, store: CurrentStore, user: LoggedIn
) -> dict[str, str]:
    """Remove an item and the files that were stored in it."""
    item = find_item(store, user, itemId)
    require_write(user, user.level, 'folder', item['dataset_id'])
    if item['name'] in file_sizes(request, store, item):
        raise RefusalError(
            400,
            f'{item["name"]} is in the folder that this server serves. Remove it from that folder.',
        )
    store.remove_item(itemId)
    return {'message': f'Deleted item {item["name"]}.'}


@router.get('/item/{itemId}/files')
def list_files(
    itemId: str, store: CurrentStore, user: Asker, limit: Limit = 50, offset: Natural = 0
) -> list[dict[str, Any]]:
    """Return a page of the files that were stored in an item, oldest first."""
    find_item(store, user, itemId)
    files = store.files(itemId)[offset : offset + limit if limit else None]
    return [describe_file(file) for file in files]


@router.post('/file')
def create_file(
    parentType: Literal['item'],
    parentId: str,
    name: str,
    size: Natural,
    store: CurrentStore,
    user: LoggedIn,
    body: Body,
) -> dict[str, Any]:
    """Store the body as a file of an item, even if the item has a file of that name."""
    item = require_found(store.item(parentId), 'item', parentId)
    require_write(user, user.level, 'folder', item['dataset_id'])
    if len(body) != size:
        raise RefusalError(
            400,
            f'The body has {len(body)} bytes instead of {size}. Send the file in one request.',
        )
    return describe_file(find_file(store, user, store.add_file(parentId, name, body)))


@router.get('/file/{fileId}/download')
def download_file(fileId: str, store: CurrentStore, user: Asker) -> Response:
    """Return a file's bytes."""
    find_file(store, user, fileId)
    return Response(store.file_content(fileId), media_type='application/octet-stream')


@router.delete('/file/{fileId}')
def remove_file(fileId: str, store: CurrentStore, user: LoggedIn) -> None:
    """Remove a file."""
    file = find_file(store, user, fileId)
    item = find_item(store, user, file['item_id'])
    require_write(user, user.level, 'folder', item['dataset_id'])
    store.remove_file(fileId)


def find_item(store: Store, user: User, item_id: str) -> sqlite3.Row:
    """Return an item. Refuse if it does not exist or the user may not read it."""
    item = require_found(store.item(item_id), 'item', item_id)
    require_read(user, user.level, 'folder', item['dataset_id'])
    return item


def find_file(store: Store, user: User, file_id: str) -> sqlite3.Row:
    """Return a file. Refuse if it does not exist or the user may not read it."""
    file = require_found(store.file(file_id), 'file', file_id)
    find_item(store, user, file['item_id'])
    return file


def file_sizes(request: Request, store: Store, item: sqlite3.Row) -> dict[str, int]:
    """Return {name: size in bytes} of the image files of an item's dataset."""
    dataset = store.dataset(item['dataset_id'])
    files = request.app.state.files.get(dataset['name'], []) if dataset else []
    return {file.name: file.stat().st_size for file in files}


def describe_item(request: Request, store: Store, item: sqlite3.Row) -> dict[str, Any]:
    """Return an item as Girder does. The item that is shown has the key `largeImage`."""
    dataset = store.dataset(item['dataset_id'])
    sizes = file_sizes(request, store, item)
    answer = {
        '_id': item['id'],
        '_modelType': 'item',
        'folderId': item['dataset_id'],
        'meta': {},
        'name': item['name'],
        'size': sizes.get(item['name'], item['size']),
    }
    if dataset and sizes and item['id'] == dataset['item_id']:
        answer['largeImage'] = {'fileId': item['id']}
    return answer


def describe_file(file: sqlite3.Row) -> dict[str, Any]:
    """Return a file as Girder does."""
    return {
        '_id': file['id'],
        '_modelType': 'file',
        'created': file['created'],
        'itemId': file['item_id'],
        'mimeType': 'application/octet-stream',
        'name': file['name'],
        'size': file['size'],
    }
