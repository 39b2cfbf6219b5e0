"""The end that the user asks for: a signal, and a job that says where it stands before it goes."""
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STATUS = 128 + signal.SIGTERM  # of a process that the signal has ended
PATIENCE = 4.0  # seconds for a request that is on its way
LOOK_EVERY = 0.1  # seconds


@contextmanager
def ending_on_sigterm(say: Callable[[], None], sending: threading.Lock) -> Iterator[None]:
    """End the process with status 143 when SIGTERM comes while the block runs.

    A thread of its own waits for the signal, so that the end does not wait for a long computation. Threads that were
    started before the block must not be there, or the signal ends them at once.

    Parameters
    ----------
    say : called before the end
    sending : held by whoever must not be interrupted; waited for, PATIENCE at most
    """
    signals = {signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    over = threading.Event()

    def wait() -> None:
        while not over.is_set():
            if signal.sigtimedwait(signals, LOOK_EVERY):
                sending.acquire(timeout=PATIENCE)
                say()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(STATUS)

    watch = threading.Thread(target=wait, name='waits for SIGTERM', daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
