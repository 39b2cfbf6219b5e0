"""Measure how fast the page answers in Chromium: `python -m benchmarks.page`.

The outlines are regular polygons on the demo's image, with random similarities. They are given to
the viewer, so reading them from the server does not count.
"""

import argparse
import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from playwright.sync_api import sync_playwright

from demo.processes import ROOT
from tests.annotation_page.conftest import find_browser, page_starter
from tests.annotation_page.tab import Tab

IMAGE = ROOT / 'tests' / 'data' / 'nuclei.tif'
LOADS = 5
ADD_OUTLINES = """([count, side, corners]) => {
    const outlines = [];
    for (let id = 0; id < count; id++) {
        const [x, y] = [Math.random() * side, Math.random() * side];
        const angles = [...Array(corners).keys()].map((corner) => 2 * Math.PI * corner / corners);
        const points = angles.map((angle) => [x + 8 * Math.cos(angle), y + 8 * Math.sin(angle)]);
        const similarity = Math.random();
        const scores = { Similarity: similarity };
        outlines.push({ id, points, tags: ["found"], isResult: true, scores });
    }
    annotationViewer.showOutlines(outlines);
}"""
# Milliseconds between two pictures, from now until `stopped` is set
RECORD = """() => {
    window.gaps = [];
    let last = performance.now();
    const note = (time) => {
        window.gaps.push(time - last);
        last = time;
        if (!window.stopped) requestAnimationFrame(note);
    };
    requestAnimationFrame(note);
}"""
# Milliseconds from a move of the slider until the next picture is painted
SLIDE = """async (moves) => {
    const slider = document.querySelector(".histogram input");
    const [least, most] = [Number(slider.min), Number(slider.max)];
    const afterPicture = (done) => requestAnimationFrame(() => setTimeout(done));
    const painted = () => new Promise(afterPicture);
    const times = [];
    for (let move = 0; move < moves; move++) {
        await painted();
        const start = performance.now();
        slider.value = least + Math.random() * (most - least);
        slider.dispatchEvent(new Event("input"));
        await painted();
        times.push(performance.now() - start);
    }
    return times;
}"""


def drag(tab: Tab, moves: int) -> list[float]:
    """Drag the image to and fro. Return the milliseconds between two pictures."""
    mouse = tab.page.mouse
    tab.choose('select')
    tab.page.evaluate(RECORD)
    mouse.move(580, 400)
    mouse.down()
    for move in range(moves):
        mouse.move(580 + 150 * math.sin(move / 10), 400 + 100 * math.cos(move / 10))
    mouse.up()
    tab.page.wait_for_timeout(500)  # the picture after the release is the slowest
    return tab.page.evaluate('() => { window.stopped = true; return window.gaps; }')


def measure(outlines: int, corners: int, moves: int) -> None:
    """Open the page on the demo's image, measure, and print the figures."""
    with (
        tempfile.TemporaryDirectory() as name,
        page_starter() as start,
        sync_playwright() as playwright,
    ):
        shutil.copy(IMAGE, name)
        link = start(Path(name), worker=None).link
        browser = playwright.chromium.launch(executable_path=find_browser(), args=['--no-sandbox'])
        print(f'Chromium {browser.version}, window of 1280×800 pixels')
        loads = []
        for _ in range(LOADS):
            tab = Tab(browser, link)
            tab.wait_for_image()
            loads.append(
                tab.page.evaluate("performance.getEntriesByName('first picture')[0].startTime")
            )
        print(f'First picture: {min(loads) / 1000:.2f} to {max(loads) / 1000:.2f} s, {LOADS} loads')

        tab.find('tab-look').click()
        tab.page.evaluate(ADD_OUTLINES, [outlines, 512, corners])
        tab.wait_for_count(outlines)
        gaps = drag(tab, moves)
        print(
            f'Moving the image with {outlines:,} outlines: {1000 * len(gaps) / sum(gaps):.0f} '
            f'pictures per second; the slowest took {max(gaps):.0f} ms'
        )
        times = tab.page.evaluate(SLIDE, moves)
        print(
            f'Moving the slider with {outlines:,} outlines: {median(times):.0f} ms until the next '
            f'picture, {min(times):.0f} to {max(times):.0f} ms'
        )
        browser.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.page', description=(__doc__ or '').splitlines()[0]
    )
    parser.add_argument('--outlines', type=int, default=5_000, help='default: %(default)s')
    parser.add_argument('--corners', type=int, default=60, help='of an outline, default: 60')
    parser.add_argument('--moves', type=int, default=100, help='of image and slider, default: 100')
    options = parser.parse_args(arguments)
    measure(options.outlines, options.corners, options.moves)


if __name__ == '__main__':
    main()
