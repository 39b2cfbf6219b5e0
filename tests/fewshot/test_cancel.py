"""The end by a signal, in processes of their own."""
import signal
import subprocess
import sys
import time

import pytest

from tests.worker import REPOSITORY

PROGRAM = """
import hashlib, sys, threading, time
from fewshot.cancel import ending_on_sigterm
sending = threading.Lock()
with ending_on_sigterm(lambda: print('cancelled'), sending):
    {body}
print('over', flush=True)
time.sleep(60)
"""


def start(body: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, '-c', PROGRAM.format(body=body)], cwd=REPOSITORY, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == 'ready\n'
    return process


def end(process: subprocess.Popen[str]) -> tuple[str, int, float]:
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=30)[0]
    return output, process.returncode, time.monotonic() - began


@pytest.mark.parametrize('body', [
    "print('ready', flush=True); time.sleep(60)",
    "print('ready', flush=True); hashlib.pbkdf2_hmac('sha256', b'', b'', 10 ** 8)",  # a minute in one step
])
def test_a_signal_ends_the_process_at_once_with_a_word(body):
    output, status, seconds = end(start(body))
    assert (output, status) == ('cancelled\n', 143) and seconds < 3


def test_what_is_being_sent_comes_to_its_end():
    process = start("sending.acquire(); print('ready', flush=True); time.sleep(1); print('sent', flush=True); "
                    "sending.release(); time.sleep(60)")
    assert end(process)[:2] == ('sent\ncancelled\n', 143)


def test_what_does_not_come_to_its_end_is_waited_for_a_few_seconds_only():
    output, status, seconds = end(start("sending.acquire(); print('ready', flush=True); time.sleep(60)"))
    assert (output, status) == ('cancelled\n', 143) and 3.5 < seconds < 5


def test_after_the_block_a_signal_does_what_it_always_does():
    process = start("print('ready', flush=True)")
    assert process.stdout and process.stdout.readline() == 'over\n'
    assert end(process)[:2] == ('', -signal.SIGTERM)
