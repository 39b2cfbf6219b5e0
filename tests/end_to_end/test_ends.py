"""How a job ends early, and what it shows: worker processes on a real server."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewshot import messages
from tests.datasets import make_layer, write_dataset
from tests.end_to_end.test_job import RADIUS, SETTINGS, Lab, locations_of, tag_disc
from tests.small_model import CENTRES, draw_discs
from tests.worker import NOWHERE, REPOSITORY, make_params

FRAMES = 6
WORKER = [sys.executable, 'entrypoint.py']


@pytest.fixture
def start_job(start_server, tmp_path) -> Iterator[Callable[..., tuple[Lab, subprocess.Popen]]]:
    """Yield a function that starts a worker process on a server with faults."""
    frame = draw_discs(CENTRES, RADIUS)[0]
    frames = np.stack([frame] * FRAMES)[:, None, None, None]
    write_dataset(tmp_path, 'cells', frames, [make_layer(0)])
    processes = []

    def start(*faults: dict, **changes: Any) -> tuple[Lab, subprocess.Popen]:
        lab = Lab(start_server(tmp_path, '--faults', json.dumps(faults)))
        lab.annotate(tag_disc(lab.id, CENTRES[0]))
        form = {**SETTINGS, 'Batch XY': 'all', **changes}
        params = json.dumps({**make_params(**form), 'tags': ['found']})
        access = ['--apiUrl', lab.server.apiUrl, '--token', lab.server.token]
        job = ['--request', 'compute', '--parameters', params, '--datasetId', lab.id]
        process = subprocess.Popen(
            [*WORKER, *access, *job],
            cwd=REPOSITORY,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, 'SAM_CHECKPOINT_DIR': str(REPOSITORY / 'models')},
        )
        processes.append(process)
        return lab, process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_cancelled_job_says_what_is_on_the_server(start_job):
    lab, process = start_job()
    assert any(f'Frame 3 of {FRAMES}' in line for line in process.stdout)
    process.send_signal(signal.SIGTERM)
    output, log = process.communicate()
    assert process.returncode == 143, log
    last = json.loads(output.splitlines()[-1])
    assert last['error'] == messages.CANCELLED.text
    made = locations_of(lab.annotations('found'))
    counts = re.search(r'(\d+) objects; (\d+) frames? complete', last['info'])
    assert counts, last
    objects, frames = map(int, counts.groups())
    assert frames >= 1
    assert (objects, frames) == (sum(made.values()), len(made))
    assert f'Batch XY: {frames + 1}-{FRAMES}, Batch Z: 1, Batch Time: 1' in last['info']


@pytest.mark.parametrize(
    'fault',
    [
        {'kind': 'expire', 'path': 'tiles/region', 'occurrence': 3},
        {'kind': 'truncate', 'path': 'tiles/region', 'occurrence': 2, 'times': None},
        {'kind': 'truncate', 'path': 'dataset_view', 'times': None},
    ],
)
def test_failing_job_hides_the_token(start_job, fault):
    lab, process = start_job(fault)
    first = process.stdout.readline()
    title = Path(f'/proc/{process.pid}/cmdline').read_bytes()
    output, log = process.communicate()
    output = first + output
    assert title.startswith(b'sam_fewshot')
    assert lab.server.token.encode() not in title
    assert process.returncode == 1
    assert '"error"' in output
    assert 'Traceback' in log
    assert lab.server.token not in output + log
    assert all(isinstance(json.loads(line), dict) for line in output.splitlines() if '{' in line)
    error = json.loads(output.splitlines()[-1])
    *before, last = log.splitlines()
    assert last == f'{error["error"]} {error["info"]}'.strip()  # and not the traceback
    assert any('job summary {' in line for line in before) == (fault['path'] == 'tiles/region')


def handles_sigterm(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM."""
    status = Path(f'/proc/{pid}/status').read_text()
    caught = re.search(r'^SigCgt:\s*(\w+)', status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize('request_name', ['interface', 'compute'])
def test_first_moments_of_a_process_end_on_sigterm(request_name):
    # The first process of a container ignores SIGTERM if it has no handler. The status shows
    # that it has one.
    command = [
        *WORKER,
        '--apiUrl',
        NOWHERE,
        '--token',
        'a',
        '--request',
        request_name,
        '--parameters',
        '{"image": "worker"}',
    ]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        while not handles_sigterm(process.pid):
            time.sleep(0.001)
        loaded = Path(f'/proc/{process.pid}/maps').read_text()
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 143
    assert 'ssl' not in loaded  # the client of the server takes long to import and comes later


def test_interface_request_that_retries_ends_on_sigterm():
    command = [
        *WORKER,
        '--apiUrl',
        NOWHERE,
        '--token',
        'a',
        '--request',
        'interface',
        '--parameters',
        '{"image": "worker"}',
    ]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as process:
        assert any('Retrying' in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 143


@pytest.mark.parametrize(
    'arguments',
    [
        ['--apiUrl', 'http://a', '--tokn', 'SECRET', '--request', 'compute'],
        [
            '--apiUrl',
            'http://a',
            '--token',
            'SECRET',
            'SECRET2',
            '--request',
            'compute',
            '--parameters',
            '{}',
        ],
        ['--apiUrl', 'http://a', '--token=SECRET', '--request', 'SECRET', '--parameters', '{}'],
        [
            '--apiUrl',
            'http://a',
            '--token',
            'SECRET',
            '--request',
            'compute',
            '--parameters',
            '{not json',
        ],
        [
            '--apiUrl',
            'no address',
            '--token',
            'SECRET',
            '--request',
            'compute',
            '--parameters',
            '{}',
        ],
    ],
)
def test_errors_about_arguments_hide_the_token(arguments):
    secret = 'aB3' * 20
    ended = subprocess.run(
        [*WORKER, *(one.replace('SECRET', secret) for one in arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode in (1, 2)
    assert ended.stderr or ended.stdout
    assert secret not in ended.stdout + ended.stderr


def test_log_has_the_counts_seconds_and_memory_of_each_frame(start_job):
    lab, process = start_job(**{'Batch XY': '1-2'})
    output, log = process.communicate()
    made = locations_of(lab.annotations('found'))
    for number in (1, 2):
        frame = f'INFO XY {number}, Z 1, Time 1'
        counts = r'\d+ candidates, (\d+) like the examples, (\d+) uploaded'
        found = re.search(rf'{frame}: {counts}, \d+\.\d s, [1-9]\d* MB at most', log)
        assert found, log
        assert int(found[1]) >= int(found[2]) == made[number - 1, 0, 0] > 0
    shown = [json.loads(line) for line in output.splitlines()]
    assert shown
    assert all('{' not in message['title'] for message in shown)
