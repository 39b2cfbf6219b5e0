import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from annotation_server import jobs
from tests.annotation_server.conftest import ABSENT_ID, refusal
from tests.conftest import REPOSITORY, Server, StartServer
from tests.datasets import write_dataset
from tests.worker import make_params

QUEUED, RUNNING, SUCCESS, ERROR = 1, 2, 3, 4
# A worker that records its events and obeys its parameters: it waits until the file `until` exists,
# sends SIGUSR1 to the server at SIGTERM if `interrupts`, goes on after SIGTERM if `stubborn`, and
# ends with `status`.
WORKER = """
import json, os, signal, sys, time

def note(event, **more):
    with open(sys.argv[1], 'a') as file:
        record = {'event': event, 'name': wish['name'], 'pid': os.getpid(), **more}
        file.write(json.dumps(record) + chr(10))

def end(*_):
    note('SIGTERM')
    if wish.get('interrupts'):
        os.kill(os.getppid(), signal.SIGUSR1)
    if not wish.get('stubborn'):
        sys.exit(143)

wish = json.loads(sys.argv[sys.argv.index('--parameters') + 1])
signal.signal(signal.SIGTERM, end)
checkpoints = os.environ.get('SAM_CHECKPOINT_DIR')
note('start', arguments=sys.argv[2:], folder=os.getcwd(), checkpoints=checkpoints)
print('to stdout')
print('to stderr', file=sys.stderr)
while 'until' in wish and not os.path.exists(wish['until']):
    time.sleep(0.01)
note('end')
sys.exit(wish.get('status', 0))
"""


@dataclass(frozen=True)
class Bench:
    """A server whose jobs run WORKER, and the folder in which both leave their files."""

    server: Server
    folder: Path

    def start(self, name: str, **wishes: Any) -> dict[str, Any]:
        """Start a job and return the answer."""
        return self.send(json.dumps({'image': 'i', 'name': name, **wishes}))

    def send(self, body: str) -> dict[str, Any]:
        """Start a job with parameters of exactly this text."""
        query = {'datasetId': self.server.datasets['cells']}
        (record,) = self.server.client.post('upenn_annotation/compute', query, data=body.encode())
        return record

    def status(self, job: dict[str, Any]) -> int:
        return self.server.client.get(f'job/{job["_id"]}')['status']

    def wait(self, job: dict[str, Any], status: int) -> None:
        """Return once a job has a status."""
        wait_until(lambda: self.status(job) == status)

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the events of the workers in order; with `kinds`, only events of these kinds."""
        path = self.folder / 'events'
        events = (
            [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        )
        return [event for event in events if not kinds or event['event'] in kinds]

    def names(self, *kinds: str) -> list[str]:
        """Return the names of the jobs of these events."""
        return [event['name'] for event in self.events(*kinds)]

    def read(self, job: dict[str, Any], suffix: str) -> str:
        """Return a file that the server keeps of a job."""
        return (self.folder / 'jobs' / f'{job["_id"]}.{suffix}').read_text()


@pytest.fixture
def start_bench(start_server: StartServer, tmp_path: Path) -> Callable[..., Bench]:
    """Return a function that starts a server with these further options."""

    def start(*options: str) -> Bench:
        return Bench(start_server(tmp_path, *prepare(tmp_path), *options), tmp_path)

    return start


@pytest.fixture(scope='module')
def bench(start_module_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Return a server that runs one job at once. Every test waits for its jobs to end."""
    folder = tmp_path_factory.mktemp('jobs of one server')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SAM_CHECKPOINT_DIR', 'where checkpoints lie')
        return Bench(start_module_server(folder, *prepare(folder)), folder)


