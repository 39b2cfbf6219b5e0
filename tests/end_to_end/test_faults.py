"""Batches of twelve frames on a server and a network that fail: every object once, or a job that names what is missing.

The model is not what is tested here: a stand-in outlines what is bright in a frame, so that a job takes a second.
"""
import json
import random
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from fewshot.parameters import parse_batch

import entrypoint
from annotation_client import connection
from annotation_client.connection import ServerError
from annotation_server.store import Store
from fewshot import retry
from tests.end_to_end.stand_in import (
    EXPECTED,
    FRAMES,
    STAND_INS,
    frames_of,
    outline_example,
    place_objects,
    write_batch,
)
from tests.worker import REPOSITORY, make_params

MULTIPLE = {'method': 'POST', 'path': 'upenn_annotation/multiple'}
REGION = {'method': 'GET', 'path': 'tiles/region'}


@dataclass
class Outcome:
    """What has become of a job."""

    error: Exception | None
    say: list[dict]  # what the page was told
    places: Counter  # (XY, x, y of the first corner) of every object on the server

    @property
    def named(self) -> set[int]:
        """The XY positions that the error tells the user to search again."""
        error, = [message for message in self.say if 'error' in message]
        _, _, text = error['info'].partition('Start the job again with ')
        return {number - 1 for block in text.rstrip('.').split('; ') if block
                for first, last in parse_batch(block.partition('Batch XY: ')[2].partition(', Batch Z')[0]) or []
                for number in range(first, last + 1)}


@pytest.fixture(autouse=True)
def hurry(monkeypatch) -> None:
    """No model, and pauses a fiftieth as long as in the field."""
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))
    monkeypatch.setattr(retry, 'PAUSES_SECONDS', (0.02, 0.04, 0.08))
    monkeypatch.setattr(connection.RETRY, 'backoff_factor', 0.02)
    monkeypatch.setattr(connection, 'TIMEOUT', (1, 1))
    for name, function in STAND_INS.items():
        monkeypatch.setattr(entrypoint, name, function)


@pytest.fixture
def run(start_server, tmp_path, capsys):
    """A function that runs a job on a server with faults."""
    write_batch(tmp_path)

    def run_job(*faults: dict, **changes: Any) -> Outcome:
        server = start_server(tmp_path, '--faults', json.dumps(faults))
        datasetId = server.datasets['cells']
        server.client.post('upenn_annotation/multiple', json=[outline_example(datasetId)])
        params = {**make_params(**{'Batch XY': 'all', 'Duplicates': 'keep', 'Min Mask Area': 0, **changes}),
                  'tags': ['found']}
        error: Exception | None = None
        try:
            entrypoint.compute(datasetId, server.apiUrl, server.token, params)
        except Exception as raised:  # noqa: BLE001 - which one it is, is what the tests look at
            error = raised
        say = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        server.stop()  # its faults would harm the look at what it has, too
        with closing(Store(tmp_path / 'annotations.sqlite')) as store:
            made = json.loads(store.annotations_json(datasetId, None, ['found'], limit=0, offset=0, after=0))
        return Outcome(error, say, place_objects(made))
    return run_job


# after: beyond what the job reads first, and the one write that the test makes itself
SURVIVED = {
    'upload answer lost': {'kind': 'lose', **MULTIPLE, 'after': 4},
    'upload answer cut': {'kind': 'cut', **MULTIPLE, 'after': 5, 'times': 2},
    'upload refused at the door': {'kind': 'refuse', **MULTIPLE, 'after': 3, 'times': 2},
    'upload too slow': {'kind': 'delay', **MULTIPLE, 'after': 3, 'seconds': 1.5},
    'upload unavailable': {'kind': 'unavailable', **MULTIPLE, 'after': 2, 'times': 3},
    'upload too large': {'kind': 'too large', **MULTIPLE, 'bytes': 700},
    'image reset': {'kind': 'refuse', **REGION, 'after': 2, 'times': 3},
    'image cut in mid-answer': {'kind': 'cut', **REGION, 'after': 4, 'times': 3},
    'image too slow': {'kind': 'delay', **REGION, 'after': 3, 'seconds': 1.5},
    'server unavailable for a second': {'kind': 'unavailable', 'after': 15, 'seconds': 1},
    'server busy': {'kind': 'busy', 'after': 14, 'times': 2, 'seconds': 1},
    'server restarted under an upload': {'kind': 'restart', **MULTIPLE, 'after': 5},
    'server restarted under a download': {'kind': 'restart', **REGION, 'after': 6},
    'scores lost': {'kind': 'lose', 'path': 'annotation_property_values', 'times': 2},
    'property lost': {'kind': 'lose', 'method': 'POST', 'path': 'annotation_property', 'times': 1},
}


