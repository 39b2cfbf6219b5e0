import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import requests

from tests.annotation_server.conftest import ABSENT_ID, refusal
from tests.conftest import Server
from tests.datasets import write_dataset


@pytest.fixture(scope='module')
def server(start_module_server, tmp_path_factory) -> Server:
    folder = tmp_path_factory.mktemp('images')
    for number in range(20):
        write_dataset(folder, f'plane {number}', np.zeros((4, 4), np.uint8))
    return start_module_server(folder)


@pytest.fixture(scope='module')
def unused_ids(server) -> Iterator[str]:
    return iter(server.datasets.values())


@pytest.fixture
def dataset_id(unused_ids) -> str:
    """A dataset without annotations."""
    return next(unused_ids)


def make_annotation(dataset_id: str, **values: Any) -> dict[str, Any]:
    annotation = {
        'coordinates': [{'x': 1.5, 'y': 2}, {'x': 3, 'y': 2}, {'x': 2, 'y': 4.25}],
        'tags': ['cell'],
        'channel': 0,
        'location': {'XY': 0, 'Z': 0, 'Time': 0},
        'shape': 'polygon',
        'datasetId': dataset_id,
    }
    return {**annotation, **values}


def make_point(dataset_id: str, x: float, y: float, **values: Any) -> dict[str, Any]:
    return make_annotation(dataset_id, coordinates=[{'x': x, 'y': y}], shape='point', **values)


def create(server: Server, annotations: list[dict[str, Any]]) -> list[str]:
    return [created['_id'] for created in server.client.post('upenn_annotation/multiple', json=annotations)]


def find_ids(server: Server, dataset_id: str, **parameters: Any) -> list[str]:
    page = server.client.get('upenn_annotation', {'datasetId': dataset_id, **parameters})
    return [annotation['_id'] for annotation in page]


def test_created_annotations_are_answered_in_order_with_increasing_ids(server, dataset_id):
    sent = [
        make_annotation(dataset_id, name='a', color=None, location={'XY': 1, 'Z': 2, 'Time': 3}),
        make_annotation(dataset_id, tags=[], channel=99, color='#FF0000'),
        # what a worker must keep to itself is accepted: too few vertices, outside the image
        make_point(dataset_id, -5.0, 1e6),
        make_annotation(dataset_id, note='a key that the server does not know', tags=['é', '"']),
    ]
    created = server.client.post('upenn_annotation/multiple', json=sent)
    ids = [annotation['_id'] for annotation in created]
    assert ids == sorted(set(ids))
    assert all(len(id) == 24 and int(id, 16) for id in ids)
    assert created == [{'_id': id, **annotation} for id, annotation in zip(ids, sent, strict=True)]
    assert server.client.get('upenn_annotation', {'datasetId': dataset_id}) == created


def test_an_annotation_sent_with_an_id_gets_a_new_one(server, dataset_id):
    (id,) = create(server, [make_annotation(dataset_id, _id=ABSENT_ID)])
    assert id != ABSENT_ID
    assert find_ids(server, dataset_id) == [id]


def test_an_empty_list_creates_nothing(server):
    assert server.client.post('upenn_annotation/multiple', json=[]) == []


@pytest.mark.parametrize(
    'bad',
    [
        *({key: ...} for key in ('coordinates', 'tags', 'channel', 'location', 'shape', 'datasetId')),
        {'coordinates': []},
        {'coordinates': [{'x': 1}]},
        {'coordinates': [{'x': '1', 'y': 1}]},
        {'coordinates': [{'x': True, 'y': 1}]},
        {'coordinates': [{'x': None, 'y': 1}]},
        {'coordinates': [[1, 1]]},
        {'coordinates': [{'x': float('nan'), 'y': 1}]},
        {'coordinates': [{'x': 1, 'y': float('inf')}]},
        {'tags': None},
        {'tags': 'cell'},
        {'tags': [1]},
        {'channel': None},
        {'channel': '0'},
        {'channel': True},
        {'channel': 0.0},
        {'location': {'XY': 0.0, 'Z': 0, 'Time': 0}},
        {'location': {'XY': 0, 'Z': True, 'Time': 0}},
        {'location': {'XY': 0, 'Z': 0}},
        {'location': None},
        {'shape': None},
        {'name': 1},
        {'color': 0},
    ],
    ids=str,
)
def test_one_bad_annotation_has_the_whole_batch_refused(server, bad):
    dataset_id = server.datasets['plane 0']
    before = server.client.get('upenn_annotation/count', {'datasetId': dataset_id})
    wrong = {key: value for key, value in make_annotation(dataset_id, **bad).items() if value is not ...}
    # json.dumps and data: requests itself would refuse to send NaN
    body = json.dumps([make_annotation(dataset_id), wrong])
    status, _, kind = refusal(server.client.post, 'upenn_annotation/multiple', data=body)
    assert (status, kind) == (400, 'validation')
    assert server.client.get('upenn_annotation/count', {'datasetId': dataset_id}) == before


