"""Warnings about settings that do not fit the examples or the result."""

import math
from collections.abc import Sequence

import numpy as np

from fewshot import messages
from fewshot.geometry import CutMask
from fewshot.reporting.reporter import Reporter
from fewshot.reporting.state import Counts, JobState

# Widths of objects in pixels of the model's input. 32 are two cells of the feature grid. SAM rarely
# outlines objects below 12. 24 is the width of the median example at the proposed Tile Size.
MIN_WHOLE_FRAME_PIXELS = 32
MIN_PROPOSED_PIXELS = 12
COMFORTABLE_PIXELS = 24

MAX_TILE_SIZE_PIXELS = 4096
TILE_SIZE_STEP_PIXELS = 64

# Similarities. A few examples that are alike must not make the proposed threshold strict. A
# threshold that is at most 0.1 below the examples needs no warning.
MIN_SPREAD = 0.02
NARROW_GAP = 0.1


def advise_on_source(
    objects: Sequence[CutMask], scale: float, input_size: int, reporter: Reporter
) -> None:
    """Warn when the examples are too small to be described in the whole frame.

    Parameters
    ----------
    objects : sequence of CutMask
        The examples.
    scale : float
        Pixels of the model's input per pixel of the frame.
    input_size : int
        Side of the model's input, pixels.
    """
    small = sum(scale * max(one.mask.shape) < MIN_WHOLE_FRAME_PIXELS for one in objects)
    if small:
        reporter.warn(
            messages.EXAMPLES_SMALL_FOR_SOURCE,
            small=small,
            count=len(objects),
            input_size=input_size,
            least=MIN_WHOLE_FRAME_PIXELS,
        )


def advise_on_size(
    objects: Sequence[CutMask], scale: float, input_size: int, reporter: Reporter
) -> None:
    """Warn when the objects are too small for SAM to outline them, and propose a Tile Size.

    The parameters are those of `advise_on_source`.
    """
    width = float(np.median([min(one.mask.shape) for one in objects]))
    if scale * width >= MIN_PROPOSED_PIXELS:
        return
    longest = max(max(one.mask.shape) for one in objects)
    size = max(input_size * width / COMFORTABLE_PIXELS, 4 * longest)
    steps = math.ceil(size / TILE_SIZE_STEP_PIXELS)
    size = min(TILE_SIZE_STEP_PIXELS * steps, MAX_TILE_SIZE_PIXELS)
    reporter.warn(
        messages.OBJECTS_SMALL,
        width=width,
        seen=scale * width,
        size=size,
        least=MIN_PROPOSED_PIXELS,
    )


def advise_on_areas(
    objects: Sequence[CutMask], min_area: int, max_area: int, reporter: Reporter
) -> None:
    """Warn when the area limits exclude examples.

    Parameters
    ----------
    objects : sequence of CutMask
        The examples.
    min_area, max_area : int
        Pixels. A `max_area` of 0 means no limit.
    """
    areas = [int(one.mask.sum()) for one in objects]
    outside = [area for area in areas if area < min_area or (max_area and area > max_area)]
    if outside:
        reporter.warn(
            messages.EXAMPLES_OUTSIDE_LIMITS,
            outside=len(outside),
            count=len(areas),
            smallest=min(areas),
            largest=max(areas),
        )


def advise_on_threshold(
    threshold: float, examples: Sequence[float], state: JobState, reporter: Reporter
) -> None:
    """Warn when the threshold let every candidate pass and is far below the examples.

    The proposed threshold is the lowest similarity of an example minus the spread of the examples'
    similarities. Objects then pass if they differ from the examples as much as the examples differ
    from each other. At least three examples are needed to estimate the spread.

    Parameters
    ----------
    threshold : float
    examples : sequence of float
        Similarity of each example to the prototype of the others.
    """
    passed_all = state.counts.in_area and not state.counts.below_threshold
    if not passed_all or len(examples) < 3 or min(examples) - threshold <= NARROW_GAP:
        return
    spread = max(max(examples) - min(examples), MIN_SPREAD)
    proposed = math.floor(100 * (min(examples) - spread)) / 100
    if proposed > threshold:
        reporter.warn(
            messages.THRESHOLD_LOW,
            threshold=threshold,
            proposed=proposed,
            lowest=min(examples),
            highest=max(examples),
        )


def advise_on_existing(counts: Counts, reporter: Reporter) -> None:
    """Warn when more than half of the objects found were not added, as the server has them."""
    found = counts.kept - counts.duplicates
    if 2 * counts.known > found:
        reporter.warn(messages.MOSTLY_KNOWN, known=counts.known, found=found)
