"""The end by a signal, in processes of their own. No test needs a machine of a certain speed."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.worker import REPOSITORY

PROGRAM = """
import hashlib, threading, time
from fewshot.reporting.cancellation import ending_on_sigterm
uploading = threading.Lock()
def say():
    print('cancelled', flush=True)
    {say}
with ending_on_sigterm(say, uploading):
    {body}
print('over', flush=True)
input()
"""
READY = "print('ready', flush=True)"


@pytest.fixture
def start() -> Iterator:
    """Yield a function that starts a program with these lines in the block and waits for it."""
    with ExitStack() as stack:

        def start_program(body: str, say: str = 'pass') -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, '-c', PROGRAM.format(body=body, say=say)],
                cwd=REPOSITORY,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == 'ready\n'
            return process

        yield start_program


def end(process: subprocess.Popen[str]) -> tuple[str, int]:
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    return process.stdout.read(), process.wait()


@pytest.mark.parametrize(
    'body',
    [
        f'{READY}; input()',
        f"{READY}; hashlib.pbkdf2_hmac('sha256', b'', b'', 2 ** 31 - 1)",  # 20 minutes in one step
    ],
)
def test_signal_ends_the_process_with_a_word(start, body):
    assert end(start(body)) == ('cancelled\n', 143)


def test_upload_is_completed(start):
    body = (
        f"uploading.acquire(); {READY}; time.sleep(1); print('uploaded', flush=True); "
        'uploading.release(); input()'
    )
    assert end(start(body)) == ('uploaded\ncancelled\n', 143)


def test_upload_that_does_not_end_is_given_up(start):
    assert end(start(f'uploading.acquire(); {READY}; input()')) == ('cancelled\n', 143)


def test_failure_to_say_so_does_not_keep_the_process(start):
    assert end(start(f'{READY}; input()', say="raise OSError('no page')")) == ('cancelled\n', 143)


def test_signal_after_the_block_has_its_usual_effect(start):
    process = start(READY)
    assert process.stdout.readline() == 'over\n'
    assert end(process) == ('', -signal.SIGTERM)
