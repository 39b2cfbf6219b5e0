"""Each fault as a client sees it, and what is on the server afterwards."""

import http.client
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pydantic
import pytest
import requests

from tests.conftest import Server
from tests.datasets import make_layer, write_dataset
from tests.faulty_server import RULES

# Half of this fits into no buffer between server and client.
PIXELS = np.random.default_rng(0).integers(0, 2**16, (3500, 3500), np.uint16)
WRITE, READ = 'upenn_annotation/multiple', 'folder'
# All tests share a server: a rule counts the requests that have its case in their query.
FAULTS: list[dict[str, Any]] = [
    {'kind': 'refuse', 'path': 'api/v1', 'times': None},  # harms nothing: not part of any path
    {'kind': 'refuse', 'path': READ, 'query': 'case=refuse'},
    {'kind': 'refuse', 'path': WRITE, 'query': 'case=refuse'},
    {'kind': 'cut', 'path': 'tiles/region', 'query': 'case=cut'},
    {'kind': 'cut', 'path': WRITE, 'query': 'case=cut'},
    {'kind': 'lose', 'path': WRITE, 'query': 'case=lose'},
    {'kind': 'late', 'path': WRITE, 'query': 'case=late'},
    {'kind': 'hang', 'path': WRITE, 'query': 'case=hang'},
    {'kind': 'unavailable', 'path': WRITE, 'query': 'case=unavailable', 'times': 2},
    {'kind': 'busy', 'path': WRITE, 'query': 'case=busy', 'retry_after': 7},
    {'kind': 'truncate', 'path': 'tiles/region', 'query': 'case=truncate'},
    {'kind': 'too large', 'path': WRITE, 'query': 'case=large', 'bytes': 1000},
    {'kind': 'unavailable', 'path': READ, 'query': 'case=window', 'occurrence': 3, 'times': 3},
    {'kind': 'unavailable', 'path': READ, 'query': 'case=crowd', 'occurrence': 6, 'times': 5},
    {'kind': 'busy', 'path': READ, 'query': 'case=two', 'occurrence': 2},
    {'kind': 'unavailable', 'path': READ, 'query': 'case=two', 'times': 3},
    {
        'kind': 'unavailable',
        'path': 'annotation/mul',
        'query': '=filter&x=%20',
        'method': 'POST',
        'times': None,
    },
]


@pytest.fixture(scope='module')
def server(start_module_server, tmp_path_factory) -> Server:
    folder = tmp_path_factory.mktemp('images')
    write_dataset(folder, 'cells', PIXELS, [make_layer(0)])
    return start_module_server(folder, '--faults', json.dumps(FAULTS))


def call(
    server: Server, case: str, method: str = 'GET', path: str = '', **options: Any
) -> requests.Response:
    """Make one request, by default for the dataset's folder, on a connection of its own."""
    url = f'{server.apiUrl}/{path or "folder/" + server.datasets["cells"]}'
    parameters = {'case': case, **options.pop('params', {})}
    headers = {'Girder-Token': server.token}
    options = {'timeout': 60, **options}
    return requests.request(method, url, params=parameters, headers=headers, **options)


def write(server: Server, case: str, size: int = 0, **options: Any) -> requests.Response:
    """Send one annotation whose tag is the case, in a body of at least `size` bytes."""
    annotation = {
        'coordinates': [{'x': 1, 'y': 2}],
        'tags': [case],
        'channel': 0,
        'location': {'XY': 0, 'Z': 0, 'Time': 0},
        'shape': 'point',
        'datasetId': server.datasets['cells'],
    }
    body = json.dumps([annotation]).ljust(size)
    return call(server, case, 'POST', WRITE, data=body, **options)


def count_saved(server: Server, case: str) -> int:
    parameters = {'datasetId': server.datasets['cells'], 'tags': json.dumps([case])}
    return server.client.get('upenn_annotation/count', parameters)['count']


def region_path(server: Server) -> tuple[str, dict[str, str]]:
    item = server.client.get('item', {'folderId': server.datasets['cells']})[0]['_id']
    return f'item/{item}/tiles/region', {'encoding': 'pickle:5'}


def statuses(number: int, make_call: Callable[[], requests.Response]) -> list[int]:
    return [make_call().status_code for _ in range(number)]


def read_cut_answer(server: Server, path: str, parameters: dict[str, str]) -> tuple[int, bytes]:
    """Return the Content-Length and the bytes of an answer that ends too early."""
    connection = http.client.HTTPConnection(server.apiUrl.split('/')[2], timeout=60)
    query = urlencode(parameters)
    connection.request('GET', f'/api/v1/{path}?{query}', headers={'Girder-Token': server.token})
    response = connection.getresponse()
    with pytest.raises(http.client.IncompleteRead) as caught:
        response.read()
    connection.close()
    return int(response.headers['Content-Length']), caught.value.partial


