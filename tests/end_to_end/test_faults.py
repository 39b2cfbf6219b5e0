"""Batches of twelve frames on a server and a network that fail.

Every object is on the server once, or the job names the frames that are missing.
"""

import json
import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest

import entrypoint
from annotation_client.connection import Patience, ServerError
from annotation_server.store import Store
from fewshot.errors import JobError
from fewshot.server import Server
from fewshot.settings import KEEP, SKIP, parse_ranges
from tests.end_to_end.stand_in import (
    EXPECTED,
    FRAMES,
    frames_of,
    load_bright_segmenter,
    outline_example,
    place_objects,
    write_batch,
)
from tests.worker import REPOSITORY, make_params

CREATE = {'method': 'POST', 'path': 'upenn_annotation/multiple'}  # the first is the example
REGION = {'method': 'GET', 'path': 'tiles/region'}
SAVE_SCORES = {'method': 'POST', 'path': 'annotation_property_values/multiple'}
CREATE_PROPERTY = {'method': 'POST', 'path': 'annotation_property'}


@dataclass
class Outcome:
    """What became of a job.

    Attributes
    ----------
    error : Exception or None
    messages : list of dict
        What the page was told.
    places : Counter
        (XY, x, y of the first corner) of every object on the server.
    """

    error: Exception | None
    messages: list[dict]
    places: Counter

    def of(self, kind: str) -> list[dict]:
        """Return the messages of a kind: progress, warning or error."""
        return [message for message in self.messages if kind in message]

    @property
    def named(self) -> set[int]:
        """The XY positions that the error tells the user to search again."""
        (error,) = self.of('error')
        _, _, blocks = error['info'].partition('Start the job again with ')
        named: set[int] = set()
        for block in blocks.rstrip('.').split('; ') if blocks else []:
            text = block.partition('Batch XY: ')[2].partition(', Batch Z')[0]
            for first, last in parse_ranges(text) or []:
                named.update(range(first - 1, last))
        return named


def wait_for_server(apiUrl: str) -> Callable[[float], None]:
    """Return a pause that lasts until the server accepts connections: it may be restarting."""
    address = urlsplit(apiUrl)

    def pause(seconds: float) -> None:
        while True:
            try:
                socket.create_connection((str(address.hostname), address.port or 0)).close()
            except ConnectionRefusedError:
                time.sleep(0.01)
            else:
                return

    return pause


@pytest.fixture
def run(start_server, tmp_path, capsys, monkeypatch) -> Callable[..., Outcome]:
    """Return a function that runs a job on a server with faults."""
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))
    write_batch(tmp_path)

    def run_job(*faults: dict, **changes: Any) -> Outcome:
        running = start_server(tmp_path, '--faults', json.dumps(faults))
        datasetId = running.datasets['cells']
        running.client.post('upenn_annotation/multiple', json=[outline_example(datasetId)])
        form = {'Batch XY': 'all', 'Existing Outlines': KEEP, 'Min Mask Area': 0, **changes}
        pause = wait_for_server(running.apiUrl)
        patience = Patience(read_seconds=2, sleep=pause)
        error: Exception | None = None
        try:
            entrypoint.compute(
                datasetId,
                running.apiUrl,
                running.token,
                {**make_params(**form), 'tags': ['found']},
                load_segmenter=load_bright_segmenter,
                make_server=partial(Server, sleep=pause, patience=patience),
            )
        except (JobError, ServerError) as raised:
            error = raised
        messages = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        running.stop()  # its faults would also harm requests of this test
        with closing(Store(tmp_path / 'annotations.sqlite')) as store:
            made = store.annotations_json(datasetId, None, ['found'], limit=0, offset=0, after=0)
        return Outcome(error, messages, place_objects(json.loads(made)))

    return run_job


SURVIVED: dict[str, list[dict]] = {
    'upload answer lost': [{'kind': 'lose', **CREATE, 'occurrence': 5}],
    'upload answer cut': [{'kind': 'cut', **CREATE, 'occurrence': 6, 'times': 2}],
    'upload refused at the door': [{'kind': 'refuse', **CREATE, 'occurrence': 4, 'times': 2}],
    'upload too slow': [{'kind': 'late', **CREATE, 'occurrence': 4}],
    'upload unavailable': [{'kind': 'unavailable', **CREATE, 'occurrence': 3, 'times': 3}],
    'upload too large': [{'kind': 'too large', **CREATE, 'bytes': 700}],
    'image reset': [{'kind': 'refuse', **REGION, 'occurrence': 3, 'times': 3}],
    'image cut in mid-answer': [{'kind': 'cut', **REGION, 'occurrence': 5, 'times': 3}],
    'image too slow': [{'kind': 'hang', **REGION, 'occurrence': 4}],
    'server unavailable for a while': [
        {'kind': 'unavailable', **REGION, 'occurrence': 4, 'times': 5},
        {'kind': 'unavailable', **CREATE, 'occurrence': 4, 'times': 3},
        {'kind': 'unavailable', **SAVE_SCORES, 'occurrence': 4, 'times': 3},
    ],
    'server busy': [
        {'kind': 'busy', **REGION, 'occurrence': 3, 'times': 2, 'retry_after': 1},
        {'kind': 'busy', **CREATE, 'occurrence': 3, 'times': 2, 'retry_after': 1},
    ],
    'server restarted under an upload': [{'kind': 'restart', **CREATE, 'occurrence': 6}],
    'server restarted under a download': [{'kind': 'restart', **REGION, 'occurrence': 7}],
    'scores lost': [{'kind': 'lose', **SAVE_SCORES, 'times': 2}],
    'property lost': [{'kind': 'lose', **CREATE_PROPERTY}],
}


