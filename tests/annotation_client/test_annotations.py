"""Reading and writing annotations, connections and properties."""

import numpy as np
import pytest

from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.connection import ServerError
from tests.annotation_client.conftest import Answer, FakeServerStarter
from tests.conftest import Server, StartServer
from tests.datasets import write_dataset

ODD_TAGS = [
    'say "cheese"',
    'a&b=c',
    '#1',
    'Größe µm',
    '[x]',
    "it's",
    'a+b c%20d',
    'back\\slash',
    'a,b',
    '細胞',
    '💡',
]


@pytest.fixture(scope='module')
def server(start_module_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp('images')
    for name in ('listed', 'tagged', 'stored', 'connected', 'refused', 'measured', 'removed'):
        write_dataset(folder, name, np.zeros((8, 8), np.uint8))
    return start_module_server(folder)


@pytest.fixture
def client(server: Server) -> UPennContrastAnnotationClient:
    return UPennContrastAnnotationClient(server.apiUrl, server.token)


def polygon(datasetId: str, tags: list[str], x: float = 0, shape: str = 'polygon') -> dict:
    coordinates = [{'x': x, 'y': 0.5}, {'x': x + 2, 'y': 0.5}, {'x': x + 2, 'y': 2.5}]
    location = {'XY': 0, 'Z': 0, 'Time': 0}
    return {
        'coordinates': coordinates,
        'tags': tags,
        'channel': 0,
        'location': location,
        'shape': shape,
        'datasetId': datasetId,
    }


@pytest.fixture(scope='module')
def listed(server: Server) -> list[dict]:
    """Sixty stored annotations: more than the server returns without a limit."""
    datasetId = server.datasets['listed']
    client = UPennContrastAnnotationClient(server.apiUrl, server.token)
    return client.createMultipleAnnotations(
        [polygon(datasetId, [f'tag {n % 2}'], n) for n in range(60)]
    )


@pytest.mark.parametrize('page_size', [7, 20, 60, 5000])  # 20 and 60: the last page is full
@pytest.mark.parametrize(
    ('limit', 'offset', 'expected'),
    [
        (None, 0, slice(None)),
        (0, 0, slice(None)),
        (25, 0, slice(25)),
        (20, 0, slice(20)),
        (1000, 0, slice(None)),
        (25, 10, slice(10, 35)),
        (None, 30, slice(30, None)),
        (None, 60, slice(0)),
    ],
)
def test_pages_are_read_in_order(
    page_size: int,
    limit: int | None,
    offset: int,
    expected: slice,
    listed: list[dict],
    client: UPennContrastAnnotationClient,
) -> None:
    found = client.getAnnotationsByDatasetId(
        listed[0]['datasetId'], limit=limit, offset=offset, pageSize=page_size
    )
    assert found == listed[expected]


def test_each_page_is_one_request(
    fake_server: FakeServerStarter,
) -> None:
    pages = [
        [{'_id': f'{n:024x}'} for n in range(start, stop)]
        for start, stop in ((0, 5000), (5000, 5003))
    ]
    server = fake_server(*[Answer(200, page) for page in pages])
    assert (
        UPennContrastAnnotationClient(server.apiUrl, 'token').getAnnotationsByDatasetId('d1')
        == pages[0] + pages[1]
    )
    assert [request.path for request in server.requests] == [
        '/api/v1/upenn_annotation?datasetId=d1&sort=_id&offset=0&limit=5000',
        f'/api/v1/upenn_annotation?datasetId=d1&sort=_id&offset=0&afterId={4999:024x}&limit=5000',
    ]


def test_filter_holds_on_all_pages(
    listed: list[dict], client: UPennContrastAnnotationClient
) -> None:
    found = client.getAnnotationsByDatasetId(
        listed[0]['datasetId'], shape='polygon', tags=['tag 1'], pageSize=10
    )
    assert found == listed[1::2]


def test_filter_needs_all_tags_and_the_shape(
    server: Server, client: UPennContrastAnnotationClient
) -> None:
    datasetId = server.datasets['tagged']
    created = client.createMultipleAnnotations(
        [
            polygon(datasetId, ['a', 'b']),
            polygon(datasetId, ['a']),
            polygon(datasetId, ['b', 'a'], shape='line'),
        ]
    )
    assert client.getAnnotationsByDatasetId(datasetId, tags=['a', 'b']) == [created[0], created[2]]
    assert client.getAnnotationsByDatasetId(datasetId, shape='polygon', tags=['a']) == created[:2]
    assert client.getAnnotationsByDatasetId(datasetId, shape='line') == created[2:]
    assert client.getAnnotationsByDatasetId(datasetId, tags=[]) == created


def test_annotations_are_removed(server: Server, client: UPennContrastAnnotationClient) -> None:
    datasetId = server.datasets['removed']
    created = client.createMultipleAnnotations([polygon(datasetId, [], n) for n in range(3)])
    client.deleteMultipleAnnotations([created[0]['_id'], created[2]['_id']])
    assert client.getAnnotationsByDatasetId(datasetId) == [created[1]]


@pytest.mark.parametrize('tag', ODD_TAGS)
def test_tag_of_any_characters_is_found(
    tag: str, server: Server, client: UPennContrastAnnotationClient
) -> None:
    datasetId = server.datasets['stored']
    created = client.createMultipleAnnotations(
        [polygon(datasetId, [tag]), polygon(datasetId, [tag + '!'])]
    )
    assert created[0]['tags'] == [tag]
    assert client.getAnnotationsByDatasetId(datasetId, tags=[tag]) == created[:1]


def test_nothing_is_posted_for_nothing(fake_server: FakeServerStarter) -> None:
    server = fake_server()
    client = UPennContrastAnnotationClient(server.apiUrl, 'token')
    assert client.createMultipleAnnotations([]) == []
    client.deleteMultipleAnnotations([])
    assert client.connectToNearest({'tags': ['a']}, []) == []
    client.addMultipleAnnotationPropertyValues([])
    assert server.requests == []


@pytest.mark.parametrize(
    'rest', [{}, {'layer': None, 'channel': None}, {'layer': None, 'channel': 0}]
)
def test_annotation_is_connected_to_the_nearest(
    rest: dict, server: Server, client: UPennContrastAnnotationClient
) -> None:
    datasetId, tag = server.datasets['connected'], f'parent {rest}'
    _, near, _, child = client.createMultipleAnnotations(
        [
            polygon(datasetId, [tag], x=100),
            polygon(datasetId, [tag], x=20),
            polygon(datasetId, ['other'], x=1),
            polygon(datasetId, ['child']),
        ]
    )
    connections = client.connectToNearest({'tags': [tag], **rest}, [child['_id']])
    assert [(entry['parentId'], entry['childId']) for entry in connections] == [
        (near['_id'], child['_id'])
    ]


def test_bad_annotation_refuses_the_whole_batch(
    server: Server, client: UPennContrastAnnotationClient
) -> None:
    datasetId = server.datasets['refused']
    bad = {**polygon(datasetId, ['a']), 'channel': '0'}
    with pytest.raises(ServerError) as caught:
        client.createMultipleAnnotations([polygon(datasetId, ['a']), bad])
    assert str(caught.value).startswith(
        f'POST upenn_annotation/multiple for dataset {datasetId} failed with status 400: '
        'Invalid annotation'
    )
    assert caught.value.status == 400
    assert client.getAnnotationsByDatasetId(datasetId) == []


@pytest.mark.parametrize(
    ('datasetId', 'status', 'message'),
    [('0' * 24, 400, 'No such folder'), ('nonsense', 500, 'nonsense')],
)
def test_missing_dataset_is_named_with_the_answer(
    datasetId: str, status: int, message: str, server: Server, client: UPennContrastAnnotationClient
) -> None:
    with pytest.raises(ServerError) as caught:
        client.getAnnotationsByDatasetId(datasetId)
    assert f'GET upenn_annotation for dataset {datasetId} failed with status {status}: ' in str(
        caught.value
    )
    assert message in str(caught.value)
    assert server.token not in str(caught.value)


def test_wrong_token_says_what_to_do(server: Server) -> None:
    datasetId, token = server.datasets['refused'], 'expired0123456789'
    client = UPennContrastAnnotationClient(server.apiUrl, token)
    denied = f'{datasetId} failed with status 401: .*denied.* start the job again'
    with pytest.raises(ServerError, match=denied) as caught:
        client.getAnnotationsByDatasetId(datasetId)
    assert token not in str(caught.value)
    with pytest.raises(
        ServerError, match=f'{datasetId} failed with status 401: You must be logged in. The token'
    ):
        client.createMultipleAnnotations([polygon(datasetId, [])])


PROPERTY = {
    'name': 'Similarity',
    'shape': 'polygon',
    'image': 'worker:latest',
    'tags': {'tags': ['Größe "µm"'], 'exclusive': False},
    'workerInterface': {},
}


def test_property_is_returned_with_its_id(client: UPennContrastAnnotationClient) -> None:
    created = client.createNewProperty(PROPERTY)
    assert created == {**PROPERTY, '_id': created['_id']}
    # It is there (an unknown one is refused with 400), but no configuration names it.
    with pytest.raises(
        ServerError, match='failed with status 403: Read access denied for property'
    ):
        client.client.get(f'annotation_property/{created["_id"]}')


def test_more_values_than_a_call_takes_are_stored(
    server: Server, client: UPennContrastAnnotationClient
) -> None:
    datasetId, propertyId = server.datasets['measured'], client.createNewProperty(PROPERTY)['_id']
    entries = [
        {
            'datasetId': datasetId,
            'annotationId': f'{n:024x}',
            'values': {propertyId: {'Similarity': n / 7}},
        }
        for n in range(20_001)
    ]
    client.addMultipleAnnotationPropertyValues(entries)
    assert (
        client.client.get('annotation_property_values', {'datasetId': datasetId, 'limit': 0})
        == entries
    )


@pytest.mark.parametrize(('count', 'calls'), [(1, 1), (10_000, 1), (10_001, 2)])
def test_values_need_few_calls(count: int, calls: int, fake_server: FakeServerStarter) -> None:
    server = fake_server(*[Answer()] * calls)
    client = UPennContrastAnnotationClient(server.apiUrl, 'token')
    client.addMultipleAnnotationPropertyValues([{'datasetId': 'd1'}] * count)
    paths = [f'{request.method} {request.path}' for request in server.requests]
    assert paths == ['POST /api/v1/annotation_property_values/multiple'] * calls


def test_refused_values_name_their_dataset(
    server: Server, client: UPennContrastAnnotationClient
) -> None:
    datasetId, propertyId = server.datasets['refused'], client.createNewProperty(PROPERTY)['_id']
    entry = {
        'datasetId': datasetId,
        'annotationId': '0' * 24,
        'values': {propertyId: {'Similarity': [0.5]}},
    }
    call = f'POST annotation_property_values/multiple for dataset {datasetId}'
    with pytest.raises(ServerError, match=f'{call} failed with status 400: Invalid'):
        client.addMultipleAnnotationPropertyValues([entry])
    assert client.client.get('annotation_property_values', {'datasetId': datasetId}) == []