def test_refused_request_is_reset_and_saves_nothing(server):
    with pytest.raises(requests.ConnectionError, match='Connection reset by peer'):
        call(server, 'refuse')
    # A client that is still sending its body may see a broken pipe.
    with pytest.raises(requests.ConnectionError):
        write(server, 'refuse')
    assert count_saved(server, 'refuse') == 0
    assert write(server, 'refuse').status_code == 200
    assert count_saved(server, 'refuse') == 1


def test_cut_answer_ends_after_half_of_its_length(server):
    path, parameters = region_path(server)
    whole = call(server, '', path=path, params=parameters).content
    assert len(whole) > PIXELS.nbytes
    announced, got = read_cut_answer(server, path, {**parameters, 'case': 'cut'})
    assert announced == len(whole)
    assert got == whole[: len(whole) // 2]


def test_cut_write_is_saved(server):
    with pytest.raises(requests.RequestException, match='IncompleteRead'):
        write(server, 'cut')
    assert count_saved(server, 'cut') == 1
    assert write(server, 'cut').status_code == 200


def test_lost_write_is_saved_but_not_answered(server):
    with pytest.raises(requests.ConnectionError, match='Connection reset by peer'):
        write(server, 'lose')
    assert count_saved(server, 'lose') == 1
    assert write(server, 'lose').status_code == 200


def test_late_write_is_saved_after_the_next_request(server):
    with pytest.raises(requests.ConnectionError, match='Connection reset by peer'):
        write(server, 'late')
    assert [count_saved(server, 'late') for _ in range(3)] == [0, 1, 1]


def test_hanging_write_is_not_saved(server):
    with pytest.raises(requests.ReadTimeout):
        write(server, 'hang', timeout=0.5)
    assert write(server, 'hang').status_code == 200
    assert count_saved(server, 'hang') == 1


def test_unavailable_server_saves_nothing(server):
    refused = write(server, 'unavailable')
    assert (refused.status_code, set(refused.json())) == (503, {'message', 'type'})
    assert statuses(2, lambda: write(server, 'unavailable')) == [503, 200]
    assert count_saved(server, 'unavailable') == 1


def test_busy_server_asks_for_a_pause(server):
    refused = write(server, 'busy')
    assert (refused.status_code, refused.headers['Retry-After']) == (429, '7')
    assert set(refused.json()) == {'message', 'type'}
    assert write(server, 'busy').status_code == 200
    assert count_saved(server, 'busy') == 1


def test_expired_token_is_wrong_on_every_path_from_there_on(start_server, tmp_path):
    write_dataset(tmp_path, 'cells', PIXELS[:4, :4], [make_layer(0)])
    rule = {'kind': 'expire', 'path': WRITE, 'occurrence': 2}
    server = start_server(tmp_path, '--faults', json.dumps([rule]))
    dataset_id = server.datasets['cells']
    assert [call(server, '').status_code, write(server, '').status_code] == [200, 200]
    refused = [write(server, ''), call(server, ''), write(server, '')]
    assert [answer.status_code for answer in refused] == [401, 401, 401]
    assert refused[0].json() == {'message': 'You must be logged in.', 'type': 'access'}
    message = refused[1].json()['message']
    assert message == f'Read access denied for folder {dataset_id} (user None).'
    views = call(server, '', path='dataset_view', params={'datasetId': dataset_id})
    assert (views.status_code, views.json()) == (200, [])


def test_truncated_answer_looks_complete(server):
    path, parameters = region_path(server)
    truncated = call(server, 'truncate', path=path, params=parameters)
    whole = call(server, 'truncate', path=path, params=parameters)
    half = len(whole.content) // 2
    assert (truncated.status_code, truncated.headers['Content-Length']) == (200, str(half))
    assert truncated.content == whole.content[:half]
    with pytest.raises(pickle.UnpicklingError, match='truncated'):
        pickle.loads(truncated.content)
    np.testing.assert_array_equal(pickle.loads(whole.content)[..., 0], PIXELS)


def test_large_body_is_always_refused(server):
    assert statuses(2, lambda: write(server, 'large', size=1001)) == [413, 413]
    assert statuses(2, lambda: write(server, 'large', size=1000)) == [200, 200]
    assert write(server, 'large', size=3_000_000).status_code == 413
    assert call(server, 'large').status_code == 200  # has no body
    assert count_saved(server, 'large') == 2


def test_connection_is_usable_after_a_large_body(server):
    url = f'{server.apiUrl}/{WRITE}'
    options = {'params': {'case': 'large'}, 'headers': {'Girder-Token': server.token}}
    with requests.Session() as session:
        assert session.post(url, data=b' ' * 3_000_000, **options).status_code == 413
        assert session.post(url, data=b'[]', **options).status_code == 200


def test_occurrence_and_times_select_the_harmed_requests(server):
    assert statuses(7, lambda: call(server, 'window')) == [200, 200, 503, 503, 503, 200, 200]


def test_simultaneous_requests_are_each_counted_once(server):
    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(lambda _: call(server, 'crowd').status_code, range(24)))
    assert (seen.count(503), seen.count(200)) == (5, 19)