@pytest.mark.parametrize('name', SURVIVED)
def test_fault_that_passes_costs_nothing(run, name):
    outcome = run(*SURVIVED[name])
    assert outcome.error is None
    assert outcome.of('warning') + outcome.of('error') == []
    assert outcome.places == EXPECTED
    assert '36 objects in 12 frames' in outcome.messages[-1]['info']


def test_failed_frames_are_named(run):
    outcome = run(
        {'kind': 'truncate', **REGION, 'occurrence': 6},
        {'kind': 'truncate', **REGION, 'occurrence': 9, 'times': 2},
    )
    assert isinstance(outcome.error, JobError)
    assert '3 of 12 frames failed' in str(outcome.error)
    assert len(outcome.named) == 3
    complete = [place for place in EXPECTED if place[0] not in outcome.named]
    assert outcome.places == Counter(complete)
    warnings = [message['warning'] for message in outcome.of('warning')]
    assert len(warnings) == 3
    assert all(warning.endswith('failed. The batch goes on.') for warning in warnings)
    assert 'is not an array of pixels' in outcome.of('warning')[0]['info']


def test_three_equal_failures_in_a_row_end_the_job(run):
    outcome = run({'kind': 'truncate', **REGION, 'occurrence': 5, 'times': None})
    assert '3 frames in a row' in outcome.messages[-1]['info']
    assert outcome.named == set(range(FRAMES)) - frames_of(outcome.places)
    assert len(outcome.places) == 12
    assert len(outcome.of('warning')) == 2


@pytest.mark.parametrize('call', [REGION, CREATE, SAVE_SCORES])
def test_expired_token_ends_the_job_with_its_state(run, call):
    outcome = run({'kind': 'expire', **call, 'occurrence': 5})
    (error,) = outcome.of('error')
    assert 'token is wrong or has expired' in error['error']
    complete = frames_of(outcome.places) - outcome.named
    assert complete
    assert f'On the server: {len(outcome.places)} objects' in error['info']
    assert f'{len(complete)} frames complete' in error['info']
    assert outcome.named >= set(range(FRAMES)) - frames_of(outcome.places)
    assert max(outcome.places.values()) == 1


def test_server_that_stays_unavailable_ends_the_job_with_its_state(run):
    outcome = run(
        {'kind': 'unavailable', **REGION, 'occurrence': 8, 'times': None},
        {'kind': 'unavailable', **CREATE, 'occurrence': 6, 'times': None},
    )
    assert isinstance(outcome.error, JobError)
    assert '503' in str(outcome.error)
    assert outcome.places
    assert outcome.named == set(range(FRAMES)) - frames_of(outcome.places)


KINDS = ['lose', 'late', 'cut', 'refuse', 'truncate', 'unavailable', 'busy']
MENU: list[dict] = [
    *[{'kind': kind, **call} for kind in KINDS for call in (CREATE, REGION, SAVE_SCORES)],
    {'kind': 'restart', **REGION},
    {'kind': 'restart', **CREATE},
    {'kind': 'expire', **REGION},
    {'kind': 'expire', **CREATE},
]


@pytest.mark.parametrize('seed', range(20))
def test_mixture_of_faults_duplicates_nothing_and_names_what_is_missing(run, seed):
    rng = random.Random(seed)
    faults = [
        {**fault, 'occurrence': rng.randint(2, 14), 'times': rng.randint(1, 4)}
        for fault in rng.sample(MENU, rng.randint(2, 4))
    ]
    outcome = run(*faults)
    missing = EXPECTED - outcome.places
    assert outcome.places - EXPECTED == Counter(), faults  # neither duplicates nor anything else
    if outcome.error is None:
        assert not missing, faults
        return
    assert outcome.named >= frames_of(missing), faults
    if not any(fault['kind'] == 'expire' for fault in faults):
        assert outcome.named == frames_of(missing), faults


def test_repeated_job_adds_what_is_missing(run):
    first = run({'kind': 'truncate', **REGION, 'occurrence': 6}, **{'Existing Outlines': SKIP})
    assert first.error
    assert len(first.named) == 1
    batch = ', '.join(str(xy + 1) for xy in first.named)
    second = run(**{'Existing Outlines': SKIP, 'Batch XY': batch})
    assert second.error is None
    example = next(place for place in EXPECTED if place[0] == 0)  # exists already
    assert second.places == Counter(place for place in EXPECTED if place != example)