def prepare(folder: Path) -> list[str]:
    """Put a dataset and the worker into a folder. Return the server's option that runs it."""
    write_dataset(folder, 'cells', np.zeros((3, 4), np.uint8))
    (folder / 'worker.py').write_text(WORKER)
    return ['--worker', f'{sys.executable} "{folder}/worker.py" "{folder}/events"']


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody waits for counts as alive."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_gets_its_arguments_word_for_word_and_in_the_order_of_nimbusimage(bench):
    body = (
        '{ "name":"Zellen \\u00e4\\n ä",  "image" : "a/b:latest", "n": 1.50, "n": 2e0, '
        '"quote": "\'$HOME" }\n'
    )
    job = bench.send(body)
    bench.wait(job, SUCCESS)
    begun = bench.events('start')[-1]
    assert begun['arguments'] == [
        *('--apiUrl', bench.server.apiUrl, '--token', bench.server.token, '--request', 'compute'),
        *('--parameters', body, '--datasetId', bench.server.datasets['cells']),
    ]
    assert begun['folder'] == str(REPOSITORY)
    assert begun['checkpoints'] == 'where checkpoints lie'
    assert job['title'] == 'Zellen ä\n ä'


def test_what_a_worker_prints_and_its_log_are_kept_apart(bench):
    job = bench.start('prints')
    bench.wait(job, SUCCESS)
    assert (bench.read(job, 'out'), bench.read(job, 'log')) == ('to stdout\n', 'to stderr\n')


@pytest.mark.parametrize(('exit_status', 'end'), [(0, SUCCESS), (1, ERROR), (143, ERROR)])
def test_a_job_is_inactive_when_answered_then_runs_and_ends_as_its_worker_does(
    bench, exit_status, end
):
    go = bench.folder / f'go {exit_status}'
    job = bench.start('held', until=str(go), status=exit_status)
    assert (job['title'], job['status']) == ('held', 0)
    bench.wait(job, RUNNING)
    go.touch()
    bench.wait(job, end)
    assert bench.server.client.get(f'job/{job["_id"]}') == {**job, 'status': end}


def test_jobs_beyond_the_limit_wait_in_the_order_in_which_they_came(bench):
    before, go = len(bench.events()), bench.folder / 'go in order'
    known = bench.server.client.get('job')
    started = [bench.start(name, until=str(go)) for name in 'dacb']
    bench.wait(started[0], RUNNING)
    wait_until(lambda: len(bench.events()) > before)
    assert [bench.status(job) for job in started] == [RUNNING, QUEUED, QUEUED, QUEUED]
    go.touch()
    bench.wait(started[-1], SUCCESS)
    happened = [(event['event'], event['name']) for event in bench.events()[before:]]
    assert happened == [(event, name) for name in 'dacb' for event in ('start', 'end')]
    assert bench.server.client.get('job') == known + [{**job, 'status': SUCCESS} for job in started]


def test_as_many_jobs_run_at_once_as_the_option_says(start_bench):
    bench = start_bench('--jobs-at-once', '2')
    go = bench.folder / 'go'
    started = [bench.start(name, until=str(go)) for name in 'abcde']
    wait_until(lambda: len(bench.events()) == 2)
    assert [bench.status(job) for job in started] == [RUNNING, RUNNING, QUEUED, QUEUED, QUEUED]
    assert {*bench.names('start')} == {*'ab'}
    go.touch()
    for job in started:
        bench.wait(job, SUCCESS)
    running = [0]
    for event in bench.events():
        running.append(running[-1] + (1 if event['event'] == 'start' else -1))
    assert (max(running), running[-1]) == (2, 0)


def test_a_user_who_may_start_no_jobs_is_refused(start_bench):
    bench = start_bench('--jobs-at-once', '0')
    expected = (403, 'Write access denied: this user may not start jobs.', 'access')
    assert refusal(bench.start, 'none') == expected
    assert bench.server.client.get('job') == []


def test_a_worker_gets_the_token_of_the_user_who_starts_it(bench):
    query = {'datasetId': bench.server.datasets['cells']}
    writer = bench.server.client_of('writer')
    (job,) = writer.post(
        'upenn_annotation/compute', query, json={'image': 'i', 'name': 'of the writer'}
    )
    bench.wait(job, SUCCESS)
    begun = bench.events('start')[-1]
    assert begun['arguments'][3] == bench.server.users['writer']


