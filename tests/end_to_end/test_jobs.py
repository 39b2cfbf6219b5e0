"""A batch that is split over jobs of the server: each object once, for any number of jobs."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import entrypoint
from fewshot import messages
from fewshot.settings import KEEP
from fewshot.shares import digest_examples
from tests.conftest import Server
from tests.end_to_end.stand_in import (
    EXPECTED,
    FRAMES,
    frames_of,
    list_scored,
    load_bright_segmenter,
    outline_example,
    place_objects,
    write_batch,
)
from tests.worker import REPOSITORY, make_params

SUCCESS, ERROR = 3, 4  # status of a job
WORKER = f'{sys.executable} -m tests.end_to_end.stand_in'


class Bench:
    """A server with the batch and one example, and the jobs on it."""

    def __init__(self, server: Server, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.server, self.folder, self.capsys = server, folder, capsys
        self.id = server.datasets['cells']
        (self.example,) = self.add(outline_example(self.id))

    def add(self, *annotations: dict) -> list[dict]:
        """Create annotations and return them."""
        return self.server.client.post('upenn_annotation/multiple', json=list(annotations))

    def run(self, jobs: int, **changes: Any) -> list[dict]:
        """Run the first job in this process. Return its messages."""
        form = {
            'Batch XY': 'all',
            'Existing Outlines': KEEP,
            'Min Mask Area': 0,
            'Jobs': jobs,
        }
        params = {**make_params(**{**form, **changes}), 'tags': ['found']}
        entrypoint.compute(
            self.id,
            self.server.apiUrl,
            self.server.token,
            params,
            load_segmenter=load_bright_segmenter,
        )
        printed = self.capsys.readouterr()
        self.last = printed.err.splitlines()[-1]
        return [json.loads(line) for line in printed.out.splitlines()]

    def start(self, params: dict) -> None:
        """Let the server start a job with these parameters."""
        query = {'datasetId': self.id}
        self.server.client.post('upenn_annotation/compute', parameters=query, json=params)

    def wait(self) -> list[dict]:
        """Wait until the jobs that the server started have ended. Return them."""
        while True:
            found = self.server.client.get('job')
            if all(job['status'] in (SUCCESS, ERROR) for job in found):
                return found
            time.sleep(0.2)

    def output_of(self, job: dict) -> str:
        """Return what a job has printed."""
        return (self.folder / 'jobs' / f'{job["_id"]}.out').read_text()

    def annotations(self, tag: str = 'found') -> list[dict]:
        """Return the annotations with a tag."""
        query = {'datasetId': self.id, 'tags': json.dumps([tag]), 'limit': 0}
        return self.server.client.get('upenn_annotation', parameters=query)

    def list_scored(self) -> set[str]:
        """Return the ids of the annotations that have scores."""
        return list_scored(self.server, self.id)


@pytest.fixture
def serve(start_server, tmp_path, monkeypatch, capsys) -> Callable[..., Bench]:
    """Return a function that starts a server with the batch, whose jobs need no model."""
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))
    write_batch(tmp_path)
    return lambda *options: Bench(
        start_server(tmp_path, '--worker', WORKER, *options), tmp_path, capsys
    )


def warnings_of(said: list[dict]) -> list[tuple[str, str]]:
    """Return text and hint of the warnings among messages."""
    return [(message['warning'], message['info']) for message in said if 'warning' in message]


@pytest.mark.parametrize('jobs', [1, 3, 5, 12])
def test_any_number_of_jobs_finds_every_object_once(serve, jobs):
    bench = serve('--jobs-at-once', '2')
    said = bench.run(jobs)
    others = bench.wait()
    names = [f'My cells ({number} of {jobs})' for number in range(2, jobs + 1)]
    assert [job['title'] for job in others] == names
    assert all(job['status'] == SUCCESS for job in others)
    assert place_objects(bench.annotations()) == EXPECTED
    split = [messages.SPLIT.fill(jobs=jobs, first=names[0])] if names else []
    assert warnings_of(said)[: len(split)] == split
    own = -(-FRAMES // jobs)
    assert f'{3 * own} objects in {own} frame' in said[-1]['info']
    assert bench.last.startswith(f'{3 * own} objects in {own} frame')
    assert all(name in bench.last for name in names)
    properties = bench.server.client.get('annotation_property')
    assert len(properties) == 1  # all jobs share it


def test_impossible_number_of_shares_becomes_the_nearest(serve):
    bench = serve('--jobs-at-once', '2')
    said = bench.run(3, **{'Batch XY': '1-2', 'Batch Z': '1'})
    other = messages.OTHER_NUMBER_OF_JOBS.fill(shares=2, jobs=3)
    assert other in warnings_of(said)
    assert [job['status'] for job in bench.wait()] == [SUCCESS]
    assert frames_of(place_objects(bench.annotations())) == {0, 1}


def test_refused_shares_stay_with_the_first_job(serve):
    bench = serve('--jobs-at-once', '0')
    said = bench.run(4)
    ((warning, reason),) = warnings_of(said)
    assert warning.startswith('3 of 4 jobs could not be started.')
    assert 'status 403' in reason
    assert place_objects(bench.annotations()) == EXPECTED
    assert '36 objects in 12 frames' in said[-1]['info']
    assert 'rest of the batch' not in bench.last


def test_share_is_refused_when_an_example_has_changed(serve):
    bench = serve('--jobs-at-once', '1')
    form = make_params(**{'Batch XY': '2', 'Min Mask Area': 0})
    digests = {bench.example['_id']: '0' * 16}
    bench.start({**form, 'tags': ['found'], 'fewshotExamples': digests})
    (job,) = bench.wait()
    assert job['status'] == ERROR
    assert 'The examples have changed since the batch was started' in bench.output_of(job)
    assert bench.annotations() == []


def test_failed_share_leaves_out_its_frames_only(serve):
    fault = {'kind': 'truncate', 'path': 'tiles/region', 'query': 'frame=10', 'times': None}
    bench = serve('--jobs-at-once', '1', '--faults', json.dumps([fault]))
    bench.run(3)
    jobs = bench.wait()
    assert sorted(job['status'] for job in jobs) == [SUCCESS, ERROR]
    places = place_objects(bench.annotations())
    assert frames_of(places) == set(range(FRAMES)) - {10}
    assert max(places.values()) == 1
    assert 'Batch XY: 11, Batch Z: 1, Batch Time: 1' in bench.output_of(jobs[-1])


def test_only_the_first_job_saves_the_similarities_of_the_examples(serve):
    bench = serve('--jobs-at-once', '1')
    (other,) = bench.add({**outline_example(bench.id)})
    form = make_params(**{'Batch XY': '2', 'Min Mask Area': 0})
    digests = digest_examples([bench.example, other])
    bench.start({**form, 'tags': ['found'], 'fewshotExamples': digests})
    assert [job['status'] for job in bench.wait()] == [SUCCESS]
    made = {one['_id'] for one in bench.annotations()}
    assert bench.list_scored() == made
    assert made

    bench.run(1, **{'Batch XY': '2'})
    assert bench.list_scored() >= {bench.example['_id'], other['_id']}


def test_share_does_not_learn_from_later_examples(serve):
    bench = serve('--jobs-at-once', '1')
    bench.add({**outline_example(bench.id), 'location': {'XY': 99, 'Z': 0, 'Time': 0}})
    said = bench.run(1, **{'Batch XY': '2'})
    assert '1 of 2 examples were ignored' in warnings_of(said)[0][0]
    form = make_params(**{'Batch XY': '3', 'Min Mask Area': 0})
    digests = digest_examples([bench.example])
    bench.start({**form, 'tags': ['child'], 'fewshotExamples': digests})
    (job,) = bench.wait()
    assert job['status'] == SUCCESS
    assert 'ignored' not in bench.output_of(job)
    assert len(bench.annotations('child')) == 3
