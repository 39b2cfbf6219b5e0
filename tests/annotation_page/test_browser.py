"""A user's way through the page, with mouse and keyboard, in a real Chromium."""

import csv
import io
import json
import re
import zipfile
from typing import Any

import numpy as np
import pytest
import roifile
import tifffile

from tests.annotation_page.conftest import PageServer, StartPage
from tests.datasets import make_layer, write_dataset
from tests.end_to_end.stand_in import CORNERS, HEIGHT, WIDTH, draw_frame, write_batch

pytestmark = pytest.mark.xdist_group('browser')


class Tab:
    """A tab of the browser that shows the page, in a context of its own."""

    def __init__(self, browser: Any, link: str, context: Any = None) -> None:
        self.context = context or browser.new_context(
            viewport={'width': 1280, 'height': 800}, accept_downloads=True
        )
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on('pageerror', lambda error: self.errors.append(str(error)))
        self.page.goto(link)

    def wait_for_image(self) -> None:
        self.wait("performance.getEntriesByName('first picture').length > 0")

    def wait(self, expression: str) -> None:
        self.page.wait_for_function(expression, timeout=60_000)

    def find(self, mark: str) -> Any:
        return self.page.locator(f'[data-testid="{mark}"]')

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the image is on the screen."""
        return tuple(
            self.page.evaluate(
                """([x, y]) => {
                    const viewer = window.annotationViewer;
                    const point = viewer.map.latLngToContainerPoint([-y, x]);
                    const box = viewer.$el.getBoundingClientRect();
                    return [box.left + point.x, box.top + point.y];
                }""",
                [x, y],
            )
        )

    def draw(self, *corners: tuple[float, float]) -> None:
        """Draw freehand along corners, and wait until the outline is there."""
        known = self.outlines()
        mouse = self.page.mouse
        mouse.move(*self.place(*corners[0]))
        mouse.down()
        for corner in (*corners[1:], corners[0]):
            mouse.move(*self.place(*corner), steps=5)
        mouse.up()
        self.wait(f'annotationViewer.shapes.size === {len(known) + 1}')

    def click(self, x: float, y: float) -> None:
        self.page.mouse.click(*self.place(x, y))

    def outlines(self) -> list[dict[str, Any]]:
        """Return the outlines that the viewer has, shown or not."""
        return self.page.evaluate(
            '[...annotationViewer.shapes.values()].map((shape) => shape.outline)'
        )

    def shown(self) -> int:
        return self.page.evaluate('annotationViewer.shownIds().length')

    def run(self) -> None:
        """Press Run and wait for the end of the job."""
        self.find('run').click()
        self.page.wait_for_function(
            "document.querySelector('[data-testid=progress]').textContent.startsWith('Done')",
            timeout=120_000,
        )

    def save(self, kind: str) -> tuple[str, bytes]:
        self.find('tab-save').click()
        with self.page.expect_download() as download:
            self.find(f'save-{kind}').click()
        return download.value.suggested_filename, open(download.value.path(), 'rb').read()


def square(row: float, column: float) -> list[tuple[float, float]]:
    """Return the corners of one of the bright squares."""
    return [
        (column, row),
        (column + WIDTH, row),
        (column + WIDTH, row + HEIGHT),
        (column, row + HEIGHT),
    ]


@pytest.fixture
def server(start_page: StartPage, tmp_path) -> PageServer:
    write_batch(tmp_path)
    return start_page(tmp_path)


def test_a_user_gets_from_outlines_to_files(browser, server):
    tab = Tab(browser, server.link)
    tab.wait_for_image()
    tab.draw(*square(*CORNERS[0]))
    (example,) = server.polygons('cells')
    assert example['tags'] == ['example']
    tab.run()
    assert tab.errors == []