@pytest.mark.parametrize('user', ['reader', 'stranger'])
def test_a_user_without_the_right_to_write_starts_no_job(bench, user):
    known = bench.server.client.get('job')
    query = {'datasetId': bench.server.datasets['cells']}
    client = bench.server.client_of(user)
    expected = (403, 'Write access denied for folder ID (user ID).', 'access')
    assert (
        refusal(client.post, 'upenn_annotation/compute', query, data='{"image": "i"}') == expected
    )
    assert bench.server.client.get('job') == known


def test_a_worker_that_cannot_be_started_is_an_error_that_its_log_names(bench):
    job = bench.start('long', text='x' * 2**17)  # Linux takes 128 KiB an argument
    bench.wait(job, ERROR)
    assert 'The worker did not start: [Errno 7] Argument list too long' in bench.read(job, 'log')
    after = bench.start('after')
    bench.wait(after, SUCCESS)


def test_without_the_option_the_worker_of_the_repository_runs(start_server, tmp_path):
    write_dataset(tmp_path, 'cells', np.zeros((3, 4), np.uint8))
    bench = Bench(start_server(tmp_path), tmp_path)
    job = bench.send(json.dumps(make_params(**{'Training Tag': []})))
    bench.wait(job, ERROR)
    assert 'Training Tag' in json.loads(bench.read(job, 'out'))['error']
    assert job['title'] == 'My cells'


@pytest.mark.parametrize(
    ('dataset_id', 'body', 'expected'),
    [
        (ABSENT_ID, '{"image": "i"}', (400, 'Invalid dataset id in annotation', 'validation')),
        (None, '{"image": "i"}', (400, 'Missing datasetId parameter', 'rest')),
        ('', '["image"]', (400, 'The request body must be a JSON object.', 'rest')),
        ('', '{"image": NaN}', (400, 'Invalid JSON passed in request body.', 'rest')),
        ('', '{"name": "n"}', (400, 'Invalid segmentation tool: no image', 'validation')),
        ('', '{"image": null}', (400, 'Invalid segmentation tool: no image', 'validation')),
    ],
)
def test_what_makes_no_job_is_refused(bench, dataset_id, body, expected):
    known = bench.server.client.get('job')
    dataset_id = bench.server.datasets['cells'] if dataset_id == '' else dataset_id
    query = {'datasetId': dataset_id} if dataset_id else {}
    assert (
        refusal(bench.server.client.post, 'upenn_annotation/compute', query, data=body) == expected
    )
    assert bench.server.client.get('job') == known


def test_a_job_that_does_not_exist_is_refused(bench):
    assert refusal(bench.server.client.get, f'job/{ABSENT_ID}') == (
        400,
        'Invalid job id (ID).',
        'rest',
    )
    assert refusal(bench.server.client.get, 'job/abc') == (
        400,
        'Invalid ObjectId: abc',
        'validation',
    )


def test_jobs_are_neither_started_nor_shown_without_the_token(bench):
    job = bench.start('secret')
    bench.wait(job, SUCCESS)
    known = bench.server.client.get('job')
    expected = {
        ('GET', 'job'): 'Read access denied for job list (user None).',
        ('GET', f'job/{job["_id"]}'): f'Read access denied for job {job["_id"]} (user None).',
        (
            'POST',
            f'upenn_annotation/compute?datasetId={bench.server.datasets["cells"]}',
        ): 'You must be logged in.',
    }
    for (method, path), message in expected.items():
        answer = requests.request(
            method, f'{bench.server.apiUrl}/{path}', data='{"image": "i"}', timeout=30
        )
        assert (answer.status_code, answer.json()) == (401, {'message': message, 'type': 'access'})
    assert bench.server.client.get('job') == known


