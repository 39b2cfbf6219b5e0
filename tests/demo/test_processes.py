"""The worker as a child process, as the demo shows it."""
import io
import json

import pytest

from demo.processes import ProgressBar, read_summary, run_worker, show_message


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_without_a_terminal_there_is_one_line_every_ten_percent():
    stream = io.StringIO()
    bar = ProgressBar(stream)
    for step in range(101):
        bar.show(step / 100, 'Frame 1', '')
    lines = stream.getvalue().splitlines()
    assert len(lines) == 11
    assert '100%' in lines[-1] and '\r' not in stream.getvalue()


def test_on_a_terminal_the_bar_moves_in_its_line():
    stream = Terminal()
    bar = ProgressBar(stream)
    bar.show(0.25, 'Frame 1', '')
    bar.show(0.5, 'Frame 1', '')
    assert stream.getvalue().count('\r') == 2 and '\n' not in stream.getvalue()


@pytest.mark.parametrize(('line', 'shown'), [
    ('{"warning": "Two skipped", "title": "Warning", "info": "outside", "type": "warning"}',
     '  warning: Two skipped outside\n'),
    ('{"error": "No tag", "title": "Error", "info": null, "type": "error"}', '  error: No tag\n'),
    ('not json\n', '  not json\n'),
    ('42\n', '  42\n'),
])
def test_notices_are_passed_on(line, shown):
    stream = io.StringIO()
    show_message(line, ProgressBar(stream))
    assert stream.getvalue() == shown


def test_a_worker_that_fails_ends_the_demo_with_the_end_of_its_log(tmp_path, capsys):
    program = tmp_path / 'worker.py'
    program.write_text('import sys\nprint(\'{"error": "bad", "info": "x"}\')\nsys.exit("the checkpoint is missing")')
    with pytest.raises(SystemExit, match='(?s)status 1.*the checkpoint is missing'):
        run_worker([], tmp_path, tmp_path / 'worker.log', program)
    assert 'error: bad x' in capsys.readouterr().out


def test_the_worker_gets_its_arguments_and_the_checkpoint_folder(tmp_path, capsys):
    program = tmp_path / 'worker.py'
    program.write_text('import os, sys\nprint(sys.argv[1:], os.environ["SAM_CHECKPOINT_DIR"])')
    run_worker(['--request', 'compute'], tmp_path, tmp_path / 'worker.log', program)
    assert capsys.readouterr().out.strip() == f"['--request', 'compute'] {tmp_path}"


def test_the_summary_is_read_from_the_workers_log(tmp_path):
    log = tmp_path / 'worker.log'
    log.write_text('loading\nINFO job summary ' + json.dumps({'uploaded': 3}) + '\nbye\n')
    assert read_summary(log) == {'uploaded': 3}


def test_a_log_without_a_summary_is_refused(tmp_path):
    log = tmp_path / 'worker.log'
    log.write_text('loading\n')
    with pytest.raises(ValueError, match='job summary'):
        read_summary(log)