def test_first_rule_harms_and_all_rules_count(server):
    assert statuses(5, lambda: call(server, 'two')) == [503, 429, 503, 200, 200]


@pytest.mark.parametrize(
    ('method', 'path', 'query', 'status'),
    [
        ('POST', WRITE, 'case=filter&x=%20', 503),
        ('POST', WRITE, 'y=1&case=filter&x=%20z', 503),
        ('GET', WRITE, 'case=filter&x=%20', 400),  # no such route
        ('POST', 'worker_interface', 'image=i&case=filter&x=%20', 200),
        ('POST', WRITE, 'case=filter&x=+', 200),  # equal, but not as it was sent
        ('POST', WRITE, '', 200),
    ],
)
def test_rule_counts_only_its_method_path_and_query(server, method, path, query, status):
    body = '{}' if path == 'worker_interface' else '[]'
    headers = {'Girder-Token': server.token}
    url = f'{server.apiUrl}/{path}?{query}'
    answer = requests.request(method, url, data=body, headers=headers, timeout=60)
    assert answer.status_code == status


def test_restarted_server_has_everything_but_its_faults(start_server, tmp_path):
    write_dataset(tmp_path, 'cells', PIXELS[:4, :4])
    rules = [
        {'kind': 'restart', 'method': 'POST', 'path': 'upenn_annotation', 'occurrence': 2},
        {'kind': 'busy', 'path': 'worker_interface', 'times': None},
    ]
    server = start_server(tmp_path, '--jobs-at-once', '0', '--faults', json.dumps(rules))
    assert write(server, 'saved').status_code == 200
    assert call(server, '', path='worker_interface', params={'image': 'i'}).status_code == 429
    with pytest.raises(requests.ConnectionError):
        write(server, 'not saved')
    ready = json.loads(server.process.stdout.readline())
    expected = {'apiUrl': server.apiUrl, 'token': server.token}
    assert ready == {**expected, 'datasets': server.datasets, 'users': server.users}
    assert (count_saved(server, 'saved'), count_saved(server, 'not saved')) == (1, 0)
    assert call(server, '', path='worker_interface', params={'image': 'i'}).status_code == 200
    # --jobs-at-once is kept
    assert call(server, '', 'POST', 'upenn_annotation/compute', data='{}').status_code == 403
    assert statuses(3, lambda: write(server, 'saved')) == [200, 200, 200]
    assert server.stop() == 0


def test_broken_connection_is_no_error_of_the_server(start_server, tmp_path, capfd):
    write_dataset(tmp_path, 'cells', PIXELS[:4, :4])
    kinds = ('refuse', 'cut', 'lose', 'late')
    rules = [{'kind': kind, 'path': READ, 'query': kind} for kind in kinds]
    server = start_server(tmp_path, '--faults', json.dumps(rules))
    for kind in kinds:
        with pytest.raises(requests.RequestException):
            call(server, kind)
        assert call(server, kind).status_code == 200
    assert server.stop() == 0
    assert capfd.readouterr().err == ''


@pytest.mark.parametrize(
    'rule',
    [
        {'kind': 'explode', 'path': READ},
        {'kind': 'cut'},
        {'kind': 'cut', 'path': ''},
        {'kind': 'cut', 'path': READ, 'after': 1},
        {'kind': 'cut', 'path': READ, 'method': 'get'},
        {'kind': 'cut', 'path': READ, 'occurrence': 0},
        {'kind': 'cut', 'path': READ, 'times': 0},
        {'kind': 'busy', 'path': READ, 'retry_after': 0.5},
    ],
    ids=str,
)
def test_wrong_rules_are_refused(rule):
    with pytest.raises(pydantic.ValidationError):
        RULES.validate_python([rule])


def test_server_with_a_wrong_rule_does_not_start(start_server, tmp_path, capfd):
    with pytest.raises(RuntimeError, match='status 2'):
        start_server(tmp_path, '--faults', '[{"kind": "explode"}]')
    assert 'argument --faults' in capfd.readouterr().err
