import argparse
import http.client
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import requests

from annotation_server.faults import parse_rules
from tests.conftest import REPOSITORY, Server
from tests.datasets import make_layer, write_dataset

# half of this fits into no buffer between server and client
PIXELS = np.random.default_rng(0).integers(0, 2**16, (3500, 3500), np.uint16)
SECONDS = 1.0
# One server for all: a rule is about the calls that carry its case in their query, which no route looks at.
RULES: list[dict[str, Any]] = [
    {
        'kind': 'refuse',
        'path': 'api/v1',
        'times': None,
    },  # matches no call: this stands before the path
    {'kind': 'refuse', 'query': 'case=refuse', 'times': 2},
    {'kind': 'cut', 'query': 'case=cut', 'times': 2},
    {'kind': 'lose', 'query': 'case=lose'},
    {'kind': 'delay', 'query': 'case=delay', 'seconds': SECONDS},
    {'kind': 'unavailable', 'query': 'case=unavailable', 'times': 2},
    {'kind': 'unavailable', 'query': 'case=outage', 'seconds': SECONDS, 'after': 1},
    {'kind': 'busy', 'query': 'case=busy', 'seconds': 7},
    {'kind': 'expire', 'query': 'case=expire', 'after': 2, 'times': None},
    {'kind': 'truncate', 'query': 'case=truncate'},
    {'kind': 'too large', 'query': 'case=large', 'bytes': 1000},
    {'kind': 'unavailable', 'query': 'case=window', 'after': 2, 'times': 3},
    {'kind': 'unavailable', 'query': 'case=crowd', 'after': 5, 'times': 5},
    {'kind': 'busy', 'query': 'case=two', 'seconds': 0, 'after': 1},
    {'kind': 'unavailable', 'query': 'case=two', 'times': 3},
    {
        'kind': 'unavailable',
        'query': '=filter&x=%20',
        'method': 'POST',
        'path': 'annotation/mul',
        'times': None,
    },
]


@pytest.fixture(scope='module')
def server(start_module_server, tmp_path_factory) -> Server:
    folder = tmp_path_factory.mktemp('images')
    write_dataset(folder, 'cells', PIXELS, [make_layer(0)])
    return start_module_server(folder, '--faults', json.dumps(RULES))


def call(
    server: Server, case: str, method: str = 'GET', path: str = '', **options: Any
) -> requests.Response:
    """Make one call, by default for the dataset's folder, on a connection of its own."""
    url = f'{server.apiUrl}/{path or "folder/" + server.datasets["cells"]}'
    parameters = {'case': case, **options.pop('params', {})}
    headers = {'Girder-Token': server.token}
    return requests.request(method, url, params=parameters, headers=headers, timeout=60, **options)


def write(server: Server, case: str, size: int = 0) -> requests.Response:
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
    return call(server, case, 'POST', 'upenn_annotation/multiple', data=body)


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
    connection.request(
        'GET', f'/api/v1/{path}?{urlencode(parameters)}', headers={'Girder-Token': server.token}
    )
    response = connection.getresponse()
    with pytest.raises(http.client.IncompleteRead) as caught:
        response.read()
    connection.close()
    return int(response.headers['Content-Length']), caught.value.partial


def test_a_refused_call_is_reset_and_saves_nothing(server):
    with pytest.raises(requests.ConnectionError, match='Connection reset by peer'):
        call(server, 'refuse')
    # a client that is still sending its body may learn of the reset by a broken pipe
    with pytest.raises(requests.ConnectionError):
        write(server, 'refuse')
    assert count_saved(server, 'refuse') == 0
    assert write(server, 'refuse').status_code == 200
    assert count_saved(server, 'refuse') == 1


