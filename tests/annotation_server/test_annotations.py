import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import requests

from tests.annotation_server.conftest import ABSENT_ID, make_annotation, refusal
from tests.conftest import Server
from tests.datasets import write_dataset


@pytest.fixture(scope='module')
def server(start_module_server, tmp_path_factory) -> Server:
    folder = tmp_path_factory.mktemp('images')
    for number in range(30):
        write_dataset(folder, f'plane {number}', np.zeros((4, 4), np.uint8))
    return start_module_server(folder)


@pytest.fixture(scope='module')
def unused_ids(server) -> Iterator[str]:
    return iter(server.datasets.values())


@pytest.fixture
def dataset_id(unused_ids) -> str:
    """Return a dataset without annotations."""
    return next(unused_ids)


def make_point(dataset_id: str, x: float, y: float, **values: Any) -> dict[str, Any]:
    return make_annotation(dataset_id, coordinates=[{'x': x, 'y': y}], shape='point', **values)


def create(server: Server, annotations: list[dict[str, Any]]) -> list[str]:
    return [
        created['_id']
        for created in server.client.post('upenn_annotation/multiple', json=annotations)
    ]


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
        *(
            {key: ...}
            for key in ('coordinates', 'tags', 'channel', 'location', 'shape', 'datasetId')
        ),
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
        {'location': {'XY': 0, 'Time': 0}},
        {'location': None},
        {'shape': None},
        {'shape': 'blob'},
        {'name': 1},
        {'color': 0},
    ],
    ids=str,
)
def test_one_bad_annotation_has_the_whole_batch_refused(server, bad):
    dataset_id = server.datasets['plane 0']
    before = server.client.get('upenn_annotation/count', {'datasetId': dataset_id})
    wrong = {
        key: value for key, value in make_annotation(dataset_id, **bad).items() if value is not ...
    }
    # json.dumps and data: requests itself would refuse to send NaN
    body = json.dumps([make_annotation(dataset_id), wrong])
    status, _, kind = refusal(server.client.post, 'upenn_annotation/multiple', data=body)
    assert (status, kind) == (400, 'validation')
    assert server.client.get('upenn_annotation/count', {'datasetId': dataset_id}) == before


@pytest.mark.parametrize(
    ('body', 'expected'),
    [
        ('{}', (500, 'internal')),
        ('null', (500, 'internal')),
        ('[', (400, 'rest')),
        ('', (400, 'rest')),
        ('[1]', (400, 'validation')),
        ('[[]]', (400, 'validation')),
    ],
)
def test_a_body_that_is_no_list_of_annotations_is_refused(server, body, expected):
    status, _, kind = refusal(server.client.post, 'upenn_annotation/multiple', data=body)
    assert (status, kind) == expected


def test_a_location_without_time_is_accepted(server, dataset_id):
    (id,) = create(server, [make_annotation(dataset_id, location={'XY': 0, 'Z': 0})])
    (found,) = server.client.get('upenn_annotation', {'datasetId': dataset_id})
    assert (found['_id'], found['location']) == (id, {'XY': 0, 'Z': 0})


def test_annotations_for_an_absent_dataset_are_refused_with_all_the_others(server, dataset_id):
    batch = [make_annotation(dataset_id), make_annotation(ABSENT_ID)]
    expected = (403, "Dataset(s) not found: [ObjectId('ID')]", 'access')
    assert refusal(server.client.post, 'upenn_annotation/multiple', json=batch) == expected
    assert find_ids(server, dataset_id) == []


def test_a_malformed_dataset_id_in_an_annotation_is_an_internal_error(server):
    status, _, kind = refusal(
        server.client.post, 'upenn_annotation/multiple', json=[make_annotation('abc')]
    )
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
    assert find_ids(server, dataset_id, limit=-7) == ids[:7]


