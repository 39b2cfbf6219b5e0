"""Warnings about settings that do not fit the examples or the result. Each function warns, or does nothing."""

import math
from collections.abc import Sequence

import numpy as np

from fewshot import messages
from fewshot.geometry import CutMask
from fewshot.reporting.reporter import Reporter
from fewshot.reporting.state import JobState

MIN_WHOLE_FRAME_PIXELS = 32  # of the model's input: two cells of the feature grid
MIN_PROPOSED_PIXELS = 12  # of the model's input; SAM rarely outlines smaller objects
COMFORTABLE_PIXELS = 24  # of the model's input, for the median example at the proposed Tile Size
MAX_TILE_SIZE = 4096
TILE_SIZE_STEP = 64
MIN_SPREAD = (
    0.02  # of the examples' similarities; a few similar examples do not make a strict threshold
)
NARROW_GAP = 0.1  # between threshold and examples; with a wider one every candidate passes


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
    """Warn when SAM sees the objects too small to outline them, and propose a Tile Size.

    The parameters are those of `advise_on_source`.
    """
    width = float(np.median([min(one.mask.shape) for one in objects]))
    if scale * width >= MIN_PROPOSED_PIXELS:
        return
    longest = max(max(one.mask.shape) for one in objects)
    size = max(input_size * width / COMFORTABLE_PIXELS, 4 * longest)
    size = min(TILE_SIZE_STEP * math.ceil(size / TILE_SIZE_STEP), MAX_TILE_SIZE)
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
    """Warn when the area limits, in pixels, exclude the user's own examples. A `max_area` of 0 means no limit."""
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

    The proposed threshold is the lowest similarity of an example less the spread of these similarities, so that
    objects pass that differ from the examples as much as these differ from each other. Fewer than three examples tell
    nothing about the spread.

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
