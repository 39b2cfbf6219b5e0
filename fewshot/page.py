"""The job as the user sees it on the page: a bar that moves, and a few warnings."""
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future

from fewshot.forecast import Forecast
from fewshot.parameters import Location

SECONDS_APART = 0.25  # of two progress messages
MOST_WARNINGS = 20  # a job; the page opens a notice for each
EXAMPLES_SHARE = 0.05  # of the bar

Report = Callable[[float, str], None]  # how far a tile is, 0 to 1, and what is being done

log = logging.getLogger('sam_fewshot')


class Page:
    """Passes on what a job has to say, no faster and no more than a person can read."""

    def __init__(self, sendProgress: Callable, sendWarning: Callable):
        """Take the functions of `annotation_client.utils`, or of NimbusImage's own client."""
        self.sendProgress, self.sendWarning = sendProgress, sendWarning
        self.last = -SECONDS_APART
        self.warnings = 0
        self.state = ''  # what is on the server and what remains, for the progress lines of a batch

    def show(self, share: float, title: str, info: str) -> None:
        """Move the bar to `share`, 0 to 1. What comes too soon after the last is passed over, except for the end."""
        now = time.monotonic()
        if share >= 1 or now - self.last >= SECONDS_APART:
            self.last = now
            self.sendProgress(share, title, info)

    def warn(self, message: str, title: str, info: str) -> None:
        """Show a warning until the user dismisses it; beyond MOST_WARNINGS it goes to the log alone."""
        self.warnings += 1
        log.warning('%s. %s', message, info)
        if self.warnings <= MOST_WARNINGS:
            self.sendWarning(message, title=title, info=info)

    def close(self) -> None:
        """Say how many warnings the user did not see."""
        if self.warnings > MOST_WARNINGS:
            self.sendWarning(f'{self.warnings - MOST_WARNINGS} more warnings', title='Warnings',
                             info='They stand in the log of the job.')


def make_reporter(page: Page, forecast: Forecast, location: Location, number: int, tiles: int,
                  outgoing: Future | None, tile: int) -> Report:
    """A function that tells the user how far (0 to 1) and with what the worker is in one tile of one frame.

    It raises what has ended the batch in the upload of the frame before, `outgoing`.

    Parameters
    ----------
    forecast : of the batch
    number : of the frame in the batch, from 0
    tiles : of a frame
    tile : its number in the frame, from 0
    """
    def report(share: float, info: str) -> None:
        if outgoing and outgoing.done():
            outgoing.result()
        done = number + (tile + share) / tiles
        bar = EXAMPLES_SHARE + (1 - EXAMPLES_SHARE) * done / forecast.frames
        doing = f'Tile {tile + 1} of {tiles}. {info}' if tiles > 1 else info
        page.show(round(bar, 4), f'{location} ({number + 1} of {forecast.frames}{forecast.describe(done)})',
                  f'{doing}. {page.state}' if page.state else doing)
    return report
