"""A server that gives any answer: dropped connections, 503, hostile bytes."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from annotation_client.connection import Patience


@dataclass(frozen=True)
class Answer:
    """An answer of the fake server.

    Attributes
    ----------
    status : int
        0 drops the connection.
    body : object
        Bytes, or an object to send as JSON.
    headers : dict
        With a Content-Length that is too large, the connection is dropped after the body.
    is_late : bool
        The answer comes when the test has ended.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    is_late: bool = False


DROPPED = Answer(status=0)


@dataclass(frozen=True)
class Request:
    """A request that the fake server got."""

    method: str
    path: str
    peer: tuple[str, int]  # the same for two requests on the same connection


@dataclass(frozen=True)
class FakeServer:
    """A running fake server and the requests that it got."""

    apiUrl: str
    requests: list[Request]


FakeServerStarter = Callable[..., FakeServer]


@pytest.fixture
def fake_server() -> Iterator[FakeServerStarter]:
    """Yield a function that starts a server. It gives its answers in order to any request."""
    is_over = threading.Event()
    with ExitStack() as stack:

        def start(*answers: Answer) -> FakeServer:
            remaining, requests = list(answers), []

            class Handler(BaseHTTPRequestHandler):
                protocol_version = 'HTTP/1.1'

                def answer(self) -> None:
                    self.rfile.read(int(self.headers.get('Content-Length', 0)))
                    requests.append(Request(self.command, self.path, self.client_address))
                    answer = remaining.pop(0)
                    if answer.is_late:
                        is_over.wait()
                    if answer.status == 0 or answer.is_late:
                        self.close_connection = True
                        return
                    body = (
                        answer.body
                        if isinstance(answer.body, bytes)
                        else json.dumps(answer.body).encode()
                    )
                    self.send_response(answer.status)
                    for name, value in {'Content-Length': str(len(body)), **answer.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)
                    self.close_connection = 'Content-Length' in answer.headers

                do_GET = do_POST = answer

                def log_message(self, format: str, *args: Any) -> None:
                    """Write no log."""

            server = stack.enter_context(ThreadingHTTPServer(('127.0.0.1', 0), Handler))
            threading.Thread(
                target=server.serve_forever, kwargs={'poll_interval': 0.02}, daemon=True
            ).start()
            stack.callback(server.shutdown)
            return FakeServer(f'http://127.0.0.1:{server.server_port}/api/v1', requests)

        yield start
        is_over.set()


@pytest.fixture
def pauses() -> list[float]:
    """Return the pauses between attempts, in seconds, that `patience` would have waited."""
    return []


@pytest.fixture
def patience(pauses: list[float]) -> Patience:
    """Return a patience that records its pauses and does not wait."""
    return Patience(sleep=pauses.append)
