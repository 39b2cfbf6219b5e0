"""Fixtures of more than one folder of tests: the annotation server, as a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import girder_client
import hypothesis
import pytest

# Two processes run tests side by side, and their torch threads would wait for each other. This is
# set before torch is imported, and every worker that a test starts inherits it.
os.environ.setdefault('OMP_NUM_THREADS', '1')

REPOSITORY = Path(__file__).parents[1]
SECONDS_TO_STOP = 60

# On a busy machine an example may take any time.
hypothesis.settings.register_profile(
    'patient', deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile('patient')


@dataclass(frozen=True)
class Server:
    """A running annotation server.

    `datasets` is {dataset name: id}, `users` is {user name: token}. `client` has the owner's token.
    """

    apiUrl: str
    token: str
    datasets: dict[str, str]
    client: girder_client.GirderClient
    process: subprocess.Popen[str]
    users: dict[str, str]

    def client_of(self, user: str) -> girder_client.GirderClient:
        """Return a client that carries a user's token: owner, writer, reader, stranger or admin."""
        client = girder_client.GirderClient(apiUrl=self.apiUrl)
        client.setToken(self.users[user])
        return client

    def stop(self) -> int:
        """End the server as a user would and return its exit status; harmless if it has ended."""
        self.process.terminate()
        return self.process.wait(SECONDS_TO_STOP)


StartServer = Callable[..., Server]


def start(folder: Path, *options: str) -> Server:
    """Start the annotation server on a folder and wait until it accepts connections.

    The option --faults and a JSON list of rules harm requests, see `tests.faulty_server`.
    """
    module = 'tests.faulty_server' if '--faults' in options else 'annotation_server'
    process = subprocess.Popen(
        [sys.executable, '-m', module, str(folder), '--json', *options],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(
            f'The annotation server ended with status {process.wait()} before it was ready.'
        )
    ready = json.loads(line)
    client = girder_client.GirderClient(apiUrl=ready['apiUrl'])
    client.setToken(ready['token'])
    return Server(
        ready['apiUrl'], ready['token'], ready['datasets'], client, process, ready['users']
    )


@contextmanager
def server_starter() -> Iterator[StartServer]:
    """Give a function that starts a server on a folder, and stop all that it started."""
    with ExitStack() as stack:

        def start_and_remember(folder: Path, *options: str) -> Server:
            server = start(folder, *options)
            stack.callback(server.stop)
            return server

        yield start_and_remember


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Yield a function that starts an annotation server on a folder. It ends with the test."""
    with server_starter() as starter:
        yield starter


@pytest.fixture(scope='module')
def start_module_server() -> Iterator[StartServer]:
    """Do the same for fixtures of module scope: the servers end with the module's last test."""
    with server_starter() as starter:
        yield starter
