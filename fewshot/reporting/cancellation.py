"""The end that the user asks for: a signal, and a job that says where it stands before it ends."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EXIT_STATUS = 128 + signal.SIGTERM
UPLOAD_PATIENCE_SECONDS = 4.0
POLL_INTERVAL_SECONDS = 0.1


@contextmanager
def ending_on_sigterm(say: Callable[[], None], uploading: threading.Lock) -> Iterator[None]:
    """End the process with status 143 when SIGTERM comes while the block runs.

    A thread waits for the signal, so the end does not wait for a long computation. Threads that were started
    before the block must not exist, because the signal would end them at once.

    Parameters
    ----------
    say : callable
        Called before the end.
    uploading : threading.Lock
        Held during an upload. The end waits for it, at most UPLOAD_PATIENCE_SECONDS.
    """
    signals = {signal.SIGTERM}
    mask_before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    is_over = threading.Event()

    def wait_for_signal() -> None:
        while not is_over.is_set():
            if signal.sigtimedwait(signals, POLL_INTERVAL_SECONDS):
                try:
                    uploading.acquire(timeout=UPLOAD_PATIENCE_SECONDS)
                    say()
                    sys.stdout.flush()
                    sys.stderr.flush()
                finally:
                    os._exit(EXIT_STATUS)  # also where nobody reads stdout any more

    watcher = threading.Thread(target=wait_for_signal, name='waits for SIGTERM', daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask_before)
