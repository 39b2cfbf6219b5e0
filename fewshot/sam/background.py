"""The points of a grid that lie on the background, where hardly any point finds a new object.

A mask of the background leaves out the objects on it. So the points are asked in passes, from a
coarse grid to the whole one, and a point is skipped if a mask of the background from an earlier
pass covers its cell.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from fewshot.sam.candidates import Candidate

STRIDES = 4, 2, 1  # of the passes, points
LEAST_SHARE = 0.25  # of the frame, that a mask of the background covers
FAR = 0.5  # of the way from a threshold of the mask generator to 1, that its scores reach


def plan_passes(points_per_side: int) -> list[np.ndarray]:
    """Return the numbers of the points of each pass. Each point is in one pass.

    Examples
    --------
    >>> [len(numbers) for numbers in plan_passes(16)]
    [16, 64, 176]
    """
    waiting = np.ones((points_per_side, points_per_side), bool)
    passes = []
    for stride in STRIDES:
        chosen = np.zeros_like(waiting)
        chosen[stride // 2 :: stride, stride // 2 :: stride] = True
        passes.append(np.flatnonzero(chosen & waiting))
        waiting &= ~chosen
    return passes


def is_far_above(score: float, threshold: float) -> bool:
    """Return whether a score is far above a threshold of the mask generator.

    Examples
    --------
    >>> is_far_above(0.95, threshold=0.88), is_far_above(0.93, threshold=0.88)
    (True, False)
    """
    return score >= threshold + FAR * (1 - threshold)


def find_covered(
    masks: Sequence[Candidate], shape: Sequence[int], points_per_side: int
) -> np.ndarray:
    """Return which points have a cell that masks of the background cover together.

    Parameters
    ----------
    masks : sequence of Candidate
        Those that cover less than LEAST_SHARE of the frame are ignored.
    shape : sequence of int
        Of the frame, (H, W, ...).
    points_per_side : int

    Returns
    -------
    (points,) bool ndarray
        By the number of the point, row by row.
    """
    height, width = shape[:2]
    covered = np.zeros((height, width), np.uint8)
    for one in masks:
        if one.area >= LEAST_SHARE * height * width:
            covered[one.box.slices] |= one.mask
    # the sum over a rectangle is a sum of four corners of this table
    table = cv2.integral(covered)
    top, bottom = _bound_cells(height, points_per_side)
    left, right = _bound_cells(width, points_per_side)
    sums = table[np.ix_(bottom, right)] - table[np.ix_(top, right)]
    sums -= table[np.ix_(bottom, left)] - table[np.ix_(top, left)]
    return (sums == np.outer(bottom - top, right - left)).ravel()


def _bound_cells(length: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first pixel of each cell, and the one after the last: (cells,) each."""
    numbers = np.arange(cells)
    return numbers * length // cells, -(-(numbers + 1) * length // cells)