@pytest.mark.parametrize('name', SURVIVED)
def test_a_fault_that_passes_costs_nothing(run, name):
    outcome = run(SURVIVED[name])
    assert outcome.error is None and not [one for one in outcome.say if 'warning' in one or 'error' in one]
    assert outcome.places == EXPECTED
    assert '36 objects in 12 frames' in outcome.say[-1]['info']


def test_a_frame_that_fails_is_left_out_and_named(run):
    outcome = run({'kind': 'truncate', **REGION, 'after': 5, 'times': 1},
                  {'kind': 'truncate', **REGION, 'after': 8, 'times': 2})
    assert isinstance(outcome.error, RuntimeError) and '3 of 12 frames failed' in str(outcome.error)
    assert len(outcome.named) == 3 and frames_of(outcome.places) == set(range(FRAMES)) - outcome.named
    assert outcome.places == Counter({place: 1 for place in EXPECTED if place[0] not in outcome.named})
    warnings = [one for one in outcome.say if 'warning' in one]
    assert len(warnings) == 3 and all('was left out' in one['warning'] for one in warnings)
    assert 'did not come as an array of pixels' in warnings[0]['info']


def test_the_same_failure_three_times_in_a_row_ends_the_job(run):
    outcome = run({'kind': 'truncate', **REGION, 'after': 4, 'times': None})
    assert '3 frames in a row' in outcome.say[-1]['info']
    assert outcome.named == set(range(FRAMES)) - frames_of(outcome.places) and len(outcome.places) == 12
    assert len([one for one in outcome.say if 'warning' in one]) == 2


@pytest.mark.parametrize('calls', [18, 25, 40])
def test_an_expired_token_ends_the_job_and_says_what_is_there_and_what_is_to_do(run, calls):
    outcome = run({'kind': 'expire', 'after': calls, 'times': None})
    error, = [one for one in outcome.say if 'error' in one]
    assert 'token is wrong or has expired' in error['error']
    complete = frames_of(outcome.places) - outcome.named
    assert f'On the server: {len(outcome.places)} object' in error['info'] and f'{len(complete)} frame' in error['info']
    assert outcome.named >= set(range(FRAMES)) - frames_of(outcome.places)
    assert max(outcome.places.values(), default=1) == 1


def test_a_server_that_stays_away_is_named_with_what_is_to_do(run, monkeypatch):
    monkeypatch.setattr(connection, 'PATIENCE', 0.3)
    outcome = run({'kind': 'unavailable', 'after': 30, 'times': None})
    assert outcome.error and '503' in str(outcome.error)
    assert outcome.named == set(range(FRAMES)) - frames_of(outcome.places) and outcome.places


MENU: list[dict] = [
    {'kind': 'lose', **MULTIPLE}, {'kind': 'cut', **MULTIPLE}, {'kind': 'refuse', **MULTIPLE},
    {'kind': 'truncate', **MULTIPLE}, {'kind': 'truncate', **REGION}, {'kind': 'cut', **REGION},
    {'kind': 'refuse'}, {'kind': 'unavailable'}, {'kind': 'unavailable', 'seconds': 0.3},
    {'kind': 'busy', 'seconds': 0}, {'kind': 'delay', 'seconds': 0.1}, {'kind': 'restart', **REGION},
    {'kind': 'lose', 'path': 'annotation_property_values'}, {'kind': 'expire', 'times': None},
]


@pytest.mark.parametrize('seed', range(20))
def test_any_mixture_of_faults_leaves_every_object_once_or_names_the_frames_that_lack(run, seed):
    rng = random.Random(seed)
    faults = [{'times': rng.randint(1, 4), **fault, 'after': rng.randint(12 if fault['kind'] == 'expire' else 2, 40)}
              for fault in rng.sample(MENU, rng.randint(2, 4))]
    outcome = run(*faults)
    assert max(outcome.places.values(), default=1) == 1, faults
    if outcome.error is None:
        assert outcome.places == EXPECTED, faults
    elif isinstance(outcome.error, ServerError) and not outcome.places:
        assert any('error' in one for one in outcome.say), faults  # it ended before the first frame
    else:
        whole = set(range(FRAMES)) - outcome.named
        missing = EXPECTED - outcome.places
        assert not frames_of(missing) & whole and not outcome.places - EXPECTED, faults
        assert frames_of(missing) == outcome.named or 'expire' in str(faults), faults


def test_a_job_that_is_started_again_adds_what_lacks_and_nothing_else(start_server, run):
    first = run({'kind': 'truncate', **REGION, 'after': 5, 'times': 1}, Duplicates='skip')
    assert first.error and len(first.named) == 1
    second = run(**{'Duplicates': 'skip', 'Batch XY': ', '.join(str(xy + 1) for xy in first.named)})
    assert second.error is None
    example = next(place for place in EXPECTED if place[0] == 0)  # is there already
    assert second.places == Counter({place: 1 for place in EXPECTED if place != example})


