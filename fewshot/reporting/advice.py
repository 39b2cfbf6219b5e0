"""Warnings about settings that do not fit the examples or the result."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fewshot import messages
from fewshot.geometry import CutMask, has_allowed_area
from fewshot.reporting.forecast import describe_seconds
from fewshot.reporting.reporter import Reporter
from fewshot.reporting.state import JobState
from fewshot.sam.checkpoints import Checkpoint
from fewshot.settings import (
    FAST,
    FASTEST,
    MAX_MASK_AREA,
    MAX_POINTS_PER_SIDE,
    MIN_POINTS_PER_SIDE,
)

# Sizes of objects. The first is in cells of the model's features. The others are in pixels of its
# input: SAM rarely outlines objects below 12, and 24 is the width of the median example at the
# proposed Tile Size.
MIN_WHOLE_FRAME_CELLS = 2
MIN_PROPOSED_PIXELS = 12
COMFORTABLE_PIXELS = 24

MAX_TILE_SIZE_PIXELS = 4096
TILE_SIZE_STEP_PIXELS = 64

# Similarities. A few examples that are alike must not make the proposed threshold strict. A
# threshold that is at most 0.1 below the examples needs no warning.
MIN_SPREAD = 0.02
NARROW_GAP = 0.1

# Area limits are proposed if they would have removed so many outlines. Where fewer lie outside,
# many of them are right: 3 of 6 in one half of the demo's image.
MIN_REMOVED, MIN_REMOVED_SHARE = 3, 0.1

MIN_POINTS = 4  # of the grid on the smallest example, on average over all places
MIN_SAVED_SECONDS, MIN_SAVED_SHARE = 10, 0.2  # of the time of the search

# An estimate for a frame or a tile. The time without a GPU is estimated before the search.
CANDIDATES_PER_FRAME = 400


def advise_on_cpu(
    checkpoint: Checkpoint,
    present: Sequence[Checkpoint],
    tiles: int,
    points_per_side: int,
    whole_frame: bool,
    smallest: float,
    reporter: Reporter,
) -> None:
    """Warn that there is no GPU, and name the fastest sensible choice. Small models need none.

    It is the fastest model trained with the same kind of images, with the features of the whole
    frame if the examples are large enough for them.

    Parameters
    ----------
    checkpoint : Checkpoint
        The user's choice.
    present : sequence of Checkpoint
        Those that the user can choose.
    tiles : int
        Number of frames or tiles to search.
    points_per_side : int
    whole_frame : bool
        Whether objects are described by the features of the whole frame.
    smallest : float
        Longer side of the smallest example, pixels of the model's input.
    """

    def estimate(model: Checkpoint, whole_frame: bool) -> float:
        candidates = 0 if whole_frame else CANDIDATES_PER_FRAME
        return tiles * model.costs.estimate_frame(points_per_side, candidates) if model.costs else 0

    if checkpoint.costs is None:
        return
    choices = [one for one in present if one.costs and one.images == checkpoint.images]
    is_large = smallest >= MIN_WHOLE_FRAME_CELLS * checkpoint.patch_size
    to_whole_frame = whole_frame or is_large
    fastest = min(choices, key=lambda one: estimate(one, to_whole_frame))
    reporter.warn(
        messages.NO_GPU,
        time=describe_seconds(estimate(checkpoint, whole_frame)),
        model=fastest.name,
        speed=FASTEST if to_whole_frame else FAST,
        least=describe_seconds(estimate(fastest, to_whole_frame)),
    )


def advise_on_source(
    objects: Sequence[CutMask], scale: float, patch_size: int, reporter: Reporter
) -> None:
    """Warn when the examples are too small to be described in the whole frame.

    Parameters
    ----------
    objects : sequence of CutMask
        The examples.
    scale : float
        Pixels of the model's input per pixel of the frame.
    patch_size : int
        Side of a cell of the model's features, pixels of its input.
    """
    least = MIN_WHOLE_FRAME_CELLS * patch_size
    small = sum(scale * max(one.mask.shape) < least for one in objects)
    if small:
        reporter.warn(messages.EXAMPLES_SMALL_FOR_SOURCE, small=small, count=len(objects))


def advise_on_size(
    objects: Sequence[CutMask], scale: float, input_size: int, reporter: Reporter
) -> bool:
    """Warn when the objects are too small for SAM to outline them, and propose a Tile Size.

    Parameters
    ----------
    objects, scale
        See `advise_on_source`.
    input_size : int
        Side of the model's input, pixels.

    Returns
    -------
    bool
        Whether there was a warning.
    """
    width = float(np.median([min(one.mask.shape) for one in objects]))
    if scale * width >= MIN_PROPOSED_PIXELS:
        return False
    longest = max(max(one.mask.shape) for one in objects)
    size = max(input_size * width / COMFORTABLE_PIXELS, 4 * longest)
    steps = math.ceil(size / TILE_SIZE_STEP_PIXELS)
    size = min(TILE_SIZE_STEP_PIXELS * steps, MAX_TILE_SIZE_PIXELS)
    reporter.warn(messages.OBJECTS_SMALL, width=width, size=size)
    return True


def advise_on_areas(areas: Sequence[int], min_area: int, max_area: int, reporter: Reporter) -> None:
    """Warn when the area limits exclude examples.

    Parameters
    ----------
    areas : sequence of int
        Of the examples, pixels.
    min_area, max_area : int
        Pixels. A `max_area` of 0 means no limit.
    """
    outside = [area for area in areas if not has_allowed_area(area, min_area, max_area)]
    if outside:
        reporter.warn(
            messages.EXAMPLES_OUTSIDE_LIMITS,
            outside=len(outside),
            count=len(areas),
            smallest=min(areas),
            largest=max(areas),
        )


def advise_on_limits(
    examples: Sequence[int],
    min_area: int,
    max_area: int,
    uploaded: Mapping[int, int],
    reporter: Reporter,
) -> None:
    """Warn when area limits that follow from the examples would have removed many outlines.

    The limits are half the area of the smallest example and twice that of the largest. A stricter
    limit of the user stays. There is no proposal if the user's limits exclude an example.

    Parameters
    ----------
    examples : sequence of int
        Areas of the examples, pixels.
    min_area, max_area : int
        Pixels. A `max_area` of 0 means no limit.
    uploaded : Mapping
        {area in pixels: number of uploaded outlines}
    """
    if not all(has_allowed_area(area, min_area, max_area) for area in examples):
        return
    low = min(max(min_area, min(examples) // 2), MAX_MASK_AREA)
    high = 2 * max(examples)
    high = min(high, max_area) if max_area else high
    high = high if high <= MAX_MASK_AREA else 0
    removed = sum(
        number for area, number in uploaded.items() if not has_allowed_area(area, low, high)
    )
    count = sum(uploaded.values())
    if removed >= MIN_REMOVED and removed >= MIN_REMOVED_SHARE * count:
        reporter.warn(
            messages.AREAS_DIFFER,
            removed=removed,
            count=count,
            smallest=min(examples),
            largest=max(examples),
            low=low,
            high=high,
        )


def propose_points(smallest: float) -> int:
    """Return the Points per side with MIN_POINTS on the smallest example, if the field allows.

    Parameters
    ----------
    smallest : float
        Area of the smallest example as a fraction of its frame or tile.

    Examples
    --------
    >>> propose_points(20 * 20 / 1024**2)
    103
    """
    points = math.ceil(math.sqrt(MIN_POINTS / smallest))
    return min(max(points, MIN_POINTS_PER_SIDE), MAX_POINTS_PER_SIDE)


def advise_on_coarse_grid(smallest: float, points_per_side: int, reporter: Reporter) -> None:
    """Warn when the grid has less than half of MIN_POINTS on the smallest example.

    Parameters
    ----------
    smallest : float
        Area of the smallest example as a fraction of its frame or tile.
    points_per_side : int
    """
    seen = smallest * points_per_side**2
    proposed = propose_points(smallest)
    if 2 * seen < MIN_POINTS and proposed > points_per_side:
        reporter.warn(
            messages.GRID_COARSE,
            points=points_per_side,
            seen=seen,
            proposed=proposed,
            times=(proposed / points_per_side) ** 2,
        )


def advise_on_fine_grid(
    smallest: float, points_per_side: int, state: JobState, reporter: Reporter
) -> None:
    """Warn when a coarser grid would have saved much time.

    It must have MIN_POINTS on the smallest example. The time to propose grows with the square of
    Points per side.

    Parameters
    ----------
    smallest, points_per_side
        See `advise_on_coarse_grid`.
    """
    proposed = propose_points(smallest)
    proposing = state.stopwatch.seconds.get('propose', 0.0)
    saved = (1 - (proposed / points_per_side) ** 2) * proposing
    whole = state.forecast.seconds
    if state.counts.kept and saved >= MIN_SAVED_SECONDS and saved >= MIN_SAVED_SHARE * whole:
        reporter.warn(
            messages.GRID_FINE,
            points=points_per_side,
            proposed=proposed,
            least=MIN_POINTS,
            saved=describe_seconds(saved),
            whole=describe_seconds(whole),
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


def advise_on_existing(threshold: float, state: JobState, reporter: Reporter) -> None:
    """Warn when more than half of the objects found were not added, as the server has them.

    Parameters
    ----------
    threshold : float
        One of the thresholds for which the state counts objects.
    """
    found = state.found_at[threshold]
    if 2 * state.counts.known > found:
        reporter.warn(messages.MOSTLY_KNOWN, known=state.counts.known, found=found)
