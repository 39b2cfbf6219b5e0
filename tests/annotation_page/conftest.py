"""A server with its page, and a Chromium that opens it."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from annotation_page.layers import list_layers
from annotation_server.store import Store
from tests.conftest import REPOSITORY, SECONDS_TO_STOP

STAND_IN = f'{sys.executable} -m tests.end_to_end.stand_in'
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
NO_PAGE = 'The page is not installed, so it was not tested. Install it: pip install ".[page]"'
NO_BROWSER = (
    'There is no Chromium, so the page was not tested. Install it: apt-get install chromium'
)


@dataclass(frozen=True)
class PageServer:
    """A running server with its page.

    Attributes
    ----------
    link : str
        Opens the page.
    folder : Path
        The served folder.
    process : subprocess.Popen
    """

    link: str
    folder: Path
    process: subprocess.Popen[str]

    @property
    def origin(self) -> str:
        return self.link.partition('/?')[0]

    @property
    def token(self) -> str:
        return self.link.partition('token=')[2]

    @property
    def port(self) -> int:
        return int(self.origin.rpartition(':')[2])

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(SECONDS_TO_STOP)

    def dataset_id(self, name: str) -> str:
        """Return the id of a dataset."""
        with closing(Store(self.folder / 'annotations.sqlite')) as store:
            return store.add_dataset(name, [], [])

    def polygons(self, name: str) -> list[dict[str, Any]]:
        """Return the polygons of a dataset, as the server has them."""
        with closing(Store(self.folder / 'annotations.sqlite')) as store:
            return store.annotations_at(store.add_dataset(name, [], []), {})

    def wait_for_layers(
        self, name: str, is_there: Callable[[list[dict[str, Any]]], bool]
    ) -> list[dict[str, Any]]:
        """Return the layers of a dataset, once they are as expected."""
        dataset_id = self.dataset_id(name)
        while True:
            with closing(Store(self.folder / 'annotations.sqlite')) as store:
                owner = store.user_of_token(self.token)
                assert owner is not None
                layers = list_layers(store, owner, dataset_id)
            if is_there(layers):
                return layers
            time.sleep(0.05)


StartPage = Callable[..., PageServer]


@contextmanager
def page_starter() -> Iterator[StartPage]:
    """Give a function that starts a server with its page, and stop all that it started."""
    with ExitStack() as stack:

        def start(folder: Path, *options: str, worker: str | None = STAND_IN) -> PageServer:
            command = [sys.executable, '-m', 'annotation_server', str(folder)]
            if worker is not None:
                command += ['--worker', worker]
            process = subprocess.Popen(
                [*command, *options],
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, 'SAM_CHECKPOINT_DIR': str(REPOSITORY / 'models')},
            )
            assert process.stdout is not None
            link = re.search(r'http\S+', process.stdout.readline())
            assert link, f'The server ended with status {process.wait()} before it was ready.'
            server = PageServer(link.group(), folder, process)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
def start_page() -> Iterator[StartPage]:
    """Yield a function that starts a server with its page. It ends with the test."""
    with page_starter() as starter:
        yield starter


@pytest.fixture(scope='module')
def start_module_page() -> Iterator[StartPage]:
    """Do the same for fixtures of module scope: the servers end with the module's last test."""
    with page_starter() as starter:
        yield starter


@pytest.fixture
def python_command() -> str:
    return sys.executable


@pytest.fixture(scope='module')
def browser() -> Iterator[Any]:
    """Yield a Chromium. Its event loop would disturb tests of other modules."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_browser(), args=['--no-sandbox'])
        yield chromium
        chromium.close()


def find_browser() -> str | None:
    """Return the path of a Chromium of this machine. None without one."""
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Skip what cannot run here. pytest shows one line per file with the reason."""
    has_page = find_spec('nicegui') is not None
    has_browser = find_spec('playwright') is not None and find_browser() is not None
    for item in items:
        fixtures = getattr(item, 'fixturenames', ())
        if not has_page and {'start_page', 'start_module_page'} & set(fixtures):
            item.add_marker(pytest.mark.skip(reason=NO_PAGE))
        elif not has_browser and 'browser' in fixtures:
            item.add_marker(pytest.mark.skip(reason=NO_BROWSER))
