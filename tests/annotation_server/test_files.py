from typing import Any

import pytest

from tests.annotation_server.conftest import ABSENT_ID, PLANE, refusal
from tests.conftest import Server
from tests.datasets import write_dataset

CONTENT = bytes(range(256)) * 4
NAME = 'remembered.sam-fewshot'


@pytest.fixture(scope='module')
def server(start_module_server, tmp_path_factory) -> Server:
    folder = tmp_path_factory.mktemp('images')
    for name in ('one', 'two'):
        write_dataset(folder, name, PLANE)
    return start_module_server(folder)


def make_item(server: Server, dataset: str = 'one', user: str = 'owner') -> dict[str, Any]:
    query = {'folderId': server.datasets[dataset], 'name': NAME, 'reuseExisting': 'true'}
    return server.client_of(user).post('item', query)


def store(server: Server, item_id: str, content: bytes, user: str = 'owner') -> dict[str, Any]:
    size = len(content)
    query = {'parentType': 'item', 'parentId': item_id, 'name': 'a.npz', 'size': size}
    return server.client_of(user).post('file', query, data=content)


def download(server: Server, file_id: str, user: str = 'owner') -> bytes:
    return server.client_of(user).get(f'file/{file_id}/download', jsonResp=False).content


def find_items(server: Server, **parameters: Any) -> list[dict[str, Any]]:
    return server.client.get('item', {'folderId': server.datasets['one'], **parameters})


@pytest.fixture
def item(server):
    """Return an empty item."""
    made = make_item(server)
    yield made
    server.client.delete(f'item/{made["_id"]}')


def test_an_item_lies_beside_the_image_and_is_none(server, item):
    image, other = find_items(server)
    assert (image['name'], 'largeImage' in image) == ('one.tif', True)
    assert other == item
    assert 'largeImage' not in item
    assert find_items(server, name=NAME) == [item]
    assert find_items(server, name='none') == []
    assert find_items(server, limit=1) == [image]
    assert server.client.get(f'item/{item["_id"]}') == item
    assert refusal(server.client.get, f'item/{item["_id"]}/tiles')[1] == (
        'No large image file in this item.'
    )


def test_an_item_of_the_name_is_used_again_in_its_dataset_alone(server, item):
    assert make_item(server) == item
    other = make_item(server, 'two')
    assert other['_id'] != item['_id']
    assert other['folderId'] == server.datasets['two']


def test_files_have_the_bytes_that_were_sent(server, item):
    first = store(server, item['_id'], CONTENT)
    second = store(server, item['_id'], b'')
    assert first['size'] == len(CONTENT)
    assert (first['name'], first['itemId']) == ('a.npz', item['_id'])
    assert server.client.get(f'item/{item["_id"]}/files') == [first, second]
    assert server.client.get(f'item/{item["_id"]}/files', {'limit': 1, 'offset': 1}) == [second]
    assert download(server, first['_id']) == CONTENT
    assert download(server, second['_id']) == b''
    assert server.client.get(f'item/{item["_id"]}')['size'] == len(CONTENT)


def test_a_removed_file_is_gone(server, item):
    first, second = (store(server, item['_id'], CONTENT) for _ in range(2))
    assert server.client.delete(f'file/{first["_id"]}') is None
    assert server.client.get(f'item/{item["_id"]}/files') == [second]
    expected = (400, 'Invalid file id (ID).', 'rest')
    assert refusal(server.client.get, f'file/{first["_id"]}/download') == expected


def test_a_removed_item_takes_its_files_along(server):
    item = make_item(server)
    file = store(server, item['_id'], CONTENT)
    answer = server.client.delete(f'item/{item["_id"]}')
    assert answer == {'message': f'Deleted item {NAME}.'}
    assert refusal(server.client.get, f'file/{file["_id"]}/download')[0] == 400
    assert make_item(server)['_id'] != item['_id']


def test_the_image_cannot_be_removed(server):
    image = find_items(server)[0]
    assert refusal(server.client.delete, f'item/{image["_id"]}')[0] == 400
    assert find_items(server)[0] == image


def test_a_body_of_another_size_is_refused(server, item):
    query = {'parentType': 'item', 'parentId': item['_id'], 'name': 'a', 'size': 5}
    assert refusal(server.client.post, 'file', query, data=b'1234')[0] == 400
    assert server.client.get(f'item/{item["_id"]}/files') == []


def test_writers_add_and_readers_download(server, item):
    assert make_item(server, user='writer') == item
    file = store(server, item['_id'], CONTENT, 'writer')
    for user in ('writer', 'reader'):
        assert download(server, file['_id'], user) == CONTENT
    denied = (403, 'Write access denied for folder ID (user ID).', 'access')
    reader = server.client_of('reader')
    assert refusal(store, server, item['_id'], CONTENT, 'reader') == denied
    assert refusal(make_item, server, user='reader') == denied
    assert refusal(reader.delete, f'file/{file["_id"]}') == denied
    assert refusal(reader.delete, f'item/{item["_id"]}') == denied
    denied = (403, 'Read access denied for folder ID (user ID).', 'access')
    stranger = server.client_of('stranger')
    for path in (
        f'item/{item["_id"]}',
        f'item/{item["_id"]}/files',
        f'file/{file["_id"]}/download',
    ):
        assert refusal(stranger.get, path) == denied


@pytest.mark.parametrize('path', ['item/{}', 'item/{}/files', 'file/{}/download'])
def test_what_does_not_exist_is_refused(server, path):
    kind = path.partition('/')[0]
    expected = (400, f'Invalid {kind} id (ID).', 'rest')
    assert refusal(server.client.get, path.format(ABSENT_ID)) == expected
    assert refusal(server.client.get, path.format('abc')) == (
        400,
        'Invalid ObjectId: abc',
        'validation',
    )
