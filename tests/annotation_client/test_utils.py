"""Messages to the user's page."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from annotation_client.utils import sendError, sendProgress, sendWarning
from tests.conftest import REPOSITORY


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the only line that was printed, read as strict JSON."""
    output = capsys.readouterr().out
    assert output.count('\n') == 1
    assert output.endswith('\n')
    assert output.isascii()

    def refuse(constant: str) -> None:
        raise AssertionError(f'{constant} is not JSON')

    return json.loads(output, parse_constant=refuse)


@pytest.mark.parametrize(
    ('progress', 'shown'),
    [
        (0, 0),
        (0.25, 0.25),
        (1, 1),
        (1.2, 1),
        (-0.1, 0),
        (float('nan'), 0),
        (float('inf'), 1),
        (float('-inf'), 0),
    ],
)
def test_progress_is_a_number_from_0_to_1(
    progress: float, shown: float, capsys: pytest.CaptureFixture[str]
) -> None:
    sendProgress(progress, 'Searching', 'frame 1 of 4')
    assert printed(capsys) == {'progress': shown, 'title': 'Searching', 'info': 'frame 1 of 4'}


def test_warning_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    sendWarning('Two outlines were skipped')
    assert printed(capsys) == {
        'warning': 'Two outlines were skipped',
        'title': 'Warning',
        'info': '',
        'type': 'warning',
    }
    sendWarning('Nothing found', title='Result', info='Lower the threshold')
    assert printed(capsys) == {
        'warning': 'Nothing found',
        'title': 'Result',
        'info': 'Lower the threshold',
        'type': 'warning',
    }


def test_error_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    sendError('No training tag')
    assert printed(capsys) == {
        'error': 'No training tag',
        'title': 'Error',
        'info': '',
        'type': 'error',
    }
    sendError('Wrong value', title='Settings', info='Batch XY: 9')
    assert printed(capsys) == {
        'error': 'Wrong value',
        'title': 'Settings',
        'info': 'Batch XY: 9',
        'type': 'error',
    }


@pytest.mark.parametrize('text', ['two\nlines', 'Größe "µm" \\', '細胞', '\ud800', '\u2028'])
def test_any_text_stays_on_its_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    sendError(text, info=text)
    message = printed(capsys)
    assert (message['error'], message['info']) == (text, text)


def test_objects_are_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    sendWarning(ValueError('too small'), info=float('nan'))
    message = printed(capsys)
    assert (message['warning'], message['info']) == ('too small', 'nan')


def test_message_is_flushed() -> None:
    # a process that ends like this loses its buffers
    program = """if True:
        import os
        from annotation_client.utils import sendProgress
        sendProgress(0.5, 'Half', '')
        os._exit(0)"""
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONUNBUFFERED'}
    finished = subprocess.run(
        [sys.executable, '-c', program],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(finished.stdout)['title'] == 'Half'