def test_a_cut_answer_ends_after_half_of_the_length_that_it_announces(server):
    path, parameters = region_path(server)
    whole = call(server, '', path=path, params=parameters).content
    assert len(whole) > PIXELS.nbytes
    announced, got = read_cut_answer(server, path, {**parameters, 'case': 'cut'})
    assert announced == len(whole)
    assert got == whole[: len(whole) // 2]
    # the second harmed call, a write: it is carried out
    with pytest.raises(requests.RequestException, match='IncompleteRead'):
        write(server, 'cut')
    assert count_saved(server, 'cut') == 1
    assert write(server, 'cut').status_code == 200


def test_a_lost_call_is_saved_but_not_answered(server):
    with pytest.raises(requests.ConnectionError, match='Connection reset by peer'):
        write(server, 'lose')
    assert count_saved(server, 'lose') == 1
    assert write(server, 'lose').status_code == 200


def test_a_delayed_call_is_answered_late(server):
    start = time.monotonic()
    assert write(server, 'delay').status_code == 200
    assert time.monotonic() - start >= SECONDS
    assert count_saved(server, 'delay') == 1


def test_an_unavailable_server_refuses_calls_with_503(server):
    refused = write(server, 'unavailable')
    assert (refused.status_code, set(refused.json())) == (503, {'message', 'type'})
    assert statuses(2, lambda: write(server, 'unavailable')) == [503, 200]
    assert count_saved(server, 'unavailable') == 1


def test_an_outage_lasts_its_seconds_from_the_first_harmed_call_on(server):
    assert call(server, 'outage').status_code == 200
    time.sleep(SECONDS)  # the clock does not run yet
    before = time.monotonic()
    seen = [call(server, 'outage').status_code]
    while seen[-1] == 503:
        time.sleep(SECONDS / 20)
        seen.append(call(server, 'outage').status_code)
    assert time.monotonic() - before >= SECONDS
    assert len(seen) > 2  # more calls than "times"
    assert seen == [503] * (len(seen) - 1) + [200]
    assert call(server, 'outage').status_code == 200


def test_a_busy_server_says_how_long_to_wait(server):
    refused = write(server, 'busy')
    assert (refused.status_code, refused.headers['Retry-After']) == (429, '7')
    assert set(refused.json()) == {'message', 'type'}
    assert write(server, 'busy').status_code == 200
    assert count_saved(server, 'busy') == 1


def test_an_expired_token_is_answered_like_a_wrong_one_for_good(server):
    dataset_id = server.datasets['cells']
    assert statuses(2, lambda: write(server, 'expire')) == [200, 200]
    refused = [write(server, 'expire'), call(server, 'expire'), write(server, 'expire')]
    assert [answer.status_code for answer in refused] == [401, 401, 401]
    assert refused[0].json() == {'message': 'You must be logged in.', 'type': 'access'}
    assert (
        refused[1].json()['message'] == f'Read access denied for folder {dataset_id} (user None).'
    )
    views = call(server, 'expire', path='dataset_view', params={'datasetId': dataset_id})
    assert (views.status_code, views.json()) == (200, [])
    assert count_saved(server, 'expire') == 2
    assert call(server, 'another call').status_code == 200


def test_a_truncated_answer_looks_complete(server):
    path, parameters = region_path(server)
    truncated = call(server, 'truncate', path=path, params=parameters)
    whole = call(server, 'truncate', path=path, params=parameters)
    half = len(whole.content) // 2
    assert (truncated.status_code, truncated.headers['Content-Length']) == (200, str(half))
    assert truncated.content == whole.content[:half]
    with pytest.raises(pickle.UnpicklingError, match='truncated'):
        pickle.loads(truncated.content)
    np.testing.assert_array_equal(pickle.loads(whole.content)[..., 0], PIXELS)


def test_a_body_that_is_too_large_is_refused_every_time(server):
    assert statuses(2, lambda: write(server, 'large', size=1001)) == [413, 413]
    assert statuses(2, lambda: write(server, 'large', size=1000)) == [200, 200]
    assert write(server, 'large', size=3_000_000).status_code == 413
    assert call(server, 'large').status_code == 200  # no body at all
    assert count_saved(server, 'large') == 2


def test_a_refusal_of_a_large_body_leaves_the_connection_usable(server):
    url = f'{server.apiUrl}/upenn_annotation/multiple'
    options = {'params': {'case': 'large'}, 'headers': {'Girder-Token': server.token}}
    with requests.Session() as session:
        assert session.post(url, data=b' ' * 3_000_000, **options).status_code == 413
        assert session.post(url, data=b'[]', **options).status_code == 200


def test_the_calls_after_the_first_are_harmed_as_often_as_the_rule_says(server):
    assert statuses(7, lambda: call(server, 'window')) == [200, 200, 503, 503, 503, 200, 200]


def test_calls_at_the_same_time_are_each_counted_once(server):
    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(lambda _: call(server, 'crowd').status_code, range(24)))
    assert (seen.count(503), seen.count(200)) == (5, 19)


def test_of_two_rules_the_first_gets_the_call_and_the_second_counts_it(server):
    assert statuses(5, lambda: call(server, 'two')) == [503, 429, 503, 200, 200]