def test_the_newest_come_first_if_asked_for(server, dataset_id):
    ids = create(server, [make_annotation(dataset_id) for _ in range(5)])
    assert find_ids(server, dataset_id, sortdir=-1) == ids[::-1]
    assert find_ids(server, dataset_id, sortdir=-1, limit=2, offset=1) == [ids[3], ids[2]]


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
        (
            {'tags': '["example", "cell"]', 'shape': 'point'},
            points[1:2],
        ),  # has all of, in any order
        ({'tags': '["cell\\"s"]', 'shape': 'polygon'}, polygons[4:]),
        ({'tags': '["é"]', 'shape': 'polygon'}, polygons[4:]),
        ({'tags': '["cel"]'}, []),
        ({'tags': '[]', 'shape': 'polygon'}, polygons),
        ({'tags': '["cell"]', 'afterId': polygons[0], 'limit': 2}, [polygons[1], points[0]]),
    ]:
        assert find_ids(server, dataset_id, **parameters) == expected, parameters
        if 'afterId' not in parameters:
            count = server.client.get(
                'upenn_annotation/count', {'datasetId': dataset_id, **parameters}
            )
            assert count == {'count': len(expected)}, parameters


def test_a_tag_is_found_by_all_of_its_characters_and_by_no_part_of_it(server, dataset_id):
    # written as JSON, these hold one another
    tags = [
        '',
        'a',
        'x"a',
        '"a"',
        ', ',
        '], [',
        '\\',
        '\\"',
        '"',
        'é',
        '\\u00e9',
        '💡',
        '%',
        '_',
        'A',
        'a ',
        '\n',
    ]
    ids = create(server, [make_annotation(dataset_id, tags=['x', tag, 'y']) for tag in tags])
    for id, tag in zip(ids, tags, strict=True):
        for wanted in ([tag], ['y', tag], [tag, 'x'], ['x', tag, 'y']):
            assert find_ids(server, dataset_id, tags=json.dumps(wanted)) == [id], wanted


@pytest.mark.parametrize(
    ('tags', 'needed'),
    [
        *((tags, 'valid JSON') for tags in ('cell', '["cell"', '')),
        *((tags, 'a JSON array of strings') for tags in ('"cell"', '[1]', '[null]')),
    ],
)
def test_tags_that_are_no_json_array_of_strings_are_refused(server, tags, needed):
    parameters = {'datasetId': server.datasets['plane 0'], 'tags': tags}
    expected = (400, f'Parameter tags must be {needed}.', 'rest')
    assert refusal(server.client.get, 'upenn_annotation', parameters) == expected


@pytest.mark.parametrize(
    'parameters',
    [{'limit': 'all'}, {'offset': -1}, {'offset': 2**70}, {'sort': 'name'}, {'sortdir': 0}],
)
def test_a_page_that_cannot_be_is_refused(server, parameters):
    parameters = {'datasetId': server.datasets['plane 0'], **parameters}
    assert refusal(server.client.get, 'upenn_annotation', parameters)[0] == 400


@pytest.mark.parametrize('path', ['upenn_annotation', 'upenn_annotation/'])
def test_one_annotation_is_saved_and_read_alone(server, dataset_id, path):
    sent = make_annotation(dataset_id)
    created = server.client.post(path, json=sent)
    assert created == {**sent, '_id': created['_id']}
    assert server.client.get(f'upenn_annotation/{created["_id"]}') == created
    assert find_ids(server, dataset_id) == [created['_id']]


def test_changed_keys_are_changed_and_others_stay(server, dataset_id):
    first, second, third = create(server, [make_annotation(dataset_id) for _ in range(3)])
    assert server.client.put(f'upenn_annotation/{first}', json={'tags': ['a']}) is None
    updates = [{'_id': second, 'tags': ['b']}, {'id': third, 'shape': 'line'}]
    assert server.client.put('upenn_annotation/multiple', json=updates) is None
    expected = [{'tags': ['a']}, {'tags': ['b']}, {'shape': 'line'}]
    for id, changed in zip((first, second, third), expected, strict=True):
        expected = make_annotation(dataset_id, _id=id, **changed)
        assert server.client.get(f'upenn_annotation/{id}') == expected
    assert find_ids(server, dataset_id, tags='["cell"]') == [third]
    assert find_ids(server, dataset_id, shape='line') == [third]


def test_one_bad_change_has_all_of_them_refused(server, dataset_id):
    ids = create(server, [make_annotation(dataset_id) for _ in range(2)])
    before = server.client.get('upenn_annotation', {'datasetId': dataset_id})
    updates = [{'_id': ids[0], 'tags': ['a']}, {'_id': ids[1], 'shape': 'blob'}]
    assert refusal(server.client.put, 'upenn_annotation/multiple', json=updates)[0] == 400
    updates[1] = {'_id': ABSENT_ID, 'tags': ['a']}
    assert refusal(server.client.put, 'upenn_annotation/multiple', json=updates)[0] == 400
    assert server.client.get('upenn_annotation', {'datasetId': dataset_id}) == before


