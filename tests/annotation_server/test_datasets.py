import pytest
import requests

from tests.annotation_server.conftest import ABSENT_ID, LAYER_CONTRASTS, LAYERS, item_id, refusal


def configuration_id(server):
    views = server.client.get('dataset_view', {'datasetId': server.datasets['stack uint16']})
    return views[0]['configurationId']


def test_a_dataset_is_a_folder_that_names_its_item(server):
    dataset_id = server.datasets['plane uint8']
    folder = server.client.get(f'folder/{dataset_id}')
    items = server.client.get('item', {'folderId': dataset_id, 'limit': 0})
    assert folder['name'] == 'plane uint8'
    assert folder['meta'] == {'subtype': 'contrastDataset', 'selectedLargeImageId': items[0]['_id']}
    assert [item['folderId'] for item in items] == [dataset_id]
    assert 'largeImage' in items[0]


def test_layers_beside_an_image_become_its_view_and_configuration(server):
    dataset_id = server.datasets['stack uint16']
    (view,) = server.client.get('dataset_view', {'datasetId': dataset_id})
    assert view['datasetId'] == dataset_id
    assert view['layerContrasts'] == LAYER_CONTRASTS
    configuration = server.client.get(f'upenn_collection/{view["configurationId"]}')
    assert configuration['meta']['layers'] == LAYERS


def test_an_image_without_layers_has_no_view(server):
    assert server.client.get('dataset_view', {'datasetId': server.datasets['plane uint8']}) == []


def test_metadata_are_merged_into_a_configuration(server):
    path = f'upenn_collection/{configuration_id(server)}'
    server.client.put(f'{path}/metadata', json={'propertyIds': ['a']})
    server.client.put(f'{path}/metadata', json={'other': 1})
    meta = server.client.get(path)['meta']
    assert (meta['propertyIds'], meta['other'], meta['layers']) == (['a'], 1, LAYERS)


def test_the_last_interface_posted_for_an_image_is_kept(server):
    image = 'company/worker & co:latest'
    assert server.client.get('worker_interface', {'image': image}) is None
    server.client.post('worker_interface', {'image': image}, json={'Old': {'type': 'text'}})
    server.client.post(
        'worker_interface', {'image': image}, json={'Größe': {'type': 'number', 'default': 0.5}}
    )
    assert server.client.get('worker_interface', {'image': image}) == {
        'Größe': {'type': 'number', 'default': 0.5}
    }


@pytest.mark.parametrize(
    ('path', 'parameters', 'expected'),
    [
        (f'folder/{ABSENT_ID}', {}, (400, 'Invalid folder id (ID).', 'rest')),
        ('folder/abc', {}, (400, 'Invalid ObjectId: abc', 'validation')),
        (f'item/{ABSENT_ID}/tiles', {}, (400, 'Invalid item id (ID).', 'rest')),
        (f'upenn_collection/{ABSENT_ID}', {}, (400, 'Invalid upenn_collection id (ID).', 'rest')),
        ('item', {'folderId': ABSENT_ID}, (400, 'No such folder: ID', 'validation')),
        ('item', {}, (400, 'Parameter "folderId" is required.', 'rest')),
        ('no_such_call', {}, (400, 'No matching route for "GET /api/v1/no_such_call"', 'rest')),
    ],
)
def test_what_does_not_exist_is_refused(server, path, parameters, expected):
    assert refusal(server.client.get, path, parameters) == expected


@pytest.mark.parametrize(
    ('path', 'name'),
    [('item', 'folderId'), ('dataset_view', 'datasetId'), ('upenn_annotation', 'datasetId')],
)
def test_a_malformed_dataset_id_is_an_internal_error_outside_folder(server, path, name):
    status, _, kind = refusal(server.client.get, path, {name: 'abc'})
    assert (status, kind) == (500, 'internal')


def test_reading_with_an_unknown_token_is_refused(server, expired):
    dataset_id, item, configuration = (
        server.datasets['stack uint16'],
        item_id(server, 'stack uint16'),
        configuration_id(server),
    )
    for kind, path, parameters in [
        ('folder', f'folder/{dataset_id}', {}),
        ('folder', 'item', {'folderId': dataset_id}),
        ('folder', f'item/{item}/tiles', {}),
        ('folder', f'item/{item}/tiles/region', {'encoding': 'pickle:5'}),
        ('upenn_collection', f'upenn_collection/{configuration}', {}),
        ('folder', 'upenn_annotation', {'datasetId': dataset_id}),
        ('folder', 'upenn_annotation/count', {'datasetId': dataset_id}),
        ('folder', 'annotation_connection', {'datasetId': dataset_id}),
    ]:
        expected = (401, f'Read access denied for {kind} ID (user None).', 'access')
        assert refusal(expired.get, path, parameters) == expected, path


def test_views_are_hidden_from_an_unknown_token_but_not_refused(server, expired):
    assert expired.get('dataset_view', {'datasetId': server.datasets['stack uint16']}) == []


def test_writing_with_an_unknown_token_is_refused_and_changes_nothing(server, expired):
    path = f'upenn_collection/{configuration_id(server)}'
    expected = (401, 'You must be logged in.', 'access')
    assert refusal(expired.put, f'{path}/metadata', json={'secret': 1}) == expected
    assert refusal(expired.post, 'worker_interface', {'image': 'i'}, json={}) == expected
    assert refusal(expired.post, 'upenn_annotation/multiple', json=[]) == expected
    assert refusal(expired.post, 'annotation_connection/connectTo/', json={}) == expected
    assert 'secret' not in server.client.get(path)['meta']
    assert server.client.get('worker_interface', {'image': 'i'}) is None


def test_a_request_without_a_token_is_refused(server):
    answer = requests.get(f'{server.apiUrl}/folder/{server.datasets["plane uint8"]}', timeout=30)
    assert answer.status_code == 401


@pytest.mark.parametrize(
    'body', ['{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud83d"}', '{', '', '[1]', '"text"']
)
def test_an_interface_that_is_not_a_json_object_is_refused(server, body):
    status, _, kind = refusal(server.client.post, 'worker_interface', {'image': 'bad'}, data=body)
    assert (status, kind) == (400, 'rest')
    assert server.client.get('worker_interface', {'image': 'bad'}) is None
