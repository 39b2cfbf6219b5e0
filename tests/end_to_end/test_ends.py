"""How a job ends before its time, and what it shows: worker processes against a real server."""
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.datasets import make_layer, write_dataset
from tests.end_to_end.test_job import RADIUS, SETTINGS, Lab, locations_of, tag_disc
from tests.small_model import CENTRES, draw_discs
from tests.worker import NOWHERE, REPOSITORY, make_params

FRAMES = 6


@pytest.fixture
def start_job(start_server, tmp_path):
    """A function that starts a worker on a server with faults; the lab, the process and what it has said are given."""
    frame = draw_discs(CENTRES, RADIUS)[0]
    write_dataset(tmp_path, 'cells', np.stack([frame] * FRAMES)[:, None, None, None], [make_layer(0)])
    processes = []

    def start(*faults: dict, **changes) -> tuple[Lab, subprocess.Popen]:
        lab = Lab(start_server(tmp_path, '--faults', json.dumps(faults)))
        lab.annotate(tag_disc(lab.id, CENTRES[0]))
        params = {**make_params(**{**SETTINGS, 'Batch XY': 'all', **changes}), 'tags': ['found']}
        processes.append(subprocess.Popen(
            [sys.executable, 'entrypoint.py', '--apiUrl', lab.server.apiUrl, '--token', lab.server.token, '--request',
             'compute', '--parameters', json.dumps(params), '--datasetId', lab.id], cwd=REPOSITORY, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, 'SAM_CHECKPOINT_DIR': str(REPOSITORY / 'models')}))
        return lab, processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_a_cancelled_job_stops_within_five_seconds_and_says_what_is_on_the_server(start_job):
    lab, process = start_job()
    assert any(f'(3 of {FRAMES}' in line for line in process.stdout)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, log = process.communicate(timeout=60)
    assert time.monotonic() - began < 5 and process.returncode == 143, log
    last = json.loads(output.splitlines()[-1])
    assert last['error'] == 'The job was cancelled'
    made = locations_of(lab.annotations('found'))
    objects, frames = map(int, re.search(r'(\d+) objects?; (\d+) frames? complete', last['info']).groups())
    assert (objects, frames) == (sum(made.values()), len(made)) and frames >= 1
    assert f'Batch XY: {frames + 1}-{FRAMES}, Batch Z: 1, Batch Time: 1' in last['info']


@pytest.mark.parametrize('fault', [
    {'kind': 'expire', 'after': 14, 'times': None},
    {'kind': 'truncate', 'path': 'tiles/region', 'after': 1, 'times': None},
    {'kind': 'truncate', 'path': 'dataset_view', 'times': None},
])
def test_the_token_is_in_nothing_that_a_failing_job_shows(start_job, fault):
    lab, process = start_job(fault)
    first = process.stdout.readline()
    title = Path(f'/proc/{process.pid}/cmdline').read_bytes()
    output, log = process.communicate(timeout=120)
    output = first + output
    assert title.startswith(b'sam_fewshot') and lab.server.token.encode() not in title
    assert process.returncode == 1 and '"error"' in output and 'Traceback' in log
    assert lab.server.token not in output + log
    assert all('{' not in line or isinstance(json.loads(line), dict) for line in output.splitlines())


def handles_sigterm(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM."""
    status = Path(f'/proc/{pid}/status').read_text()
    caught = re.search(r'^SigCgt:\s*(\w+)', status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize('request_name', ['interface', 'compute'])
def test_first_moments_of_a_process_end_on_sigterm(request_name):
    # the first process of a container ignores SIGTERM without a handler; here the status tells that there was one
    command = [sys.executable, 'entrypoint.py', '--apiUrl', NOWHERE, '--token', 'a', '--request', request_name,
               '--parameters', '{"image": "worker"}']
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not handles_sigterm(process.pid):
            time.sleep(0.001)
        loaded = Path(f'/proc/{process.pid}/maps').read_text()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 143
    assert 'ssl' not in loaded  # the client of the server, which takes long to import, comes later


def test_interface_request_that_retries_ends_on_sigterm():
    command = [sys.executable, 'entrypoint.py', '--apiUrl', NOWHERE, '--token', 'a', '--request', 'interface',
               '--parameters', '{"image": "worker"}']
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as process:
        assert any('Retrying' in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 143


@pytest.mark.parametrize('arguments', [
    ['--apiUrl', 'http://a', '--tokn', 'SECRET', '--request', 'compute'],
    ['--apiUrl', 'http://a', '--token', 'SECRET', 'SECRET2', '--request', 'compute', '--parameters', '{}'],
    ['--apiUrl', 'http://a', '--token=SECRET', '--request', 'SECRET', '--parameters', '{}'],
    ['--apiUrl', 'http://a', '--token', 'SECRET', '--request', 'compute', '--parameters', '{not json'],
    ['--apiUrl', 'no address', '--token', 'SECRET', '--request', 'compute', '--parameters', '{}'],
])
def test_the_token_is_in_no_complaint_about_arguments(arguments):
    secret = 'aB3' * 20
    ended = subprocess.run([sys.executable, 'entrypoint.py', *(one.replace('SECRET', secret) for one in arguments)],
                           cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode in (1, 2) and (ended.stderr or ended.stdout)
    assert secret not in ended.stdout + ended.stderr


def test_the_log_has_a_line_a_frame_with_counts_seconds_and_memory(start_job):
    lab, process = start_job(**{'Batch XY': '1-2'})
    output, log = process.communicate(timeout=120)
    lines = re.findall(r'^\S+ \S+ INFO XY (\d), Z 1, Time 1: (\d+) candidates, (\d+) like the examples, '
                       r'(\d+) uploaded, [\d.]+ s, (\d+) MB', log, re.MULTILINE)
    assert [line[0] for line in lines] == ['1', '2'], log
    made = locations_of(lab.annotations('found'))
    assert [int(line[3]) for line in lines] == [made[0, 0, 0], made[1, 0, 0]]
    assert all(int(line[1]) >= int(line[2]) >= int(line[3]) > 0 and 100 < int(line[4]) < 4000 for line in lines)
    shown = [json.loads(line) for line in output.splitlines()]
    assert shown and all('{' not in one['title'] for one in shown)
