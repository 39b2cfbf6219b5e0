"""Fixtures of the pipeline's tests: an annotation server with one dataset, and the user's page."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from girder_client import HttpError

from fewshot.geometry import Location
from fewshot.messages import Message
from fewshot.reporting.reporter import Reporter
from fewshot.server import PAGE_SIZE, Server
from tests import conftest
from tests.datasets import make_layer, write_dataset
from tests.worker import NOWHERE, REPOSITORY

HERE = Location(xy=0, z=0, time=0)


@pytest.fixture
def small_model_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the worker find the checkpoint that the repository carries."""
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))


# Messages


def pattern_of(message: Message) -> str:
    """Return a regular expression for the text of a message, whatever is filled in."""
    return '^' + re.sub(r'\\\{.*?\\\}', '(.|\n)*', re.escape(message.text)) + '$'


@dataclass
class Page:
    """The user's page: what it was sent."""

    progress: list[tuple[float, str, str]] = field(default_factory=list)
    shown: list[tuple[str, str]] = field(default_factory=list)  # text and hint of warnings
    errors: list[tuple[str, str]] = field(default_factory=list)  # text and hint
    reporters: list[Reporter] = field(default_factory=list)

    def reporter(self, clock: Callable[[], float] = lambda: 0.0, **options: Any) -> Reporter:
        """Return a reporter that sends to this page."""
        reporter = Reporter(
            lambda share, title, info: self.progress.append((share, title, info)),
            lambda text, title, info: self.shown.append((text, info)),
            lambda text, title, info: self.errors.append((text, info)),
            clock,
            **options,
        )
        self.reporters.append(reporter)
        return reporter

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """Text and hint of every warning, including those that are in the log only."""
        return [(one.text, one.hint) for reporter in self.reporters for one in reporter.warnings]


@pytest.fixture
def page() -> Page:
    """Return a page without messages."""
    return Page()


# The annotation server


@dataclass(frozen=True)
class Lab:
    """An annotation server with a dataset named cells.

    Attributes
    ----------
    running : tests.conftest.Server
        The process and its users.
    pauses : list of float
        Seconds that its `Server` objects wanted to wait. None of them waits.
    """

    running: conftest.Server
    pauses: list[float] = field(default_factory=list)

    @property
    def dataset_id(self) -> str:
        """Id of the dataset."""
        return self.running.datasets['cells']

    @property
    def client(self) -> Any:
        """A girder client of the owner."""
        return self.running.client

    def server(self, user: str = 'owner', page_size: int = PAGE_SIZE) -> Server:
        """Return what a job of this user works with."""
        return Server(
            self.running.apiUrl,
            self.running.users[user],
            self.dataset_id,
            page_size=page_size,
            sleep=self.pauses.append,
        )

    def make_triangles(self, *lefts: float, **changes: Any) -> list[dict[str, Any]]:
        """Return annotations that are not on the server yet, each with its left end at one x."""
        return [make_triangle(self.dataset_id, left, **changes) for left in lefts]

    def create(self, *annotations: dict[str, Any]) -> list[str]:
        """Create annotations and return their ids."""
        created = self.client.post('upenn_annotation/multiple', json=list(annotations))
        return [one['_id'] for one in created]

    def list_annotations(self) -> list[dict[str, Any]]:
        """Return all annotations on the server, oldest first."""
        query = {'datasetId': self.dataset_id, 'limit': 0, 'sort': '_id'}
        return self.client.get('upenn_annotation', parameters=query)

    def list_lefts(self) -> list[float]:
        """Return the left ends of the triangles on the server, oldest first."""
        return [one['coordinates'][0]['x'] for one in self.list_annotations()]

    def list_configurations(self, user: str = 'owner') -> list[dict[str, Any]]:
        """Return the configurations of the dataset that a user can read."""
        client = self.running.client_of(user)
        views = client.get('dataset_view', parameters={'datasetId': self.dataset_id})
        return [client.get(f'upenn_collection/{view["configurationId"]}') for view in views]


def make_triangle(dataset_id: str, left: float, **changes: Any) -> dict[str, Any]:
    """Return an annotation as a client sends it."""
    corners = (left, 1.5), (left + 5, 1), (left, 9)
    return {
        'coordinates': [{'x': x, 'y': y} for x, y in corners],
        'tags': ['cell'],
        'channel': 0,
        'location': {'XY': 0, 'Z': 0, 'Time': 0},
        'shape': 'polygon',
        'datasetId': dataset_id,
        **changes,
    }


def open_lab(
    start: conftest.StartServer, folder: Path, *faults: dict, levels: tuple[dict, ...] = ()
) -> Lab:
    """Start an annotation server.

    Parameters
    ----------
    start : callable
        The fixture `start_server`, or that of module scope.
    folder : Path
        Empty.
    *faults : dict
        Rules of `tests.faulty_server`.
    levels : tuple of dict
        One entry per configuration of the dataset: {user: access level}.
    """
    write_dataset(folder, 'cells', np.zeros((8, 8), np.uint8))
    if levels:
        first, *others = (
            {'layers': [make_layer(0)], 'name': f'{number}', 'levels': level}
            for number, level in enumerate(levels)
        )
        sidecar = {**first, 'configurations': others}
        (folder / 'cells.layers.json').write_text(json.dumps(sidecar))
    return Lab(start(folder, '--faults', json.dumps(faults)))


@pytest.fixture
def start_lab(start_server: conftest.StartServer, tmp_path: Path) -> Callable[..., Lab]:
    """Return a function that starts an annotation server, as `open_lab` does."""
    return lambda *faults, **options: open_lab(start_server, tmp_path, *faults, **options)


@pytest.fixture
def lab(start_lab: Callable[..., Lab]) -> Lab:
    """Return an annotation server without faults, whose dataset has one configuration."""
    return start_lab(levels=({},))


# A server for answers that no real one gives


class Answers:
    """A girder client that gives these answers in order. An error among them is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[str] = []  # method and path
        self.bodies: list[Any] = []

    def answer(self, method: str, path: str, body: Any = None) -> Any:
        """Give the next answer."""
        self.requests.append(f'{method} {path}')
        self.bodies.append(body)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def get(self, path: str, parameters: Any = None) -> Any:
        """Answer a GET."""
        return self.answer('GET', path)

    def put(self, path: str, json: Any = None) -> Any:
        """Answer a PUT."""
        return self.answer('PUT', path, json)

    def post(self, path: str, parameters: Any = None, json: Any = None) -> Any:
        """Answer a POST."""
        return self.answer('POST', path, json)


def http_error(status: int | None) -> HttpError:
    """Return the error of a request; None for a request without an answer."""
    return HttpError(status, '', NOWHERE, 'POST')


def make_server(*answers: Any, page_size: int = PAGE_SIZE, dataset_id: str = 'd') -> Server:
    """Return a server whose client gives these answers."""
    server = Server(NOWHERE, 'token', dataset_id, page_size=page_size, sleep=lambda seconds: None)
    server.client = Answers(*answers)  # type: ignore[assignment]
    return server