def test_workers_end_with_the_server_and_jobs_that_wait_are_dropped(start_bench):
    bench = start_bench('--jobs-at-once', '2')
    for name in 'abc':
        bench.start(name, until=str(bench.folder / 'never'))
    wait_until(lambda: len(bench.events()) == 2)
    assert bench.server.stop() == 0
    assert sorted(bench.names('SIGTERM')) == ['a', 'b']
    assert sorted(bench.names()) == ['a', 'a', 'b', 'b']
    assert not any(is_alive(event['pid']) for event in bench.events())


def test_a_second_signal_ends_server_and_workers_at_once(start_bench):
    bench = start_bench()
    bench.start('stubborn', until=str(bench.folder / 'never'), stubborn=True)
    wait_until(lambda: len(bench.events()) == 1)
    bench.server.process.terminate()
    wait_until(lambda: bench.names('SIGTERM') == ['stubborn'])
    bench.server.process.send_signal(signal.SIGINT)
    assert bench.server.process.wait() == 0
    assert not is_alive(bench.events()[0]['pid'])


def start_stubborn(folder: Path, **wishes: Any) -> tuple[jobs.Jobs, str]:
    """Start a worker that goes on after SIGTERM. Return its `Jobs` and its id."""
    (folder / 'worker.py').write_text(WORKER)
    command = [sys.executable, str(folder / 'worker.py'), str(folder / 'events')]
    running = jobs.Jobs(command, 1, folder / 'jobs')
    wishes = {'name': 'stubborn', 'stubborn': True, 'until': str(folder / 'never'), **wishes}
    job = running.start('stubborn', ['--parameters', json.dumps(wishes)])
    events = folder / 'events'
    # The file is there before its first line. A signal in between would be recorded first.
    wait_until(lambda: events.exists() and events.read_text().endswith('\n'))
    return running, job['_id']


def test_a_second_signal_does_not_wait_for_workers(tmp_path):
    before = signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))
    try:
        running, job = start_stubborn(tmp_path, interrupts=True)
        with pytest.raises(SystemExit):
            running.close(seconds=float('inf'))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert running.find(job)['status'] == ERROR


def test_a_worker_that_does_not_end_is_killed(tmp_path):
    running, job = start_stubborn(tmp_path)
    running.close(seconds=0.5)
    events = [json.loads(line) for line in (tmp_path / 'events').read_text().splitlines()]
    assert [event['event'] for event in events] == ['start', 'SIGTERM']
    assert not is_alive(events[0]['pid'])
    assert running.find(job)['status'] == ERROR


def test_a_restarted_server_keeps_its_worker_and_limit_but_knows_no_job_that_was(start_bench):
    rule = {'kind': 'restart', 'method': 'GET', 'path': 'folder'}
    bench = start_bench('--jobs-at-once', '2', '--faults', json.dumps([rule]))
    go = bench.folder / 'go'
    for name in ('runs', 'runs too', 'waits'):
        bench.start(name, until=str(go))
    wait_until(lambda: len(bench.events()) == 2)
    with pytest.raises(requests.ConnectionError):
        bench.server.client.get(f'folder/{bench.server.datasets["cells"]}')
    assert json.loads(bench.server.process.stdout.readline())['apiUrl'] == bench.server.apiUrl
    assert bench.server.client.get('job') == []
    later = [bench.start(name, until=str(go)) for name in ('a', 'b', 'c')]
    wait_until(lambda: len(bench.events()) == 4)
    assert [bench.status(job) for job in later] == [RUNNING, RUNNING, QUEUED]
    go.touch()
    bench.wait(later[-1], SUCCESS)
    wait_until(lambda: len(bench.events('end')) == 5)
    assert sorted(bench.names('end')) == ['a', 'b', 'c', 'runs', 'runs too']


@pytest.mark.parametrize(
    ('option', 'value', 'message'),
    [
        ('--jobs-at-once', '-1', '--jobs-at-once must be 0 or more, not -1'),
        ('--worker', '"', 'argument --worker: invalid split value'),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path, capfd, start_server, option, value, message
):
    with pytest.raises(RuntimeError, match='status 2'):
        start_server(tmp_path, option, value)
    assert message in capfd.readouterr().err
