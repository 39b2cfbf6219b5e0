import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.annotation_server.conftest import ABSENT_ID, PLANE, refusal
from tests.conftest import Server
from tests.datasets import make_layer, write_dataset

PROPERTY = {
    'name': 'Similarity',
    'shape': 'polygon',
    'image': 'worker:latest',
    'tags': {'tags': ['cell'], 'exclusive': False},
    'workerInterface': {'Größe': {'type': 'text', 'value': 'µm "x"'}},
}


@pytest.fixture(scope='module')
def server(start_module_server, tmp_path_factory) -> Server:
    folder = tmp_path_factory.mktemp('images')
    for number in range(20):
        write_dataset(folder, f'plane {number}', PLANE)
    write_dataset(folder, 'shown', PLANE, [make_layer(0)])
    return start_module_server(folder)


@pytest.fixture(scope='module')
def unused_ids(server) -> Iterator[str]:
    return iter(server.datasets.values())


@pytest.fixture
def dataset_id(unused_ids) -> str:
    """Return a dataset without values."""
    return next(unused_ids)


@pytest.fixture(scope='module')
def property_ids(server) -> tuple[str, str]:
    """Two stored properties."""
    first, second = (
        server.client.post('annotation_property', json=PROPERTY)['_id'] for _ in range(2)
    )
    return first, second


numbers = count(1)


def make_entry(
    dataset_id: str, values: dict[str, Any], annotation_id: str | None = None
) -> dict[str, Any]:
    """Return values of one annotation, by default of one that has none yet."""
    return {
        'datasetId': dataset_id,
        'annotationId': annotation_id or f'{next(numbers):024x}',
        'values': values,
    }


def add_values(server: Server, entries: list[dict[str, Any]]) -> None:
    server.client.post('annotation_property_values/multiple', json=entries)


def find_values(server: Server, dataset_id: str, **parameters: Any) -> list[dict[str, Any]]:
    return server.client.get('annotation_property_values', {'datasetId': dataset_id, **parameters})


def show(server: Server, ids: list[str]) -> None:
    """Name properties in the configuration of the dataset `shown`, and no others."""
    (view,) = server.client.get('dataset_view', {'datasetId': server.datasets['shown']})
    path = f'upenn_collection/{view["configurationId"]}/metadata'
    server.client.put(path, json={'propertyIds': ids})


def list_ids(server: Server, user: str = 'owner', **parameters: Any) -> list[str]:
    found = server.client_of(user).get('annotation_property', parameters)
    return [record['_id'] for record in found]


def test_created_properties_have_ids_of_their_own(server):
    sent = [
        PROPERTY,
        {**PROPERTY, 'note': 'a key that the server does not know'},
        {**PROPERTY, '_id': ABSENT_ID},
        {key: value for key, value in PROPERTY.items() if key != 'shape'},
    ]
    created = [server.client.post('annotation_property', json=body) for body in sent]
    ids = [record['_id'] for record in created]
    assert len({*ids, ABSENT_ID}) == 5
    assert all(len(id) == 24 and int(id, 16) for id in ids)
    assert created == [{**body, '_id': id} for body, id in zip(sent, ids, strict=True)]


def test_properties_are_listed_once_a_readable_configuration_names_them(server):
    created = [server.client.post('annotation_property', json=PROPERTY) for _ in range(3)]
    ids = [record['_id'] for record in created]
    assert not set(ids) & set(list_ids(server, limit=0))
    show(server, [ids[2], ids[0], ABSENT_ID])
    assert server.client.get('annotation_property') == [created[0], created[2]]
    for user in ('admin', 'writer', 'reader'):
        assert list_ids(server, user) == [ids[0], ids[2]]
    assert list_ids(server, 'stranger') == []


def test_a_page_has_50_properties_unless_told_otherwise(server):
    ids = [server.client.post('annotation_property', json=PROPERTY)['_id'] for _ in range(60)]
    show(server, ids)
    assert list_ids(server) == ids[:50]
    assert list_ids(server, limit=0) == ids
    assert list_ids(server, limit=7, offset=10) == ids[10:17]
    assert list_ids(server, limit=0, offset=58) == ids[58:]


def test_one_property_is_read_by_those_who_may_read_a_configuration_that_names_it(server):
    shown, orphan = (server.client.post('annotation_property', json=PROPERTY) for _ in range(2))
    show(server, [shown['_id']])
    assert server.client_of('reader').get(f'annotation_property/{shown["_id"]}') == shown
    expected = (403, 'Read access denied for property ID', 'access')
    stranger = server.client_of('stranger')
    assert refusal(stranger.get, f'annotation_property/{shown["_id"]}') == expected
    for user in ('owner', 'admin'):
        client = server.client_of(user)
        assert refusal(client.get, f'annotation_property/{orphan["_id"]}') == expected


@pytest.mark.parametrize('id', [ABSENT_ID, 'abc'])
def test_a_property_that_does_not_exist_is_refused(server, id):
    status, message, kind = refusal(server.client.get, f'annotation_property/{id}')
    assert (status, kind) == (400, 'validation')
    assert message.startswith('No such annotation_property: ')


