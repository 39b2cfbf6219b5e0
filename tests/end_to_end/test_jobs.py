"""One batch over several jobs, which the server starts: every object once, whatever their number."""
import json
import sys
import time
from types import SimpleNamespace

import pytest

import entrypoint
from fewshot.shares import sign_examples
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

ENDED = (3, 4)  # status of a job: success, error


@pytest.fixture
def lab(start_server, tmp_path, monkeypatch, capsys):
    """A function that serves the batch, and one that runs a job there and waits for those that it starts."""
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))
    for name, function in STAND_INS.items():
        monkeypatch.setattr(entrypoint, name, function)
    write_batch(tmp_path)

    def serve(*options: str) -> SimpleNamespace:
        server = start_server(tmp_path, '--worker', f'{sys.executable} -m tests.end_to_end.stand_in', *options)
        datasetId = server.datasets['cells']
        example, = server.client.post('upenn_annotation/multiple', json=[outline_example(datasetId)])

        def run(jobs: int, **changes) -> list[dict]:
            params = {**make_params(**{'Batch XY': 'all', 'Duplicates': 'keep', 'Min Mask Area': 0, 'Jobs': jobs,
                                       **changes}), 'tags': ['found']}
            entrypoint.compute(datasetId, server.apiUrl, server.token, params)
            return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

        def wait() -> list[dict]:
            deadline = time.monotonic() + 240
            while time.monotonic() < deadline:
                found = server.client.get('job')
                if all(job['status'] in ENDED for job in found):
                    return found
                time.sleep(0.2)
            raise AssertionError(f'these jobs do not end: {found}')

        def look(tag: str = 'found') -> list[dict]:
            return server.client.get('upenn_annotation', parameters={
                'datasetId': datasetId, 'tags': json.dumps([tag]), 'limit': 0})

        return SimpleNamespace(server=server, id=datasetId, example=example, run=run, wait=wait, look=look,
                               folder=tmp_path)
    return serve


@pytest.mark.parametrize('jobs', [1, 3, 5, 12])
def test_any_number_of_jobs_finds_every_object_once(lab, jobs):
    bench = lab('--jobs-at-once', '2')
    say = bench.run(jobs)
    others = bench.wait()
    assert [job['title'] for job in others] == [f'My cells ({number} of {jobs})' for number in range(2, jobs + 1)]
    assert all(job['status'] == 3 for job in others)
    assert place_objects(bench.look()) == EXPECTED
    warnings = [one for one in say if 'warning' in one]
    assert len(warnings) == (jobs > 1) and all('Cancel ends the first job only' in one['info'] for one in warnings)
    own = -(-FRAMES // jobs)
    assert f'{3 * own} objects in {own} frame' in say[-1]['info']
    assert all(job['title'] in say[-1]['info'] for job in others)
    properties = bench.server.client.get('annotation_property')
    assert len(properties) == 1  # of all jobs together


def test_a_number_of_shares_that_cannot_be_written_becomes_the_nearest(lab):
    bench = lab('--jobs-at-once', '2')
    say = bench.run(3, **{'Batch XY': '1-2', 'Batch Z': '1'})
    warning, _ = [one for one in say if 'warning' in one]
    assert warning['warning'] == 'The batch is split into 2 jobs instead of 3'
    assert [job['status'] for job in bench.wait()] == [3]
    assert frames_of(place_objects(bench.look())) == {0, 1}


def test_a_share_that_the_server_refuses_stays_with_the_first_job(lab):
    bench = lab('--jobs-at-once', '0')
    say = bench.run(4)
    warning, = [one for one in say if 'warning' in one]
    assert warning['warning'] == '3 of 4 jobs could not be started' and 'status 403' in warning['info']
    assert place_objects(bench.look()) == EXPECTED and '36 objects in 12 frames' in say[-1]['info']
    assert 'rest of the batch' not in say[-1]['info']


def test_a_child_refuses_to_run_when_an_example_has_changed(lab):
    bench = lab('--jobs-at-once', '1')
    params = {**make_params(**{'Batch XY': '2', 'Min Mask Area': 0}), 'tags': ['found'],
              'fewshotExamples': {bench.example['_id']: '0' * 16}}
    bench.server.client.post('upenn_annotation/compute', parameters={'datasetId': bench.id}, json=params)
    job, = bench.wait()
    said = (bench.folder / 'jobs' / f'{job["_id"]}.out').read_text()
    assert job['status'] == 4 and 'The examples have changed since the batch was started' in said
    assert bench.look() == []


def test_a_child_that_fails_leaves_its_frames_and_no_other(lab):
    bench = lab('--jobs-at-once', '1', '--faults', json.dumps([
        {'kind': 'truncate', 'path': 'tiles/region', 'query': 'frame=10', 'times': None}]))
    bench.run(3)
    assert sorted(job['status'] for job in bench.wait()) == [3, 4]
    places = place_objects(bench.look())
    assert frames_of(places) == set(range(FRAMES)) - {10} and max(places.values()) == 1
    job = bench.server.client.get('job')[-1]
    said = (bench.folder / 'jobs' / f'{job["_id"]}.out').read_text()
    assert 'Batch XY: 11, Batch Z: 1, Batch Time: 1' in said


def test_later_examples_are_not_learned_from_by_a_child(lab):
    bench = lab('--jobs-at-once', '1')
    broken = {**outline_example(bench.id), 'location': {'XY': 99, 'Z': 0, 'Time': 0}}
    bench.server.client.post('upenn_annotation/multiple', json=[broken])
    say = bench.run(1, **{'Batch XY': '2'})
    assert '1 of 2 examples were left out' in str(say)
    params = {**make_params(**{'Batch XY': '3', 'Min Mask Area': 0}), 'tags': ['child'],
              'fewshotExamples': sign_examples([bench.example])}
    bench.server.client.post('upenn_annotation/compute', parameters={'datasetId': bench.id}, json=params)
    job, = bench.wait()
    said = (bench.folder / 'jobs' / f'{job["_id"]}.out').read_text()
    assert job['status'] == 3 and 'left out' not in said and len(bench.look('child')) == 3
