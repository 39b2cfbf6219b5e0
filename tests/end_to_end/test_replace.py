"""Runs that replace the results of earlier runs, and results that have the tag of the examples.

A segmenter without a model finds the bright squares of three frames.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import entrypoint
from fewshot import messages
from fewshot.errors import JobError
from fewshot.settings import KEEP, REPLACE, SKIP
from tests.conftest import Server
from tests.datasets import make_layer, write_dataset
from tests.end_to_end.stand_in import (
    BrightSegmenter,
    list_scored,
    load_bright_segmenter,
    place_objects,
)
from tests.fewshot.conftest import pattern_of
from tests.worker import REPOSITORY, make_params

FRAMES = 3
SIDE = 96  # of a frame, pixels
LARGE = [(10, 10), (10, 60), (42, 46), (70, 16)]  # row and column of squares of 8 x 8
SMALL = [(30, 20), (80, 80)]  # of squares of 4 x 4
LARGE_ONLY = {'Min Mask Area': 40}
REMOVE = {'method': 'DELETE', 'path': 'upenn_annotation/multiple'}
ABOUT_OUTLINES = re.compile(
    '|'.join(
        pattern_of(message).rstrip('$')
        for message in (
            messages.NOTHING_FOUND,
            messages.TAGS_OVERLAP,
            messages.MOSTLY_KNOWN,
            messages.NOTHING_REPLACED,
            messages.RESULTS_NOT_REMOVED,
        )
    )
)
WORKER = f'{sys.executable} -m tests.end_to_end.stand_in'


def place(corners: Sequence[tuple[int, int]], *frames: int) -> Counter:
    """Return where `place_objects` sees these squares in these frames."""
    return Counter((xy, column + xy, row) for xy in frames for row, column in corners)


class Bench:
    """A server with the frames, and an example around the first large square of the first."""

    def __init__(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        self.server, self.capsys = server, capsys
        self.id = server.datasets['cells']
        self.said: list[dict] = []
        self.last = ''
        (self.example,) = self.outline(LARGE[0], ['example'])

    def outline(self, corner: tuple[int, int], tags: Sequence[str], xy: int = 0) -> list[dict]:
        """Create an annotation around a large square, as a user does. Return it in a list."""
        row, column = corner
        points = [(0, 0), (8, 0), (8, 8), (0, 8)]
        annotation = {
            'coordinates': [{'x': column + xy + x, 'y': row + y} for x, y in points],
            'tags': list(tags),
            'channel': 0,
            'location': {'XY': xy, 'Z': 0, 'Time': 0},
            'shape': 'polygon',
            'datasetId': self.id,
        }
        return self.server.client.post('upenn_annotation/multiple', json=[annotation])

    def params(self, tags: Sequence[str] = ('found',), **changes: Any) -> dict:
        """Return the parameters of a job that replaces the results in the first frame."""
        form = {'Existing Outlines': REPLACE, 'Min Mask Area': 0, **changes}
        return {**make_params(**form), 'tags': list(tags)}

    def run(
        self,
        tags: Sequence[str] = ('found',),
        load_segmenter: Callable = load_bright_segmenter,
        **changes: Any,
    ) -> None:
        """Run a job. `said` then has its messages, and `last` the last line of its log."""
        try:
            entrypoint.compute(
                self.id,
                self.server.apiUrl,
                self.server.token,
                self.params(tags, **changes),
                load_segmenter=load_segmenter,
            )
        finally:
            printed = self.capsys.readouterr()
            self.said = [json.loads(line) for line in printed.out.splitlines()]
            self.last = printed.err.splitlines()[-1]

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """Text and hint of the warnings of the last job, without advice on other fields."""
        shown = [(one['warning'], one['info']) for one in self.said if 'warning' in one]
        return [one for one in shown if re.match(ABOUT_OUTLINES, one[0])]

    def list_annotations(self, *tags: str) -> list[dict]:
        """Return the annotations with all of these tags."""
        query = {'datasetId': self.id, 'tags': json.dumps(tags), 'limit': 0}
        return self.server.client.get('upenn_annotation', parameters=query)

    def ids(self, *tags: str) -> set[str]:
        """Return the ids of the annotations with all of these tags."""
        return {one['_id'] for one in self.list_annotations(*tags)}

    def places(self, *tags: str) -> Counter:
        """Return where the annotations with all of these tags are."""
        return place_objects(self.list_annotations(*tags))

    def change_tags(self, annotation: dict, *tags: str) -> None:
        """Give an annotation other tags."""
        self.server.client.put(f'upenn_annotation/{annotation["_id"]}', json={'tags': list(tags)})

    def list_scored(self) -> set[str]:
        """Return the ids of the annotations with scores."""
        return list_scored(self.server, self.id)


@pytest.fixture
def serve(start_server, tmp_path, monkeypatch, capsys) -> Callable[..., Bench]:
    """Return a function that starts a server with the frames, and with faults."""
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))

    def start(*faults: dict, has_view: bool = True) -> Bench:
        frames = np.zeros((FRAMES, 1, 1, 1, SIDE, SIDE), np.uint8)
        for corners, side in ((LARGE, 8), (SMALL, 4)):
            for xy in range(FRAMES):
                for row, column in corners:
                    frames[xy, ..., row : row + side, column + xy : column + xy + side] = 255
        layers = [make_layer(0, mode='absolute', black=0, white=255)] if has_view else None
        write_dataset(tmp_path, 'cells', frames, layers)
        options = ['--worker', WORKER, '--jobs-at-once', '2', '--faults', json.dumps(faults)]
        return Bench(start_server(tmp_path, *options), capsys)

    return start


@pytest.fixture
def bench(serve) -> Bench:
    """Return a bench without faults."""
    return serve()


# A second run replaces the first


def test_second_run_replaces_the_first(bench):
    bench.run()
    first = bench.ids('found')
    assert bench.places('found') == place(LARGE[1:] + SMALL, 0)
    bench.run(**LARGE_ONLY)
    assert bench.places('found') == place(LARGE[1:], 0)
    assert not first & bench.ids('found')
    assert bench.ids('found') <= bench.list_scored()
    assert 'Removed: 5 earlier results.' in bench.last
    assert bench.warnings == []


@pytest.mark.parametrize('tags', [[], ['found', 'cell']])
def test_any_number_of_output_tags_is_replaced(bench, tags):
    bench.run(tags)
    assert len(bench.list_annotations()) == 1 + 5
    bench.run(tags, **LARGE_ONLY)
    assert bench.places() == place(LARGE, 0)  # with the example


def test_frame_where_nothing_is_found_is_cleared(bench):
    bench.run()
    bench.run(**{'Min Mask Area': 1000})
    assert bench.list_annotations('found') == []
    ((warning, _),) = bench.warnings
    assert re.match(pattern_of(messages.NOTHING_FOUND), warning)


def test_only_searched_frames_are_cleared(bench):
    bench.run(**{'Batch XY': 'all'})
    third = {one['_id'] for one in bench.list_annotations('found') if one['location']['XY'] == 2}
    bench.run(**LARGE_ONLY, **{'Batch XY': '1-2'})
    kept = place(LARGE[1:], 0) + place(LARGE, 1) + place(LARGE + SMALL, 2)
    assert bench.places('found') == kept
    assert third <= bench.ids('found')


def test_tiles_of_two_frames_replace_whole_frames(bench):
    bench.run(**{'Batch XY': '1-2'})
    bench.run(**LARGE_ONLY, **{'Batch XY': '1-2', 'Tile Size': 48})
    assert bench.places('found') == place(LARGE[1:], 0) + place(LARGE, 1)
    bench.run(**{'Batch XY': '1-2', 'Tile Size': 0})
    assert bench.places('found') == place(LARGE[1:] + SMALL, 0) + place(LARGE + SMALL, 1)
    assert bench.warnings == []


def test_each_job_of_a_batch_clears_its_own_frames(bench):
    bench.run(**{'Batch XY': 'all'})
    bench.run(**LARGE_ONLY, **{'Batch XY': 'all', 'Jobs': 3})
    while any(job['status'] not in (3, 4) for job in bench.server.client.get('job')):
        time.sleep(0.1)
    assert [job['status'] for job in bench.server.client.get('job')] == [3, 3]
    assert bench.places('found') == place(LARGE[1:], 0) + place(LARGE, 1, 2)


def test_results_of_other_tools_stay(bench):
    bench.run(['nucleus'])
    bench.run(['found', 'nucleus'], **{'Existing Outlines': KEEP})
    others = bench.ids()
    bench.run(['found'])
    bench.run(['found'])
    assert others <= bench.ids()


# What is never removed


def test_everything_of_the_user_stays(bench):
    bench.run()
    first, second, third, *others = bench.list_annotations('found')
    bench.change_tags(first, 'found', 'good')
    bench.change_tags(second, 'good')
    bench.change_tags(third, 'bad')  # a counter-example
    (by_hand,) = bench.outline(LARGE[1], ['found'], xy=1)  # without a score
    kept = {one['_id'] for one in (bench.example, first, second, third, by_hand)}
    changes = {'Batch XY': '1-2', 'Negative Tag': ['bad']}
    bench.run(**changes)
    assert kept <= bench.ids()
    assert not bench.ids() & {one['_id'] for one in others}


def test_outline_that_gets_another_tag_during_the_job_stays(bench):
    bench.run()
    chosen, *others = bench.list_annotations('found')

    class Meanwhile(BrightSegmenter):
        """Gives a result another tag while its frame is searched."""

        def propose(self, *arguments):
            bench.change_tags(chosen, 'found', 'good')
            return super().propose(*arguments)

    # With other points, nothing that the first run stored is used.
    bench.run(load_segmenter=lambda *_: Meanwhile(), **{'Points per side': 20})
    assert chosen['_id'] in bench.ids('good')
    assert not bench.ids() & {one['_id'] for one in others}


def test_outlines_of_the_user_are_not_added_again(bench):
    bench.run()
    bench.change_tags(bench.list_annotations('found')[0], 'found', 'good')
    bench.run()
    assert bench.places('found') == place(LARGE[1:] + SMALL, 0)


def test_nothing_is_removed_without_a_view(serve):
    bench = serve(has_view=False)
    bench.run()
    first = bench.ids()
    bench.run(**LARGE_ONLY)
    assert bench.ids() == first
    ((warning, hint),) = bench.warnings
    assert warning == messages.NOTHING_REPLACED.text
    assert 'Ask its owner' in hint


# Faults


@pytest.mark.parametrize('kind', ['lose', 'late', 'cut', 'refuse', 'unavailable', 'busy'])
def test_lost_removal_is_repeated(serve, kind):
    bench = serve({'kind': kind, **REMOVE, 'times': 2})
    bench.run(**{'Batch XY': '1-2'})
    bench.run(**LARGE_ONLY, **{'Batch XY': '1-2'})
    assert bench.places('found') == place(LARGE[1:], 0) + place(LARGE, 1)
    assert bench.warnings == []


def test_removal_that_fails_costs_no_frame(serve):
    bench = serve({'kind': 'too large', **REMOVE, 'times': 1})
    bench.run(**{'Batch XY': '1-2'})
    bench.run(**{'Batch XY': '1-2'})
    ((warning, _),) = bench.warnings
    assert 'Run again to remove the earlier results. And 1 more.' in warning
    doubled = place(LARGE[1:] + SMALL, 0) + place(LARGE + SMALL, 1)
    assert bench.places('found') == doubled + doubled
    assert '11 objects in 2 frames' in bench.last


def test_expired_login_leaves_the_frame_to_do(serve):
    bench = serve({'kind': 'expire', **REMOVE})
    bench.run(**{'Batch XY': '1-2'})
    with pytest.raises(JobError):
        bench.run(**{'Batch XY': '1-2'})
    assert 'Batch XY: 1-2' in bench.last


def test_job_that_dies_leaves_both_and_the_next_run_clears_both(serve):
    bench = serve({'kind': 'hang', **REMOVE})
    bench.run(**{'Batch XY': '1-2'})
    first = bench.ids('found')
    access = ['--apiUrl', bench.server.apiUrl, '--token', bench.server.token]
    params = json.dumps(bench.params(**{'Batch XY': '1-2'}))
    job = ['--request', 'compute', '--parameters', params, '--datasetId', bench.id]
    with subprocess.Popen(
        [*WORKER.split(), *access, *job], cwd=REPOSITORY, stdout=subprocess.DEVNULL, env=os.environ
    ) as process:
        while len(bench.list_scored()) < len(first) + 5:  # the scores of the first frame are saved
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    both = bench.ids('found')
    assert first < both
    assert len(both) == len(first) + 5
    bench.run(**LARGE_ONLY, **{'Batch XY': '1-2'})
    assert bench.places('found') == place(LARGE[1:], 0) + place(LARGE, 1)
    assert not both & bench.ids('found')


# Results with the tag of the examples


@pytest.mark.parametrize('existing', [SKIP, REPLACE, KEEP])
def test_results_with_the_tag_of_the_examples_are_not_examples(bench, caplog, existing):
    caplog.set_level('INFO')
    bench.run(['example'])
    assert len(bench.list_annotations('example')) == 1 + 5
    caplog.clear()
    bench.run(['example'], **{'Existing Outlines': existing})
    overlap = messages.TAGS_OVERLAP.fill(tags="'example'", used=1, count=6)
    assert bench.warnings[0] == overlap
    summary = json.loads(re.search(r'job summary (.*)', caplog.text)[1])
    assert summary['examples'] == 1
    assert bench.example['_id'] in bench.ids()
    added = {SKIP: 0, REPLACE: 0, KEEP: 6}[existing]
    assert len(bench.list_annotations('example')) == 1 + 5 + added


def test_results_alone_are_no_examples(bench):
    bench.run()
    with pytest.raises(JobError, match=pattern_of(messages.ONLY_RESULTS)):
        bench.run(['found'], **{'Training Tag': ['found']})
    bench.run(['other'], **{'Training Tag': ['found']})  # as the user wants


# A run that adds nothing


def test_second_run_that_skips_names_the_choice(bench):
    bench.run(**{'Existing Outlines': SKIP})
    assert bench.warnings == []
    bench.run(**{'Existing Outlines': SKIP})
    assert bench.warnings == [messages.MOSTLY_KNOWN.fill(known=6, found=6)]
    assert REPLACE in bench.warnings[0][1]
    bench.run(**{'Existing Outlines': REPLACE})
    assert bench.warnings == []


def test_examples_that_are_found_again_are_not_warned_of(bench):
    for corner in LARGE[1:]:
        bench.outline(corner, ['example'])
    changes = {'Existing Outlines': SKIP, 'Similarity Threshold': 0.95}
    bench.run(**LARGE_ONLY, **changes)
    assert '0 objects in 1 frame' in bench.last
    assert '4 already there' in bench.last
    assert bench.warnings == []