def test_a_reader_makes_a_property_and_stores_no_values(server, dataset_id):
    reader = server.client_of('reader')
    made = reader.post('annotation_property', json=PROPERTY)
    assert made == {**PROPERTY, '_id': made['_id']}
    entry = make_entry(dataset_id, {made['_id']: {'Similarity': 1}})
    expected = (403, 'Write access denied for folder ID (user ID).', 'access')
    assert refusal(reader.post, 'annotation_property_values/multiple', json=[entry]) == expected
    assert find_values(server, dataset_id) == []


@pytest.mark.parametrize(
    'bad',
    [
        *({key: ...} for key in PROPERTY if key != 'shape'),
        {'name': None},
        {'name': 1},
        {'shape': ['polygon']},
        {'image': None},
        {'tags': ['cell']},
        {'tags': {'tags': ['cell']}},
        {'tags': {'exclusive': True}},
        {'tags': {'tags': 'cell', 'exclusive': True}},
        {'tags': {'tags': [1], 'exclusive': True}},
        {'tags': {'tags': [], 'exclusive': 0}},
        {'tags': {'tags': [], 'exclusive': 'no'}},
        {'workerInterface': []},
        {'workerInterface': {'a': float('nan')}},
        {'workerInterface': {'half a pair': '\ud83d'}},
    ],
    ids=ascii,
)
def test_a_property_that_is_not_as_it_should_be_is_refused(server, bad):
    wrong = {key: value for key, value in {**PROPERTY, **bad}.items() if value is not ...}
    status, message, _ = refusal(server.client.post, 'annotation_property', data=json.dumps(wrong))
    assert status == 400
    assert message.startswith(('Invalid annotation property: ' + next(iter(bad)), 'Invalid JSON'))


@pytest.mark.parametrize('body', ['{', '', '[]', 'null', '{"a": 1e999}'])
def test_a_body_that_is_no_json_object_is_no_property(server, body):
    assert refusal(server.client.post, 'annotation_property', data=body)[0] == 400


def test_values_are_listed_as_they_were_sent_and_by_the_age_of_their_annotations(
    server, dataset_id, property_ids
):
    first, second = property_ids
    tricky = [0.1 + 0.2, 5e-324, 1.7976931348623157e308, -1e16, 2**53 + 2, 0, 1 / 3]
    entries = [
        make_entry(
            dataset_id, {first: {'Similarity': 0.875}, second: {'area': 12, 'Größe "µm"': -3.5}}
        ),
        make_entry(dataset_id, {first: {f'number {n}': number for n, number in enumerate(tricky)}}),
        make_entry(dataset_id, {second: {}}),
        make_entry(dataset_id, {first: 3, second: {'text': 'high', 'none': None}}),
    ]
    add_values(server, entries[::-1])
    assert find_values(server, dataset_id) == entries


def test_the_first_value_that_an_annotation_has_of_a_property_stays(
    server, dataset_id, property_ids
):
    first, second = property_ids
    entry = make_entry(dataset_id, {first: {'Similarity': 0.5}})
    annotation_id = entry['annotationId']
    add_values(server, [entry])
    add_values(server, [make_entry(dataset_id, {first: {'Similarity': 0.9}}, annotation_id)])
    add_values(
        server, [make_entry(dataset_id, {first: {'Area': 7}, second: {'Area': 8}}, annotation_id)]
    )
    add_values(
        server, [make_entry(dataset_id, {second: {'Area': n}}, annotation_id) for n in range(3)]
    )
    assert find_values(server, dataset_id) == [
        {**entry, 'values': {first: {'Similarity': 0.5}, second: {'Area': 8}}}
    ]


def test_the_answer_has_all_values_that_each_annotation_now_has(server, dataset_id, property_ids):
    first, second = property_ids
    old, new = make_entry(dataset_id, {first: {'n': 1}}), make_entry(dataset_id, {second: 2})
    none = make_entry(dataset_id, {})
    add_values(server, [old])
    more = {**old, 'values': {first: {'n': 9}, second: {'m': 2}}}
    answer = server.client.post('annotation_property_values/multiple', json=[new, none, more])
    assert answer == [new, none, {**old, 'values': {first: {'n': 1}, second: {'m': 2}}}]


def test_a_dataset_lists_its_own_values_alone(server, unused_ids, property_ids):
    one, other = next(unused_ids), next(unused_ids)
    entry = make_entry(one, {property_ids[0]: {'Similarity': 1}})
    add_values(server, [entry, make_entry(other, {property_ids[0]: {'Similarity': 0}})])
    assert find_values(server, one) == [entry]


def test_a_page_of_values_has_50_annotations_unless_told_otherwise(
    server, dataset_id, property_ids
):
    entries = [make_entry(dataset_id, {id: {'n': n} for id in property_ids}) for n in range(60)]
    add_values(server, entries)
    assert find_values(server, dataset_id) == entries[:50]
    assert find_values(server, dataset_id, limit=0) == entries
    assert find_values(server, dataset_id, limit=7, offset=10) == entries[10:17]
    assert find_values(server, dataset_id, limit=0, offset=58) == entries[58:]
    assert find_values(server, dataset_id, offset=60) == []


