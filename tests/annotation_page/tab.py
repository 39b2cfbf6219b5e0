"""A tab of a Chromium that shows the page, for tests and for screenshots."""

from collections import Counter
from pathlib import Path
from typing import Any

PATIENCE = 300_000  # milliseconds: on a busy machine a step may take long


class Tab:
    """A tab of the browser that shows the page, in a context of its own unless one is given."""

    def __init__(self, browser: Any, link: str, context: Any = None) -> None:
        self.context = context or browser.new_context(
            viewport={'width': 1280, 'height': 800}, accept_downloads=True
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        self.page.on('pageerror', lambda error: self.errors.append(str(error)))
        self.page.on('request', lambda request: self.hosts.add(request.url.split('/')[2]))
        self.page.goto(link)

    def wait(self, expression: str) -> None:
        self.page.wait_for_function(expression)

    def wait_for_image(self) -> None:
        self.wait("performance.getEntriesByName('first picture').length > 0")

    def wait_for_count(self, count: int) -> None:
        self.wait(f'annotationViewer.shapes.size === {count}')

    def find(self, name: str) -> Any:
        return self.page.locator(f'[data-testid="{name}"]')

    def see(self, text: str) -> Any:
        found = self.page.get_by_text(text).first
        found.wait_for()
        return found

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

    def choose(self, mode: str) -> None:
        self.find(f'mode-{mode}').click()
        self.wait(f"annotationViewer.mode === '{mode}'")

    def draw(self, *corners: tuple[float, float]) -> None:
        """Draw freehand along corners, and wait until the outline is there."""
        known = len(self.outlines())
        mouse = self.page.mouse
        mouse.move(*self.place(*corners[0]))
        mouse.down()
        for corner in (*corners[1:], corners[0]):
            mouse.move(*self.place(*corner), steps=5)
        mouse.up()
        self.wait_for_count(known + 1)

    def click(self, x: float, y: float) -> None:
        self.page.mouse.click(*self.place(x, y))

    def outlines(self) -> list[dict[str, Any]]:
        """Return the outlines that the viewer has, shown or not."""
        return self.page.evaluate(
            '[...annotationViewer.shapes.values()].map((shape) => shape.outline)'
        )

    def tags(self) -> Counter:
        return Counter(tag for outline in self.outlines() for tag in outline['tags'])

    def shown(self) -> int:
        return self.page.evaluate('annotationViewer.shownIds().length')

    def choose_score(self, name: str) -> None:
        self.find('tab-look').click()
        self.page.get_by_role('button', name=name, exact=True).click()
        self.wait(f"annotationViewer.scoreName === '{name}'")

    def set_threshold(self, value: float) -> None:
        """Move the slider of the histogram as the keyboard or a drag would."""
        self.find('tab-look').click()
        self.page.locator('.histogram input').evaluate(
            """(slider, value) => {
                slider.value = value;
                slider.dispatchEvent(new Event('input'));
                slider.dispatchEvent(new Event('change'));
            }""",
            value,
        )

    def run(self) -> None:
        """Press Run and wait for the end of the job."""
        self.find('run').click()
        self.wait("!document.querySelector('[data-testid=cancel]').disabled")
        self.wait("document.querySelector('[data-testid=cancel]').disabled")
        assert self.find('progress').inner_text().startswith('Done')

    def save(self, kind: str) -> tuple[str, bytes]:
        """Press a button of the tab Save. Return the name and the content of the file."""
        self.find('tab-save').click()
        with self.page.expect_download() as download:
            self.find(f'save-{kind}').click()
        return download.value.suggested_filename, Path(download.value.path()).read_bytes()
