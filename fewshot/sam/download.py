"""The download of a large file, which goes on where it ended after a failure."""

import os
import time
from collections.abc import Callable

import requests

from fewshot import messages

CONNECT_SECONDS, READ_SECONDS = 10, 60
RETRY_PAUSES_SECONDS = (1, 5, 15, 30, 60)  # after failures between which no byte arrives
RANGE_NOT_SATISFIABLE = 416
PARTIAL_CONTENT = 206
BUSY_STATUSES = (429, 500, 502, 503, 504)
LOST = (  # the rest can be asked for again
    requests.ConnectionError,
    requests.Timeout,
    requests.HTTPError,
    requests.exceptions.ChunkedEncodingError,
)
BLOCK_BYTES = 2**16
PROGRESS_BYTES = 50_000_000  # between two lines


def download(url: str, path: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Download a file, and print the progress.

    If `path` exists, its bytes are the start of the file and only the rest is requested. Compare a
    checksum afterwards: the start can be that of another version.

    Parameters
    ----------
    url : str
    path : str
    sleep : callable
        Waits for a number of seconds before a retry.

    Raises
    ------
    JobError
        The server refuses, the connection fails again and again, or the file cannot be written.
    """
    pauses = iter(RETRY_PAUSES_SECONDS)
    most = count_bytes(path)
    while True:
        try:
            append_rest(url, path)
            return
        except LOST as error:
            done = count_bytes(path)
            if done > most:
                most, pauses = done, iter(RETRY_PAUSES_SECONDS)
            pause = next(pauses, None)
            print(error, flush=True)
            if pause is None:
                raise messages.DOWNLOAD_LOST.error(file=os.path.basename(url), done=done) from error
            print(f'Trying again in {pause} s.', flush=True)
            sleep(pause)


def count_bytes(path: str) -> int:
    """Return the size of a file, 0 if it does not exist."""
    return os.path.getsize(path) if os.path.exists(path) else 0


def append_rest(url: str, path: str) -> None:
    """Request the bytes that a file lacks, and append them.

    Raises
    ------
    requests.RequestException
        The connection failed, or the server is busy. The bytes that arrived are in the file.
    JobError
        The server refuses, or the file cannot be written.
    """
    done = count_bytes(path)
    headers = {'Accept-Encoding': 'identity'}
    if done:
        headers['Range'] = f'bytes={done}-'
    with requests.get(
        url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)
    ) as answer:
        content_range = answer.headers.get('Content-Range', '')
        if answer.status_code == RANGE_NOT_SATISFIABLE and done:
            if content_range != f'bytes */{done}':  # else the file is complete
                os.remove(path)
                append_rest(url, path)
            return
        if answer.status_code in BUSY_STATUSES:
            answer.raise_for_status()
        goes_on = answer.status_code == PARTIAL_CONTENT
        if not answer.ok or (goes_on and not content_range.startswith(f'bytes {done}-')):
            raise messages.DOWNLOAD_REFUSED.error(
                status=answer.status_code,
                reason=answer.reason,
                file=os.path.basename(url),
                url=url,
            )
        try:
            write_answer(answer, path, done if goes_on else 0)
        except requests.RequestException:
            raise
        except OSError as error:
            raise messages.DOWNLOAD_NOT_WRITTEN.error(path=path, reason=error.strerror) from error


def write_answer(answer: requests.Response, path: str, done: int) -> None:
    """Write the body of an answer behind the first `done` bytes of a file. Print the progress."""
    size = int(answer.headers.get('Content-Length', 0))
    total = f' of {(done + size) / 1e6:,.0f}' if size else ''
    with open(path, 'ab' if done else 'wb') as file:
        for block in answer.iter_content(BLOCK_BYTES):
            file.write(block)
            before, done = done, done + len(block)
            if done // PROGRESS_BYTES > before // PROGRESS_BYTES:
                print(f'{path}: {done / 1e6:,.0f}{total} MB', flush=True)
        file.flush()
        os.fsync(file.fileno())