@pytest.mark.parametrize('parameters', [{'offset': -1}, {'limit': 'all'}, {'offset': 2**70}])
def test_a_page_of_values_that_cannot_be_is_refused(server, parameters):
    parameters = {'datasetId': server.datasets['plane 0'], **parameters}
    assert refusal(server.client.get, 'annotation_property_values', parameters)[0] == 400


def test_ten_thousand_annotations_are_taken_in_a_call_and_no_more(server, dataset_id, property_ids):
    entries = [make_entry(dataset_id, {property_ids[0]: {'n': n}}) for n in range(10_001)]
    message = 'At most 10000 annotation property values may be sent in a call, not 10001'
    path = 'annotation_property_values/multiple'
    assert refusal(server.client.post, path, json=entries) == (400, message, 'validation')
    assert find_values(server, dataset_id) == []
    add_values(server, entries[1:])
    assert find_values(server, dataset_id, limit=0) == entries[1:]


def test_an_empty_list_adds_no_values(server, dataset_id):
    add_values(server, [])
    assert find_values(server, dataset_id) == []


@pytest.mark.parametrize(
    'bad',
    [
        *({key: ...} for key in ('datasetId', 'annotationId', 'values')),
        {'annotationId': None},
        {'annotationId': 1},
        {'annotationId': 'abc'},
        {'annotationId': 'F' * 24},
        {'values': None},
        {'values': []},
        {'values': {ABSENT_ID: {'Similarity': True}}},
        {'values': {ABSENT_ID: {'Similarity': [0.5]}}},
        {'values': {ABSENT_ID: {'Similarity': float('nan')}}},
        {'values': {ABSENT_ID: {'Similarity': float('inf')}}},
        {'values': {ABSENT_ID: {'Similarity': 10**400}}},
    ],
    ids=lambda bad: str(bad)[:60],
)
def test_one_bad_entry_has_all_the_values_refused(server, property_ids, bad):
    dataset_id = server.datasets['plane 0']
    before = find_values(server, dataset_id, limit=0)
    good = make_entry(dataset_id, {property_ids[0]: {'Similarity': 0.5}})
    wrong = {key: value for key, value in {**good, **bad}.items() if value is not ...}
    body = json.dumps([good, wrong])
    status, message, kind = refusal(
        server.client.post, 'annotation_property_values/multiple', data=body
    )
    assert (status, kind) == (400, 'validation')
    assert message.startswith('Invalid annotation property values: ' + next(iter(bad)))
    assert find_values(server, dataset_id, limit=0) == before


@pytest.mark.parametrize('body', ['[', ''])
def test_values_that_are_no_json_are_refused(server, body):
    expected = (400, 'Invalid JSON passed in request body.', 'rest')
    path = 'annotation_property_values/multiple'
    assert refusal(server.client.post, path, data=body) == expected


@pytest.mark.parametrize('body', ['{}', 'null', '[1]', '[[]]'])
def test_a_body_that_is_no_list_of_values_is_refused(server, body):
    status, message, kind = refusal(
        server.client.post, 'annotation_property_values/multiple', data=body
    )
    assert (status, kind) == (400, 'validation')
    assert message.startswith('Invalid annotation property values: the body: ')


def test_values_for_an_absent_dataset_are_refused_with_all_the_others(
    server, dataset_id, property_ids
):
    batch = [make_entry(id, {property_ids[0]: {'Similarity': 1}}) for id in (dataset_id, ABSENT_ID)]
    expected = (403, "Dataset(s) not found: [ObjectId('ID')]", 'access')
    assert (
        refusal(server.client.post, 'annotation_property_values/multiple', json=batch) == expected
    )
    assert find_values(server, dataset_id) == []


def test_the_values_of_an_absent_dataset_are_refused(server):
    expected = (400, 'No such folder: ID', 'validation')
    assert (
        refusal(server.client.get, 'annotation_property_values', {'datasetId': ABSENT_ID})
        == expected
    )


def test_an_unknown_token_neither_reads_nor_writes_properties(server, expired, dataset_id):
    assert expired.get('annotation_property') == []
    shown = server.client.post('annotation_property', json=PROPERTY)['_id']
    show(server, [shown])
    expected = (401, 'Read access denied for property ID', 'access')
    assert refusal(expired.get, f'annotation_property/{shown}') == expected
    expected = (401, 'Read access denied for folder ID (user None).', 'access')
    query = {'datasetId': dataset_id}
    assert refusal(expired.get, 'annotation_property_values', query) == expected

    entry = make_entry(dataset_id, {ABSENT_ID: {'Similarity': 1}})
    expected = (401, 'You must be logged in.', 'access')
    assert refusal(expired.post, 'annotation_property', json=PROPERTY) == expected
    assert refusal(expired.post, 'annotation_property_values/multiple', json=[entry]) == expected
    assert find_values(server, dataset_id) == []
