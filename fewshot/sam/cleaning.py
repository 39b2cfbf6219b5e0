"""Clean masks: small holes and islands go, and then masks that became near duplicates.

The results are those of `segment_anything.SamAutomaticMaskGenerator`, bit for bit. Proposals of an
earlier run are cleaned too, so this module needs neither torch nor SAM.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from fewshot.geometry import Box, bound_mask
from fewshot.sam.candidates import Candidate, pack_mask


def clean_mask(candidate: Candidate, shape: Sequence[int], min_area: int) -> Candidate:
    """Fill the small holes of a mask and remove its small islands.

    Parameters
    ----------
    candidate : Candidate
    shape : sequence of int
        Of the frame, (H, W, ...).
    min_area : int
        Regions of fewer pixels are small. Pixels that touch at a corner are connected. The largest
        island stays, whatever its size.

    Returns
    -------
    Candidate
        `candidate` itself if nothing changes.
    """
    if not min_area:
        return candidate
    box = _grow_box(candidate.box, shape, min_area)
    mask = np.zeros((box.height, box.width), bool)
    mask[candidate.box.shift(-box.top, -box.left).slices] = candidate.mask
    mask, has_holes = fill_small_holes(mask, min_area)
    mask, has_islands = remove_small_islands(mask, min_area)
    if not has_holes and not has_islands:
        return candidate
    inner = bound_mask(mask)
    assert inner is not None  # the largest island stays
    return replace(
        candidate,
        box=inner.shift(box.top, box.left),
        bits=pack_mask(mask[inner.slices]),
        area=int(np.count_nonzero(mask)),
    )


def _grow_box(box: Box, shape: Sequence[int], min_area: int) -> Box:
    """Add so much background to a box that its small holes are the same as in the whole frame.

    A region of background can leave the box. If it also leaves the grown box, it fills a strip of
    the margin, which has at least `min_area` pixels. So its area need not be known.

    The corner has even coordinates, because OpenCV labels regions in the order of blocks of 2 x 2
    pixels. So islands of equal size have the same order as in the whole frame.
    """
    height, width = shape[:2]
    margin = math.ceil(math.sqrt(min_area))
    if margin > min(height, width):
        return Box(0, 0, height, width)  # a strip could be shorter than the margin
    return Box(
        _round_to_even(max(box.top - margin, 0)),
        _round_to_even(max(box.left - margin, 0)),
        min(box.bottom + margin, height),
        min(box.right + margin, width),
    )


def _round_to_even(coordinate: int) -> int:
    """Return the next even number that is not larger."""
    return coordinate - coordinate % 2


def fill_small_holes(mask: np.ndarray, min_area: int) -> tuple[np.ndarray, bool]:
    """Fill the regions of background that have fewer than `min_area` pixels.

    Parameters
    ----------
    mask : (h, w) bool ndarray
    min_area : int
        Pixels.

    Returns
    -------
    filled : (h, w) bool ndarray
    has_changed : bool
    """
    regions, sizes = _find_regions(~mask)
    is_small = sizes < min_area
    is_small[0] = False  # the foreground
    if not is_small.any():
        return mask, False
    return mask | is_small[regions], True


def remove_small_islands(mask: np.ndarray, min_area: int) -> tuple[np.ndarray, bool]:
    """Remove the regions of a mask that have fewer than `min_area` pixels.

    Parameters
    ----------
    mask : (h, w) bool ndarray
    min_area : int
        Pixels. If all regions are smaller, the largest stays, the first one of equal size.

    Returns
    -------
    cleaned : (h, w) bool ndarray
    has_small : bool
        Whether any region is smaller.
    """
    regions, sizes = _find_regions(mask)
    stays = sizes >= min_area
    stays[0] = False  # the background
    if stays[1:].all():
        return mask, False
    if not stays.any():
        stays[1 + sizes[1:].argmax()] = True
    return stays[regions], True


def _find_regions(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label the regions of a mask from 1, and count the pixels of each label."""
    # SAM uses this function too. The order of its labels decides between islands of equal size.
    _, regions, statistics, _ = cv2.connectedComponentsWithStats(
        mask.view(np.uint8), connectivity=8
    )
    return regions, statistics[:, cv2.CC_STAT_AREA]


def select_cleaned(
    proposed: Sequence[Candidate], cleaned: Sequence[Candidate], iou_thresh: float
) -> list[int]:
    """Select the candidates that are no near duplicates of a better one after cleaning.

    Candidates that did not change are better.

    Parameters
    ----------
    proposed : sequence of Candidate
    cleaned : sequence of Candidate
        From `clean_mask`, for each of `proposed`.
    iou_thresh : float
        See `suppress_duplicates`.

    Returns
    -------
    list of int
        Indices of the selected candidates, the better ones first.
    """
    is_unchanged = [float(after is before) for before, after in zip(proposed, cleaned, strict=True)]
    return suppress_duplicates([one.box for one in cleaned], is_unchanged, iou_thresh)


def suppress_duplicates(
    boxes: Sequence[Box], scores: Sequence[float], iou_thresh: float
) -> list[int]:
    """Select the boxes that overlap no better one too much (non-maximum suppression).

    The result is that of `torchvision.ops.nms`.

    Parameters
    ----------
    boxes : sequence of Box
    scores : sequence of float
        Of equal scores, the first is the best.
    iou_thresh : float
        Largest IoU of two boxes that are no duplicates.

    Returns
    -------
    list of int
        Indices of the selected boxes, by descending score.

    Examples
    --------
    >>> boxes = [Box(0, 0, 10, 10), Box(1, 0, 11, 10), Box(30, 30, 40, 40)]
    >>> suppress_duplicates(boxes, [0.6, 0.9, 0.7], iou_thresh=0.7)
    [1, 2]
    """
    # SAM's boxes end at the last pixel, not after it. torchvision computes with float32.
    corners = np.array(boxes, np.float32).reshape(-1, 4) - np.array([0, 0, 1, 1], np.float32)
    first, last = corners[:, :2], corners[:, 2:]
    areas = (last - first).prod(axis=1)
    waiting = np.argsort(-np.array(scores, np.float32), kind='stable')
    selected = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        selected.append(int(best))
        sides = np.minimum(last[waiting], last[best]) - np.maximum(first[waiting], first[best])
        shared = sides.clip(0).prod(axis=1)
        with np.errstate(invalid='ignore'):  # boxes of one row or column have no area
            iou = shared / (areas[waiting] + areas[best] - shared)
        waiting = waiting[~(iou.astype(float) > iou_thresh)]
    return selected
