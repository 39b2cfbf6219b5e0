"""Make the screenshots of docs/page.md: `.venv/bin/python -m docs.screenshots`.

It drives the page as a user would, with the small model, on the coins of scikit-image.
"""

import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from scipy import ndimage
from skimage import data, filters, measure, morphology, segmentation

from tests.annotation_page.conftest import find_browser, page_starter
from tests.annotation_page.tab import Tab

DOCS = Path(__file__).parent
COLOURS = 256  # of a picture: it needs half of the bytes
SMALLEST_COIN = 600  # pixels
EXAMPLES = 8


def trace_coins(image: np.ndarray) -> list[np.ndarray]:
    """Return the outlines of coins, (N, 2) as x and y, as a careful user would draw them."""
    bright = morphology.closing(
        image > filters.threshold_otsu(image), morphology.footprint_rectangle((3, 3))
    )
    labels = measure.label(segmentation.clear_border(bright))
    outlines = []
    for region in measure.regionprops(labels):
        if region.area > SMALLEST_COIN:
            mask = np.pad(ndimage.binary_fill_holes(region.image), 1).astype(float)
            contour = max(measure.find_contours(ndimage.gaussian_filter(mask, 1), 0.5), key=len)
            outlines.append(contour[::6, ::-1] - 0.5 + (region.bbox[1], region.bbox[0]))
    return outlines


def save(page: Page, name: str) -> None:
    """Save what the tab shows as docs/NAME.png."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert('RGB')
    # unlike the default, the octree keeps rare colours; it does not dither by itself
    palette = picture.quantize(COLOURS, Image.Quantize.FASTOCTREE)
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(
        DOCS / f'{name}.png', optimize=True
    )


def main() -> None:
    """Take all pictures."""
    coins = data.coins()
    outlines = trace_coins(coins)
    with (
        tempfile.TemporaryDirectory() as folder,
        page_starter() as start,
        sync_playwright() as playwright,
    ):
        Image.fromarray(coins).save(Path(folder) / 'coins.png')
        server = start(Path(folder), worker=None)
        browser = playwright.chromium.launch(executable_path=find_browser(), args=['--no-sandbox'])
        tab = Tab(browser, server.link)
        tab.wait_for_image()
        tab.see('Similarity Threshold')
        for outline in outlines[: EXAMPLES - 1]:
            tab.draw(*map(tuple, outline))
        # the last one is not finished yet
        points = [tab.place(*point) for point in outlines[EXAMPLES - 1]]
        tab.page.mouse.move(*points[0])
        tab.page.mouse.down()
        for point in points[1 : len(points) * 2 // 3]:
            tab.page.mouse.move(*point)
        save(tab.page, 'page_outline')
        for point in (*points[len(points) * 2 // 3 :], points[0]):
            tab.page.mouse.move(*point)
        tab.page.mouse.up()
        tab.wait_for_count(EXAMPLES)

        tab.run()
        tab.wait('annotationViewer.shownScores.length > 0')
        tab.choose('select')
        scores = tab.page.evaluate('annotationViewer.shownScores')
        tab.set_threshold(float(np.percentile(scores, 20)))
        found = [one for one in tab.outlines() if one['isResult']]
        best = max(found, key=lambda one: one['scores']['Similarity'])
        tab.page.mouse.move(*tab.place(*np.mean(best['points'], axis=0)))
        tab.page.locator('.scores').wait_for()
        save(tab.page, 'page')
        tab.find('tab-save').click()
        tab.page.mouse.move(*tab.place(0, 0))
        tab.page.wait_for_timeout(500)  # the ripple of the click
        save(tab.page, 'page_save')
        browser.close()


if __name__ == '__main__':
    main()