@pytest.mark.parametrize('body', ['{}', 'null', '[', '', '[1]', '[[]]'])
def test_a_body_that_is_no_list_of_annotations_is_refused(server, body):
    status, _, kind = refusal(server.client.post, 'upenn_annotation/multiple', data=body)
    assert (status, kind) == (400, 'validation')


def test_annotations_for_an_absent_dataset_are_refused_with_all_the_others(server, dataset_id):
    batch = [make_annotation(dataset_id), make_annotation(ABSENT_ID)]
    expected = (403, 'Dataset(s) not found', 'access')
    assert refusal(server.client.post, 'upenn_annotation/multiple', json=batch) == expected
    assert find_ids(server, dataset_id) == []


def test_a_malformed_dataset_id_in_an_annotation_is_an_internal_error(server):
    status, _, kind = refusal(server.client.post, 'upenn_annotation/multiple', json=[make_annotation('abc')])
    assert (status, kind) == (500, 'internal')


def test_the_annotations_of_an_absent_dataset_are_refused(server):
    expected = (400, 'No such folder: ID', 'validation')
    for path in ('upenn_annotation', 'upenn_annotation/count', 'annotation_connection'):
        assert refusal(server.client.get, path, {'datasetId': ABSENT_ID}) == expected


def test_a_page_has_50_annotations_unless_told_otherwise(server, dataset_id):
    ids = create(server, [make_annotation(dataset_id) for _ in range(60)])
    assert find_ids(server, dataset_id) == ids[:50]
    assert find_ids(server, dataset_id, limit=0) == ids
    assert find_ids(server, dataset_id, limit=7, offset=10, sort='_id') == ids[10:17]
    assert find_ids(server, dataset_id, limit=0, offset=58) == ids[58:]
    assert find_ids(server, dataset_id, offset=60) == []


def test_after_an_id_come_the_later_ones_whatever_the_offset(server, dataset_id):
    ids = create(server, [make_annotation(dataset_id) for _ in range(9)])
    assert find_ids(server, dataset_id, afterId=ids[3], limit=3) == ids[4:7]
    assert find_ids(server, dataset_id, afterId=ids[3], limit=3, offset=2) == ids[4:7]
    assert find_ids(server, dataset_id, afterId=ids[8]) == []
    assert find_ids(server, dataset_id, afterId='f' * 24) == []
    assert find_ids(server, dataset_id, afterId='0' * 24) == ids


def test_shape_and_tags_filter_the_list_and_the_count_alike(server, dataset_id):
    tag_lists = [['cell'], ['cell', 'example'], ['example'], [], ['cell"s', 'é']]
    polygons = create(server, [make_annotation(dataset_id, tags=tags) for tags in tag_lists])
    points = create(server, [make_point(dataset_id, 0, 0, tags=tags) for tags in tag_lists])
    for parameters, expected in [
        ({}, polygons + points),
        ({'shape': 'polygon'}, polygons),
        ({'shape': 'line'}, []),
        ({'tags': '["cell"]'}, polygons[:2] + points[:2]),
        ({'tags': '["example", "cell"]', 'shape': 'point'}, points[1:2]),  # has all of, in any order
        ({'tags': '["cell\\"s"]', 'shape': 'polygon'}, polygons[4:]),
        ({'tags': '["é"]', 'shape': 'polygon'}, polygons[4:]),
        ({'tags': '["cel"]'}, []),
        ({'tags': '[]', 'shape': 'polygon'}, polygons),
        ({'tags': '["cell"]', 'afterId': polygons[0], 'limit': 2}, [polygons[1], points[0]]),
    ]:
        assert find_ids(server, dataset_id, **parameters) == expected, parameters
        if 'afterId' not in parameters:
            count = server.client.get('upenn_annotation/count', {'datasetId': dataset_id, **parameters})
            assert count == len(expected), parameters


