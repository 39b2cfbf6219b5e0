"""The jobs of the other shares of a batch, and the examples that they have in common."""

import json
from typing import Any

import pytest
from girder_client import HttpError

from fewshot import messages
from fewshot.batch import Block
from fewshot.errors import JobError
from fewshot.geometry import Location
from fewshot.settings import parse_ranges
from fewshot.shares import (
    MAX_PARAMETERS_CHARACTERS,
    digest,
    digest_examples,
    keep_shared_examples,
    narrow_params,
    start_shares,
)
from tests.fewshot.conftest import http_error, make_server
from tests.worker import make_params


def example(id: str, left: float = 1, **changes: Any) -> dict[str, Any]:
    return {
        '_id': id,
        'coordinates': [{'x': left, 'y': 2}],
        'tags': ['example'],
        'location': {'XY': 0, 'Z': 0, 'Time': 0},
        **changes,
    }


LOCATIONS = [Location(xy, 0, 0) for xy in range(6)]
EXAMPLES = [example('a'), example('b')]


# Starting the jobs


def test_each_share_but_the_first_is_started(page):
    server = make_server({}, {})
    params = make_params(**{'Batch XY': 'all'})
    shares = start_shares(server, params, 3, LOCATIONS, EXAMPLES, page.reporter())
    assert shares.own == LOCATIONS[:2]
    assert shares.other_jobs == ['My cells (2 of 3)', 'My cells (3 of 3)']
    assert server.client.requests == ['POST upenn_annotation/compute'] * 2
    sent = server.client.bodies
    assert [one['workerInterface']['Batch XY'] for one in sent] == ['3-4', '5-6']
    assert all(one['fewshotExamples'] == digest_examples(EXAMPLES) for one in sent)
    assert page.warnings == [messages.SPLIT.fill(jobs=3, first='My cells (2 of 3)')]


def test_refused_shares_stay_with_the_first_job(page):
    refusal = http_error(403)
    server = make_server(refusal, {}, http_error(None))
    shares = start_shares(server, make_params(), 4, LOCATIONS[:4], EXAMPLES, page.reporter())
    assert shares.own == [LOCATIONS[0], LOCATIONS[1], LOCATIONS[3]]
    assert shares.other_jobs == ['My cells (3 of 4)']
    assert page.warnings == [
        messages.SPLIT.fill(jobs=2, first='My cells (3 of 4)'),
        messages.JOBS_NOT_STARTED.fill(refused=2, jobs=4, reason=refusal),
    ]


def test_without_other_jobs_the_batch_is_not_split(page):
    server = make_server(http_error(403))
    shares = start_shares(server, make_params(), 2, LOCATIONS, EXAMPLES, page.reporter())
    assert shares == (LOCATIONS, [])
    assert [text for text, _ in page.warnings] == [
        messages.JOBS_NOT_STARTED.fill(refused=1, jobs=2, reason=http_error(403))[0]
    ]


def test_expired_login_is_raised(page):
    with pytest.raises(HttpError):
        start_shares(
            make_server(http_error(401)), make_params(), 2, LOCATIONS, EXAMPLES, page.reporter()
        )


def test_other_number_of_jobs_is_told(page):
    server = make_server(*[{}] * 5)
    start_shares(server, make_params(), 9, LOCATIONS, EXAMPLES, page.reporter())
    assert page.warnings[0] == messages.OTHER_NUMBER_OF_JOBS.fill(shares=6, jobs=9)


def test_single_location_starts_no_job(page):
    server = make_server()
    shares = start_shares(server, make_params(), 4, LOCATIONS[:1], EXAMPLES, page.reporter())
    assert shares == (LOCATIONS[:1], [])


def test_too_many_examples_keep_the_batch_whole(page):
    examples = [example(f'{number:024x}') for number in range(MAX_PARAMETERS_CHARACTERS // 40)]
    shares = start_shares(make_server(), make_params(), 2, LOCATIONS, examples, page.reporter())
    assert shares == (LOCATIONS, [])
    assert page.warnings == [messages.TOO_MANY_EXAMPLES_TO_SPLIT.fill(count=len(examples))]


def test_two_thousand_examples_fit_into_the_parameters():
    examples = [example(f'{number:024x}') for number in range(2_000)]
    params = narrow_params(make_params(), Block((0,), (0,), (0,)), 2, 3, digest_examples(examples))
    assert len(json.dumps(params)) < MAX_PARAMETERS_CHARACTERS


def test_parameters_differ_in_batch_jobs_and_name():
    form = {'Training Tag': ['example'], 'Batch XY': 'all', 'Jobs': '4', 'Smoothing': 1}
    params = {'name': 'My cells', 'tags': ['cell'], 'workerInterface': form}
    share = Block((0, 1, 2, 6), (3,), (0, 1))
    child = narrow_params(params, share, 2, 4, {'a': 'b'})
    batch = {'Batch XY': '1-3, 7', 'Batch Z': '4', 'Batch Time': '1-2'}
    assert child == {
        'name': 'My cells (2 of 4)',
        'tags': ['cell'],
        'fewshotExamples': {'a': 'b'},
        'workerInterface': {**form, **batch, 'Jobs': 1},
    }
    assert parse_ranges(child['workerInterface']['Batch XY']) == [(1, 3), (7, 7)]
    assert params['workerInterface'] is form
    assert form['Jobs'] == '4'


def test_job_without_a_name_gets_one():
    child = narrow_params({'workerInterface': {}}, Block((0,), (0,), (0,)), 2, 2, {})
    assert child['name'] == 'SAM few-shot (2 of 2)'


# The examples that all jobs learn from


def test_later_examples_are_ignored():
    started = [example('b'), example('a', 5)]
    now = [example('a', 5), example('later', 7), example('b')]
    assert keep_shared_examples(now, digest_examples(started)) == started


@pytest.mark.parametrize(
    ('now', 'gone', 'changed'),
    [
        ([example('a')], 1, 0),
        ([], 2, 0),
        ([example('a'), example('b', 1.001)], 0, 1),
        ([example('b', 3)], 1, 1),
        ([example('a'), example('b', tags=['example', 'more'])], 0, 1),
        ([example('a'), example('b', location={'XY': 1, 'Z': 0, 'Time': 0})], 0, 1),
    ],
)
def test_changed_examples_are_refused(now, gone, changed):
    with pytest.raises(JobError) as caught:
        keep_shared_examples(now, digest_examples(EXAMPLES))
    text, _ = messages.EXAMPLES_CHANGED.fill(gone=gone, changed=changed)
    assert caught.value.message == text


def test_digest_ignores_other_keys_and_their_order():
    backwards = dict(reversed(example('a', channel=3).items()))
    assert digest(backwards) == digest(example('a'))


def test_examples_without_id_have_no_digest():
    assert list(digest_examples([example('a'), {'coordinates': []}, example(7)])) == ['a']  # type: ignore[arg-type]
