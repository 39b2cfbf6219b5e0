"""Find duplicates: among the objects that were found, and of objects that the server has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely

from fewshot.geometry import Box
from fewshot.images.tiling import touches_inner_border
from fewshot.polygons import MAX_COORDINATE
from fewshot.sam.candidates import Candidate

# Names of scores. Examples have the first two, but only objects of this worker have a predicted
# IoU. A later run tells its own objects from examples by it.
SIMILARITY, CLOSEST_EXAMPLES = 'Similarity', 'Closest Examples'
PREDICTED_IOU = 'Predicted IoU'
SAME_IOU = 0.5  # two outlines of one object share at least this
PART_SHARE = 0.8  # share of an outline inside another, from which it is a part of it
MAX_CROSSED_CORNERS = 500  # of a polygon that crosses itself; the time grows with their square


@dataclass(frozen=True)
class Found:
    """A candidate that is similar to the examples.

    Attributes
    ----------
    candidate : Candidate
    similarity : float
        Cosine to the prototype.
    closest : float
        Mean cosine to the closest examples.
    tile : int
        Number of the tile, within its frame, in which it was found.
    """

    candidate: Candidate
    similarity: float
    closest: float
    tile: int = 0

    def shift(self, down: int, right: int) -> Found:
        """Return the object, moved by pixels."""
        box = self.candidate.box.shift(down, right)
        return replace(self, candidate=replace(self.candidate, box=box))

    @property
    def scores(self) -> dict[str, float]:
        """Numbers by which the user can sort and filter, by name."""
        return {
            SIMILARITY: self.similarity,
            CLOSEST_EXAMPLES: self.closest,
            PREDICTED_IOU: self.candidate.predicted_iou,
        }


def place_in_frame(
    found: Sequence[Found], number: int, tile: Box, frame_shape: Sequence[int]
) -> list[Found]:
    """Move the objects of a tile to their place in the frame.

    Objects that an inner border cuts are ignored, because a neighbouring tile has them whole.

    Parameters
    ----------
    found : sequence of Found
        In pixels of the tile.
    number : int
        Number of the tile within its frame.
    tile : Box
        In pixels of the frame.
    frame_shape : (H, W, ...)

    Returns
    -------
    list of Found
        In pixels of the frame.
    """
    placed = []
    for one in found:
        if not touches_inner_border(one.candidate.box, tile, frame_shape):
            placed.append(replace(one.shift(tile.top, tile.left), tile=number))
    return placed


# Among the objects that were found


def find_duplicates(found: Sequence[Found], across_tiles_only: bool = False) -> np.ndarray:
    """Mark the objects that are duplicates of a more similar one.

    A duplicate does not make another object a duplicate. Less similar objects have no effect: the
    marks of the objects above a threshold are those that a search with this threshold gives.

    Parameters
    ----------
    found : sequence of Found
    across_tiles_only : bool
        Whether duplicates must be from different tiles.

    Returns
    -------
    (n,) bool ndarray
    """
    is_duplicate = np.zeros(len(found), bool)
    if not len(found):
        return is_duplicate
    boxes = [one.candidate.box for one in found]
    corners = np.array([(box.left, box.top, box.right, box.bottom) for box in boxes])
    rectangles = shapely.box(*corners.T)
    tree = shapely.STRtree(rectangles)
    order = np.argsort([-one.similarity for one in found], kind='stable')
    rank = np.argsort(order)
    for number in order:
        if is_duplicate[number]:
            continue
        one = found[number]
        for neighbour in tree.query(rectangles[number]):
            if rank[neighbour] <= rank[number] or is_duplicate[neighbour]:
                continue
            other = found[neighbour]
            if across_tiles_only and one.tile == other.tile:
                continue
            is_duplicate[neighbour] = are_duplicates(one.candidate, other.candidate)
    return is_duplicate


def are_duplicates(one: Candidate, other: Candidate) -> bool:
    """Return whether two masks of a frame show the same object, or one shows a part of the other.

    Parameters
    ----------
    one, other : Candidate
        In pixels of the same frame.
    """
    shared = count_shared(one, other)
    union = one.area + other.area - shared
    is_same = shared >= SAME_IOU * union
    is_part = shared >= PART_SHARE * min(one.area, other.area)
    return is_same or is_part


def count_shared(one: Candidate, other: Candidate) -> int:
    """Return the number of pixels that are in both masks.

    Parameters
    ----------
    one, other : Candidate
        In pixels of the same frame.
    """
    common = Box(
        top=max(one.box.top, other.box.top),
        left=max(one.box.left, other.box.left),
        bottom=min(one.box.bottom, other.box.bottom),
        right=min(one.box.right, other.box.right),
    )
    if common.height <= 0 or common.width <= 0:
        return 0
    in_one = common.shift(-one.box.top, -one.box.left)
    in_other = common.shift(-other.box.top, -other.box.left)
    shared = one.mask[in_one.slices] & other.mask[in_other.slices]
    return int(np.count_nonzero(shared))


# Of objects that the server has


def find_known(outlines: Sequence[np.ndarray], known: Sequence[np.ndarray]) -> np.ndarray:
    """Mark the outlines that have an IoU of at least SAME_IOU with a known one.

    Parameters
    ----------
    outlines : sequence of (N, 2) float ndarrays
        x and y, N >= 3.
    known : sequence of (N, 2) float ndarrays
        x and y. Any user may have drawn them: those without an area are ignored, and those that
        cross themselves count as their parts.

    Returns
    -------
    (n,) bool ndarray
        For each of `outlines`, whether it is known.

    Examples
    --------
    >>> square = np.array([(0, 0), (10, 0), (10, 10), (0, 10)])
    >>> find_known([square, square + 5], known=[square + 1]).tolist()
    [True, False]
    """
    is_known = np.zeros(len(outlines), bool)
    usable = [one for one in known if len(one) >= 3 and (np.abs(one) <= MAX_COORDINATE).all()]
    if not usable or not len(outlines):
        return is_known
    old = np.array([uncross(shapely.Polygon(points)) for points in usable])
    new = shapely.make_valid(np.array([shapely.Polygon(points) for points in outlines]))
    # Two arrays of the same length: each pair of a new and an old one that touch.
    at_new, at_old = shapely.STRtree(old).query(new, predicate='intersects')
    shared = shapely.area(shapely.intersection(new[at_new], old[at_old]))
    union = shapely.area(new[at_new]) + shapely.area(old[at_old]) - shared
    is_same = shared >= SAME_IOU * union
    is_known[at_new[is_same]] = True
    return is_known


def uncross(polygon: shapely.Polygon) -> shapely.Geometry:
    """Return the parts of a polygon that crosses itself, or the polygon.

    Parameters
    ----------
    polygon : shapely.Polygon
        If it crosses itself, at most MAX_CROSSED_CORNERS of its corners count.
    """
    if polygon.is_valid:
        return polygon
    points = shapely.get_coordinates(polygon)[:-1]
    step = math.ceil(len(points) / MAX_CROSSED_CORNERS)
    thinned = shapely.Polygon(points[::step])
    # The method 'linework' takes minutes for a scribble.
    return shapely.make_valid(thinned, method='structure')
