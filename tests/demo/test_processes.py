"""The worker as a child process, as the demo shows it."""

import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import requests
from tqdm import tqdm

from demo.dataset import write_dataset
from demo.processes import BAR_FORMAT, ROOT, read_summary, run_worker, show_in_page, show_message


def test_progress_moves_the_bar():
    stream = io.StringIO()
    with tqdm(total=1, bar_format=BAR_FORMAT, file=stream) as bar:
        show_message('{"progress": 0.25, "title": "Frame 1", "info": null}', bar)
        show_message('{"progress": 0.5, "title": "Frame 1", "info": "Loading"}', bar)
    *_, last = stream.getvalue().rstrip().split('\r')
    assert last.startswith('   50% |')
    assert last.endswith('Frame 1  Loading')


@pytest.mark.parametrize(
    ('line', 'shown'),
    [
        (
            '{"warning": "Two skipped", "title": "Warning", "info": "outside", "type": "warning"}',
            '  warning: Two skipped outside\n',
        ),
        (
            '{"error": "No tag", "title": "Error", "info": null, "type": "error"}',
            '  error: No tag\n',
        ),
        ('not json\n', '  not json\n'),
        ('42\n', '  42\n'),
    ],
)
def test_notices_are_passed_on(line, shown, capsys):
    show_message(line, tqdm(total=1, disable=True))
    assert capsys.readouterr().out == shown


def test_failed_worker_ends_the_demo_with_its_log(tmp_path, capsys):
    program = tmp_path / 'worker.py'
    program.write_text(
        'import sys\n'
        'print(\'{"error": "bad", "info": "x"}\')\n'
        'sys.exit("the checkpoint is missing")'
    )
    with pytest.raises(SystemExit, match=r'(?s)status 1.*the checkpoint is missing'):
        run_worker([], tmp_path, tmp_path / 'worker.log', program)
    assert 'error: bad x' in capsys.readouterr().out


def test_worker_gets_arguments_and_checkpoint_folder(tmp_path, capsys):
    program = tmp_path / 'worker.py'
    program.write_text('import os, sys\nprint(sys.argv[1:], os.environ["SAM_CHECKPOINT_DIR"])')
    run_worker(['--request', 'compute'], tmp_path, tmp_path / 'worker.log', program)
    assert capsys.readouterr().out.strip() == f"['--request', 'compute'] {tmp_path}"


def test_summary_is_read_from_the_log(tmp_path):
    log = tmp_path / 'worker.log'
    log.write_text('loading\nINFO job summary ' + json.dumps({'uploaded': 3}) + '\nbye\n')
    assert read_summary(log) == {'uploaded': 3}


def test_log_without_a_summary_is_refused(tmp_path):
    log = tmp_path / 'worker.log'
    log.write_text('loading\n')
    with pytest.raises(ValueError, match='job summary'):
        read_summary(log)


def test_page_is_served_until_ctrl_c(tmp_path):
    write_dataset(tmp_path, np.zeros((1, 64, 64), np.uint16))
    call = f'show_in_page(Path({str(tmp_path)!r}), is_terminal=True)'
    program = f'from pathlib import Path; from demo.processes import show_in_page; {call}'
    shown = subprocess.Popen(
        [sys.executable, '-c', program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert shown.stdout
    try:
        link = next(line for line in shown.stdout if line.startswith('Open this link'))
        answer = requests.get(link.split()[-1], timeout=60)
        assert answer.status_code == 200
        assert 'SAM few-shot' in answer.text
    finally:
        os.killpg(shown.pid, signal.SIGINT)  # as a terminal does
    assert shown.wait() == 0


def test_without_a_terminal_the_command_is_printed(tmp_path, capsys):
    show_in_page(ROOT / 'demo' / 'out' / 'data', is_terminal=False)
    assert 'make try FOLDER=demo/out/data' in capsys.readouterr().out
