"""Workers for tests of the page. `python -m tests.annotation_page.worker` takes their arguments.

Objects are bright areas. They are the more similar, the nearer their brightness is.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import entrypoint
from fewshot.geometry import CutMask
from fewshot.sam.proposals import Candidate
from tests.end_to_end.stand_in import BrightSegmenter

SLOW_TAG = 'slow'  # with this output tag, a job waits until it is cancelled
WARNING = 'There is something <b>odd</b>.'


class BrightnessSegmenter(BrightSegmenter):
    """A segmenter that tells objects apart by their brightness."""

    def describe(
        self,
        rgb: np.ndarray,
        objects: Sequence[CutMask | Candidate],
        report: Callable[[float], None],
    ) -> np.ndarray:
        """Return a vector per object. Its angle is the brightness."""
        report(1.0)
        levels = np.array([rgb[..., 0][one.box.slices].max() for one in objects], float)
        angles = (255 - levels) / 128
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def load(*_: Any) -> BrightnessSegmenter:
    """Return the segmenter, for the argument `load_segmenter` of the entrypoint's functions."""
    return BrightnessSegmenter()


def wait() -> None:
    """Send a progress line and a warning, and wait."""
    print(json.dumps({'progress': 0.25, 'title': 'Searching', 'info': '2 min left'}), flush=True)
    print(json.dumps({'warning': WARNING, 'title': 'Warning', 'info': 'Look.'}), flush=True)
    print('a line of the log', file=sys.stderr, flush=True)
    time.sleep(600)


if __name__ == '__main__':
    if f'"tags": ["{SLOW_TAG}"]' in ' '.join(sys.argv):
        wait()
    else:
        entrypoint.main(load_segmenter=load)