@pytest.mark.parametrize(
    'method, path, query, status',
    [
        ('POST', 'upenn_annotation/multiple', 'case=filter&x=%20', 503),
        ('POST', 'upenn_annotation/multiple', 'y=1&case=filter&x=%20z', 503),
        ('GET', 'upenn_annotation/multiple', 'case=filter&x=%20', 400),  # no such route
        ('POST', 'worker_interface', 'image=i&case=filter&x=%20', 200),
        (
            'POST',
            'upenn_annotation/multiple',
            'case=filter&x=+',
            200,
        ),  # the same to a route, but not as it was sent
        ('POST', 'upenn_annotation/multiple', '', 200),
    ],
)
def test_a_rule_harms_only_what_has_its_method_path_and_query(server, method, path, query, status):
    body = '{}' if path == 'worker_interface' else '[]'
    headers = {'Girder-Token': server.token}
    answer = requests.request(
        method, f'{server.apiUrl}/{path}?{query}', data=body, headers=headers, timeout=60
    )
    assert answer.status_code == status


def test_a_restarted_server_has_everything_but_its_faults(start_server, tmp_path):
    write_dataset(tmp_path, 'cells', PIXELS[:4, :4])
    rules = [
        {'kind': 'restart', 'method': 'POST', 'path': 'upenn_annotation', 'after': 1},
        {'kind': 'busy', 'path': 'worker_interface', 'times': None, 'seconds': 1},
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


def test_a_broken_connection_is_no_error_of_the_server(start_server, tmp_path, capfd):
    write_dataset(tmp_path, 'cells', PIXELS[:4, :4])
    kinds = ('refuse', 'cut', 'lose')
    server = start_server(
        tmp_path, '--faults', json.dumps([{'kind': kind, 'query': kind} for kind in kinds])
    )
    for kind in kinds:
        with pytest.raises(requests.RequestException):
            call(server, kind)
        assert call(server, kind).status_code == 200
    assert server.stop() == 0
    assert capfd.readouterr().err == ''


@pytest.mark.parametrize(
    'text, messages',
    [
        ('[{]', ['Invalid JSON', '[{]']),
        ('', ['Invalid JSON']),
        ('{"kind": "cut"}', ['the list of rules', 'list', "{'kind': 'cut'}"]),
        ('["cut"]', ['rule 1', "'cut'"]),
        (
            '[{"kind": "cut"}, {"kind": "explode"}]',
            ['rule 2: kind', "'refuse', 'cut'", "'explode'"],
        ),
        ('[{}]', ['rule 1: kind', 'required']),
        ('[{"kind": "cut", "colour": 1}]', ['rule 1: colour', 'not permitted']),
        (
            '[{"kind": "cut", "method": "get"}]',
            ['rule 1: method', "'GET', 'POST', 'PUT' or 'DELETE'", "'get'"],
        ),
        ('[{"kind": "cut", "path": 1}]', ['rule 1: path']),
        ('[{"kind": "cut", "query": null}]', ['rule 1: query']),
        ('[{"kind": "cut", "after": -1}]', ['rule 1: after', '-1']),
        ('[{"kind": "cut", "after": "1"}]', ['rule 1: after', "'1'"]),
        ('[{"kind": "cut", "times": 0}]', ['rule 1: times', '0']),
        ('[{"kind": "cut", "times": true}]', ['rule 1: times', 'True']),
        ('[{"kind": "delay", "seconds": -0.5}]', ['rule 1: seconds', '-0.5']),
        ('[{"kind": "delay", "seconds": NaN}]', ['rule 1: seconds', 'nan']),
        ('[{"kind": "delay"}]', ['"delay" needs "seconds"']),
        ('[{"kind": "busy"}]', ['"busy" needs "seconds"']),
        ('[{"kind": "busy", "seconds": 0.5}]', ['whole number, not 0.5']),
        ('[{"kind": "cut", "seconds": 1}]', ['"cut" has no "seconds"']),
        ('[{"kind": "too large"}]', ['"too large" needs "bytes"']),
        ('[{"kind": "refuse", "bytes": 9}]', ['"refuse" has no "bytes"']),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_what_was_given(text, messages):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        parse_rules(text)
    for message in messages:
        assert message in str(caught.value)


def test_a_server_with_such_a_rule_does_not_start(tmp_path):
    command = [
        sys.executable,
        '-m',
        'annotation_server',
        str(tmp_path),
        '--faults',
        '[{"kind": "explode"}]',
    ]
    ended = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, '')
    assert "argument --faults: rule 1: kind: Input should be 'refuse'" in ended.stderr
    assert ended.stderr.endswith("but this was given: 'explode'\n")


def test_only_a_limit_of_size_holds_for_all_calls_by_itself():
    cut, large, twice = parse_rules(
        '[{"kind": "cut"}, {"kind": "too large", "bytes": 1}, {"kind": "too large", "bytes": 1, "times": 2}]'
    )
    assert (cut.times, large.times, twice.times) == (1, None, 2)
