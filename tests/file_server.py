"""A web server of one file that fails in the way that the path of the request names."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PART_BYTES = 2**20  # that a connection carries before it is closed


class FileServer(ThreadingHTTPServer):
    """Serves `content` at every path. The first part of the path is the fault.

    whole
        No fault.
    drops
        Each connection is closed after PART_BYTES.
    dies
        The first connection is closed after PART_BYTES, all others before the first byte.
    busy
        The first two requests are answered with status 503.
    no-range
        The whole file is sent, whatever range is asked for.
    no-range-drops
        The same, and the connections are closed after PART_BYTES, half of it, PART_BYTES, ...
    shifted
        Ranges begin one byte too late.
    other
        Other bytes of the same number are sent.
    missing
        Status 404.

    Attributes
    ----------
    ranges : list of str or None
        The ranges that were asked for.
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.content = content
        self.ranges: list[str | None] = []

    def url(self, fault: str, name: str = 'file') -> str:
        """Return the address of the file with a fault."""
        return f'http://127.0.0.1:{self.server_port}/{fault}/{name}'


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: FileServer

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Send the file, or the part of it that is asked for, with the fault."""
        _, fault, *_ = self.path.split('/')
        asked = self.headers['Range']
        self.server.ranges.append(asked)
        number = len(self.server.ranges)
        if fault == 'missing':
            self.send_error(404)
            return
        if fault == 'busy' and number <= 2:
            self.send_error(503)
            return
        content = self.server.content
        if fault == 'other':
            content = bytes(len(content))
        start = int(asked.removeprefix('bytes=').removesuffix('-')) if asked else 0
        if fault.startswith('no-range'):
            start = 0
        elif asked and start >= len(content):
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{len(content)}')
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        start += fault == 'shifted' and bool(asked)
        body = content[start:]
        self.send_response(206 if start else 200)
        if start:
            last = len(content) - 1
            self.send_header('Content-Range', f'bytes {start}-{last}/{len(content)}')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        most = {
            'drops': PART_BYTES,
            'dies': PART_BYTES if number == 1 else 0,
            'no-range-drops': PART_BYTES if number % 2 else PART_BYTES // 2,
        }
        with suppress(ConnectionError):  # the client may have enough
            self.wfile.write(body[: most.get(fault, len(body))])  # then the connection is closed


@contextmanager
def serving(content: bytes) -> Iterator[FileServer]:
    """Serve a file until the block ends."""
    with FileServer(content) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
