"""A fake server, for answers that no real one can be made to give: dropped connections, 503, hostile bytes."""
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest


@dataclass(frozen=True)
class Answer:
    """What the fake server says. `body` goes out as JSON unless it is bytes.

    A status of 0 drops the connection instead; a Content-Length that is too large drops it after the body.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0  # seconds


DROPPED = Answer(status=0)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    peer: tuple[str, int]  # the same for two requests that came over the same connection


@dataclass(frozen=True)
class FakeServer:
    apiUrl: str
    requests: list[Request]


FakeServerStarter = Callable[..., FakeServer]


@pytest.fixture
def fake_server() -> Iterator[FakeServerStarter]:
    """A function that starts a server which gives these answers in this order, whatever is asked."""
    with ExitStack() as stack:

        def start(*answers: Answer) -> FakeServer:
            remaining, requests = list(answers), []

            class Handler(BaseHTTPRequestHandler):
                protocol_version = 'HTTP/1.1'

                def answer(self) -> None:
                    self.rfile.read(int(self.headers.get('Content-Length', 0)))
                    requests.append(Request(self.command, self.path, self.client_address))
                    answer = remaining.pop(0)
                    time.sleep(answer.delay)
                    if answer.status == 0:
                        self.close_connection = True
                        return
                    body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                    self.send_response(answer.status)
                    for name, value in {'Content-Length': str(len(body)), **answer.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)
                    self.close_connection = 'Content-Length' in answer.headers

                do_GET = do_POST = answer  # noqa: N815

                def log_message(self, format: str, *args: Any) -> None:
                    """Say nothing."""

            server = stack.enter_context(ThreadingHTTPServer(('127.0.0.1', 0), Handler))
            threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.02}, daemon=True).start()
            stack.callback(server.shutdown)
            return FakeServer(f'http://127.0.0.1:{server.server_port}/api/v1', requests)

        yield start


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries in seconds, which are noted and not waited for."""
    seconds: list[float] = []
    monkeypatch.setattr('urllib3.util.retry.time', SimpleNamespace(sleep=seconds.append, time=time.time))
    return seconds
