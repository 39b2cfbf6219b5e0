import http.client
import json
import signal
import subprocess
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import girder_client
import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPOSITORY
from tests.datasets import make_layer, write_dataset

PLANE = np.arange(12, dtype=np.uint8).reshape(3, 4)


def run_server(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run a server that is expected to end by itself."""
    command = [sys.executable, '-m', 'annotation_server', '--json', *map(str, arguments)]
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )


def test_everything_is_still_there_after_a_restart(start_server, tmp_path):
    write_dataset(tmp_path, 'cells', PLANE, [make_layer(0)])
    first = start_server(tmp_path)
    dataset_id = first.datasets['cells']
    annotation = {
        'coordinates': [{'x': 1, 'y': 2}],
        'tags': ['cell'],
        'channel': 0,
        'location': {'XY': 0, 'Z': 0, 'Time': 0},
        'shape': 'point',
        'datasetId': dataset_id,
    }
    created = first.client.post('upenn_annotation/multiple', json=[annotation, annotation])
    first.client.post('worker_interface', {'image': 'i'}, json={'Field': {'type': 'text'}})
    view = first.client.get('dataset_view', {'datasetId': dataset_id})
    configuration = f'upenn_collection/{view[0]["configurationId"]}'
    measured = {
        'name': 'p',
        'shape': 'point',
        'image': 'i',
        'tags': {'tags': [], 'exclusive': False},
    }
    measured = first.client.post('annotation_property', json={**measured, 'workerInterface': {}})
    first.client.put(f'{configuration}/metadata', json={'propertyIds': [measured['_id']]})
    values = [
        {
            'datasetId': dataset_id,
            'annotationId': created[0]['_id'],
            'values': {measured['_id']: {'p': 0.5}},
        }
    ]
    first.client.post('annotation_property_values/multiple', json=values)
    body = {'annotationsIds': [created[0]['_id']], 'tags': [], 'channelId': None}
    connections = first.client.post('annotation_connection/connectTo/', json=body)
    query = {'folderId': dataset_id, 'name': 'remembered', 'reuseExisting': 'true'}
    item = first.client.post('item', query)
    query = {'parentType': 'item', 'parentId': item['_id'], 'name': 'a.npz', 'size': 3}
    file = first.client.post('file', query, data=b'\0a\xff')
    assert first.stop() == 0
    # the sidecar is read once: from then on the configuration belongs to the server
    write_dataset(tmp_path, 'cells', PLANE, [])

    second = start_server(tmp_path)
    assert (second.datasets, second.users) == (first.datasets, first.users)
    assert second.client.get('upenn_annotation', {'datasetId': dataset_id}) == created
    assert second.client.get('worker_interface', {'image': 'i'}) == {'Field': {'type': 'text'}}
    assert second.client.get('dataset_view', {'datasetId': dataset_id}) == view
    meta = second.client.get(configuration)['meta']
    assert (meta['propertyIds'], meta['layers']) == ([measured['_id']], [make_layer(0)])
    assert second.client.get('annotation_connection', {'datasetId': dataset_id}) == connections
    assert second.client.get('annotation_property') == [measured]
    assert second.client.get('annotation_property_values', {'datasetId': dataset_id}) == values
    content = second.client.get(f'file/{file["_id"]}/download', jsonResp=False).content
    assert content == b'\0a\xff'
    third = second.client.post('upenn_annotation/multiple', json=[annotation])
    assert third[0]['_id'] > created[1]['_id']


def test_what_was_answered_survives_a_killed_server(start_server, tmp_path):
    write_dataset(tmp_path, 'cells', PLANE)
    server = start_server(tmp_path)
    server.client.post('worker_interface', {'image': 'i'}, json={'Field': {'type': 'text'}})
    server.process.kill()
    server.process.wait()
    assert start_server(tmp_path).client.get('worker_interface', {'image': 'i'}) == {
        'Field': {'type': 'text'}
    }


def test_every_image_of_the_folder_is_a_dataset_and_nothing_else_is(start_server, tmp_path):
    write_dataset(tmp_path, 'tiff', PLANE)
    write_dataset(tmp_path, 'joined', PLANE.reshape(1, 1, 1, 1, 3, 4))
    Image.fromarray(PLANE).save(tmp_path / 'a b.png')
    Image.fromarray(PLANE).save(tmp_path / 'photo.JPG')
    (tmp_path / 'notes.txt').write_text('no image')
    (tmp_path / 'broken.tif').write_text('no image')
    (tmp_path / 'conda.yml').write_text('name: no image')
    (tmp_path / 'lost.yml').write_text('sources: [{path: lost.tif}]')
    (tmp_path / 'list.yaml').write_text('- [')
    assert sorted(start_server(tmp_path).datasets) == ['a b', 'joined', 'photo', 'tiff']


def test_an_image_added_later_is_served_after_a_restart(start_server, tmp_path):
    write_dataset(tmp_path, 'first', PLANE)
    server = start_server(tmp_path)
    server.stop()
    write_dataset(tmp_path, 'earlier in the alphabet', PLANE)
    again = start_server(tmp_path)
    assert again.datasets['first'] == server.datasets['first']
    assert len(set(again.datasets.values())) == 2


def test_a_subfolder_is_a_dataset_of_several_files_or_none(start_server, tmp_path):
    (tmp_path / 'empty.dataset').mkdir()
    (tmp_path / 'other folder').mkdir()
    folder = tmp_path / 'two.dataset'
    folder.mkdir()
    write_dataset(folder, 'a', PLANE)
    write_dataset(folder, 'b', PLANE)
    sources = [{'path': 'a.tif', 'z': 0}, {'path': 'b.tif', 'z': 1}]
    (folder / 'joined.json').write_text(json.dumps({'sources': sources}))
    write_dataset(tmp_path, 'plane', PLANE)
    server = start_server(tmp_path)
    assert sorted(server.datasets) == ['empty', 'plane', 'two']

    items = server.client.get('item', {'folderId': server.datasets['two']})
    assert [(item['name'], 'largeImage' in item) for item in items] == [
        ('a.tif', False),
        ('b.tif', False),
        ('joined.json', True),
    ]
    assert len(server.client.get(f'item/{items[2]["_id"]}/tiles')['frames']) == 2
    with pytest.raises(girder_client.HttpError, match='No large image file in this item'):
        server.client.get(f'item/{items[0]["_id"]}/tiles')
    assert server.client.get('item', {'folderId': server.datasets['empty']}) == []
    meta = server.client.get(f'folder/{server.datasets["empty"]}')['meta']
    assert meta == {'subtype': 'contrastDataset'}


@pytest.mark.parametrize('stop', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_cleanly(start_server, tmp_path, stop):
    server = start_server(tmp_path)
    server.process.send_signal(stop)
    assert server.process.wait() == 0
    assert server.process.stdout.read() == ''  # the one line of JSON was read before


def test_a_client_that_computes_for_seconds_finds_its_connection_open(start_server, tmp_path):
    server = start_server(tmp_path)
    connection = http.client.HTTPConnection(urlsplit(server.apiUrl).netloc)
    for pause in (0, 6):  # http.client opens no new one
        time.sleep(pause)
        connection.request(
            'GET', '/api/v1/annotation_property', headers={'Girder-Token': server.token}
        )
        assert connection.getresponse().read() == b'[]'
    connection.close()


def test_the_server_listens_on_loopback_only(start_server, tmp_path):
    assert start_server(tmp_path).apiUrl.startswith('http://127.0.0.1:')


def test_a_port_in_use_is_refused(start_server, tmp_path):
    port = start_server(tmp_path).apiUrl.split(':')[2].split('/')[0]
    ended = run_server(tmp_path, '--port', port)
    assert ended.returncode == 1
    assert 'Address already in use' in ended.stderr


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        ({'a.layers.json': '['}, 'a.layers.json is not JSON'),
        ({'a.layers.json': '[]'}, 'a.layers.json: the file: Input should be an object'),
        ({'a.layers.json': '{}'}, 'a.layers.json: layers: Field required'),
        ({'a.layers.json': '{"layers": [], "layer": 1}'}, 'a.layers.json: layer: Extra inputs'),
        (
            {'a.layers.json': '{"layers": [], "levels": {"owner": 3}}'},
            'a.layers.json: levels.owner: Input should be less than or equal to 2',
        ),
        (
            {'a.layers.json': '{"layers": [], "levels": {"admin": 0}}'},
            'a.layers.json: levels.admin',
        ),
        ({'a.yml': json.dumps({'sources': [{'path': 'a.tif'}]})}, 'a.tif and a.yml'),
    ],
)
def test_a_folder_that_makes_no_sense_is_refused_in_one_line(tmp_path, files, message):
    write_dataset(tmp_path, 'a', PLANE)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    ended = run_server(tmp_path)
    assert (ended.returncode, ended.stdout) == (1, '')
    assert message in ended.stderr
    assert 'Traceback' not in ended.stderr


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    ended = run_server(tmp_path / 'none')
    assert ended.returncode == 2
    assert 'none is not a folder' in ended.stderr