def test_removed_annotations_are_gone_and_their_ids_are_not_used_again(server, dataset_id):
    ids = create(server, [make_annotation(dataset_id) for _ in range(5)])
    assert server.client.delete(f'upenn_annotation/{ids[4]}') is None
    assert delete_multiple(server, [ids[0], ids[2], ABSENT_ID]) == 200
    assert find_ids(server, dataset_id) == [ids[1], ids[3]]
    assert create(server, [make_annotation(dataset_id)])[0] > ids[4]


def delete_multiple(server: Server, ids: list[str], user: str = 'owner') -> int:
    """Remove annotations and return the status: girder_client's `delete` sends no body."""
    headers = {'Girder-Token': server.users[user]}
    return requests.delete(
        f'{server.apiUrl}/upenn_annotation/multiple', json=ids, headers=headers, timeout=60
    ).status_code


@pytest.mark.parametrize('method', ['get', 'put', 'delete'])
def test_an_annotation_that_does_not_exist_is_refused(server, method):
    call = getattr(server.client, method)
    body = {'json': {}} if method == 'put' else {}
    expected = (400, 'Invalid upenn_annotation id (ID).', 'rest')
    assert refusal(call, f'upenn_annotation/{ABSENT_ID}', **body) == expected
    assert refusal(call, 'upenn_annotation/abc', **body)[0] == 400


@pytest.mark.parametrize('user', ['reader', 'stranger'])
def test_a_user_without_the_right_to_write_changes_nothing(server, dataset_id, user):
    (id,) = create(server, [make_annotation(dataset_id)])
    before = server.client.get(f'upenn_annotation/{id}')
    client = server.client_of(user)
    update = {'tags': ['mine']}
    for call in (
        lambda: client.post('upenn_annotation', json=make_annotation(dataset_id)),
        lambda: client.post('upenn_annotation/multiple', json=[make_annotation(dataset_id)]),
        lambda: client.put(f'upenn_annotation/{id}', json=update),
        lambda: client.put('upenn_annotation/multiple', json=[{'_id': id, **update}]),
        lambda: client.delete(f'upenn_annotation/{id}'),
    ):
        status, message, kind = refusal(call)
        assert (status, kind) == (403, 'access')
        assert message == 'Write access denied for folder ID (user ID).'
    assert delete_multiple(server, [id], user) == 403
    assert server.client.get('upenn_annotation', {'datasetId': dataset_id}) == [before]


def test_a_reader_reads_and_a_stranger_does_not(server, dataset_id):
    (id,) = create(server, [make_annotation(dataset_id)])
    reader, stranger = server.client_of('reader'), server.client_of('stranger')
    query = {'datasetId': dataset_id}
    assert [one['_id'] for one in reader.get('upenn_annotation', query)] == [id]
    assert reader.get('upenn_annotation/count', query) == {'count': 1}
    for path, parameters in (
        ('upenn_annotation', query),
        ('upenn_annotation/count', query),
        (f'upenn_annotation/{id}', {}),
    ):
        expected = (403, 'Read access denied for folder ID (user ID).', 'access')
        assert refusal(stranger.get, path, parameters) == expected


def test_batches_sent_at_once_all_arrive_and_stay_together(server, dataset_id):
    def send(number: int) -> list[str]:
        batch = [make_annotation(dataset_id, tags=[f'batch {number}']) for _ in range(50)]
        headers = {'Girder-Token': server.token}
        answer = requests.post(
            f'{server.apiUrl}/upenn_annotation/multiple', json=batch, headers=headers, timeout=60
        )
        answer.raise_for_status()
        return [annotation['_id'] for annotation in answer.json()]

    with ThreadPoolExecutor(8) as threads:
        batches = list(threads.map(send, range(16)))
    assert find_ids(server, dataset_id, limit=0) == sorted(id for batch in batches for id in batch)
    for number, batch in enumerate(batches):
        assert find_ids(server, dataset_id, limit=0, tags=f'["batch {number}"]') == batch
        assert int(batch[-1], 16) - int(batch[0], 16) == len(batch) - 1


@pytest.mark.parametrize(('channel', 'expected'), [(None, 'near'), (1, 'other channel'), (2, None)])
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
