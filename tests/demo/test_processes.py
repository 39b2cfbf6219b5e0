"""The worker as a child process, as the demo shows it."""

import io
import json

import pytest
from tqdm import tqdm

from demo.processes import BAR_FORMAT, read_summary, run_worker, show_message


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