def test_a_tag_is_found_by_all_of_its_characters_and_by_no_part_of_it(server, dataset_id):
    # written as JSON, these hold one another
    tags = ['', 'a', 'x"a', '"a"', ', ', '], [', '\\', '\\"', '"', 'é', '\\u00e9', '💡', '%', '_', 'A', 'a ', '\n']
    ids = create(server, [make_annotation(dataset_id, tags=['x', tag, 'y']) for tag in tags])
    for id, tag in zip(ids, tags, strict=True):
        for wanted in ([tag], ['y', tag], [tag, 'x'], ['x', tag, 'y']):
            assert find_ids(server, dataset_id, tags=json.dumps(wanted)) == [id], wanted


@pytest.mark.parametrize('tags', ['cell', '"cell"', '["cell"', '[1]', '[null]', ''])
def test_tags_that_are_no_json_array_of_strings_are_refused(server, tags):
    parameters = {'datasetId': server.datasets['plane 0'], 'tags': tags}
    status, message, _ = refusal(server.client.get, 'upenn_annotation', parameters)
    assert (status, message) == (400, f'Parameter tags must be a JSON array of strings, not {tags}')


@pytest.mark.parametrize('parameters', [{'limit': -1}, {'limit': 'all'}, {'offset': 2**70}, {'sort': 'name'}])
def test_a_page_that_cannot_be_is_refused(server, parameters):
    parameters = {'datasetId': server.datasets['plane 0'], **parameters}
    assert refusal(server.client.get, 'upenn_annotation', parameters)[0] == 400


def test_batches_sent_at_once_all_arrive_and_stay_together(server, dataset_id):
    def send(number: int) -> list[str]:
        batch = [make_annotation(dataset_id, tags=[f'batch {number}']) for _ in range(50)]
        headers = {'Girder-Token': server.token}
        answer = requests.post(f'{server.apiUrl}/upenn_annotation/multiple', json=batch, headers=headers, timeout=60)
        answer.raise_for_status()
        return [annotation['_id'] for annotation in answer.json()]

    with ThreadPoolExecutor(8) as threads:
        batches = list(threads.map(send, range(16)))
    assert find_ids(server, dataset_id, limit=0) == sorted(id for batch in batches for id in batch)
    for number, batch in enumerate(batches):
        assert find_ids(server, dataset_id, limit=0, tags=f'["batch {number}"]') == batch
        assert int(batch[-1], 16) - int(batch[0], 16) == len(batch) - 1


@pytest.mark.parametrize('channel, expected', [(None, 'near'), (1, 'other channel'), (2, None)])
def test_an_annotation_is_connected_to_the_nearest_of_its_place_that_has_the_tags(
    server, dataset_id, channel, expected
):
    elsewhere = {'XY': 0, 'Z': 1, 'Time': 0}
    names = ['child', 'near', 'far', 'other channel', 'other place', 'other tags']
    ids = create(
        server,
        [
            make_point(dataset_id, 10, 10, tags=['a', 'b']),
            make_point(dataset_id, 13, 14, tags=['b', 'a', 'c']),
            make_point(dataset_id, 16, 10, tags=['a', 'b']),
            make_point(dataset_id, 90, 10, tags=['a', 'b'], channel=1),
            make_point(dataset_id, 10, 10, tags=['a', 'b'], location=elsewhere),
            make_point(dataset_id, 10, 10, tags=['a']),
        ],
    )
    body = {'annotationsIds': ids[:1], 'tags': ['a', 'b'], 'channelId': channel}
    made = server.client.post('annotation_connection/connectTo/', json=body)
    parents = [names[ids.index(connection['parentId'])] for connection in made]
    assert parents == ([expected] if expected else [])
    assert all(connection['childId'] == ids[0] for connection in made)
    assert server.client.get('annotation_connection', {'datasetId': dataset_id}) == made


@pytest.mark.parametrize('missing', ['tags', 'channelId', 'annotationsIds'])
def test_connecting_without_tags_or_channel_is_an_internal_error(server, missing):
    body = {'annotationsIds': [], 'tags': [], 'channelId': None}
    del body[missing]
    status, _, kind = refusal(server.client.post, 'annotation_connection/connectTo/', json=body)
    assert (status, kind) == (500, 'internal')


def test_connecting_what_does_not_exist_connects_nothing(server):
    body = {'annotationsIds': [ABSENT_ID], 'tags': [], 'channelId': None}
    assert server.client.post('annotation_connection/connectTo/', json=body) == []
