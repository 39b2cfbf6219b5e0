"""Nothing twice: neither in what was found nor beside what is already on the server."""
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely

from fewshot.geometry import Box
from fewshot.polygons import MAX_COORDINATE
from fewshot.sam.proposals import Candidate
from fewshot.tiling import touches_inner_border

SAME_IOU = 0.5  # from here on two outlines are of one object
MOST_CROSSED = 500  # vertices of a known outline that crosses itself
INSIDE = 0.8  # share of an outline within another from which on it is a part of it


@dataclass(frozen=True)
class Found:
    """A candidate that is like the examples."""

    candidate: Candidate
    similarity: float  # to the prototype
    tile: int = 0  # number of the tile of the frame in which it was found

    def shift(self, down: int, right: int, tile: int) -> 'Found':
        """The same in pixels of the frame, whose tile lies so far from its corner."""
        box = self.candidate.box.shift(down, right)
        return replace(self, candidate=replace(self.candidate, box=box), tile=tile)

    @property
    def scores(self) -> dict[str, float]:
        """What the user can sort and filter by, {name: number}."""
        return {'Similarity': self.similarity, 'Predicted IoU': self.candidate.predicted_iou}


def place_in_frame(found: Sequence[Found], number: int, tile: Box, shape: Sequence[int]) -> list[Found]:
    """What was found in a tile, in pixels of its frame, without what an inner border cuts: a neighbour has that whole.

    Parameters
    ----------
    number : of the tile
    shape : (H, W) of the frame
    """
    return [one.shift(tile.top, tile.left, number) for one in found
            if not touches_inner_border(one.candidate.box, tile, shape)]


def find_doubles(found: Sequence[Found], across_tiles_only: bool = False) -> np.ndarray:
    """Which of the found are doubles of a more similar one: (n,) bool.

    Two are doubles when their masks have an IoU of at least SAME_IOU, or one lies in the other by at least INSIDE; with
    `across_tiles_only` they must be of different tiles. What is a double itself makes no other one a double.
    """
    double = np.zeros(len(found), bool)
    boxes = np.array([(box.left, box.top, box.right, box.bottom) for box in (one.candidate.box for one in found)])
    if not len(boxes):
        return double
    corners = shapely.box(*boxes.T)
    tree = shapely.STRtree(corners)
    order = np.argsort([-one.similarity for one in found], kind='stable')
    rank = np.argsort(order)
    for number in order:
        if double[number]:
            continue
        for other in tree.query(corners[number]):
            if rank[other] > rank[number] and not double[other] and not (
                    across_tiles_only and found[number].tile == found[other].tile):
                double[other] = are_doubles(found[number].candidate, found[other].candidate)
    return double


def are_doubles(one: Candidate, other: Candidate) -> bool:
    """Whether two masks of a frame show the same object, or one a part of the other."""
    shared = count_shared(one, other)
    union = one.area + other.area - shared
    return shared >= SAME_IOU * union or shared >= INSIDE * min(one.area, other.area)


def count_shared(one: Candidate, other: Candidate) -> int:
    """Pixels of a frame that lie in both masks."""
    common = Box(max(one.box.top, other.box.top), max(one.box.left, other.box.left),
                 min(one.box.bottom, other.box.bottom), min(one.box.right, other.box.right))
    if common.bottom <= common.top or common.right <= common.left:
        return 0
    first, second = (candidate.mask[common.shift(-candidate.box.top, -candidate.box.left).slices]
                     for candidate in (one, other))
    return int(np.count_nonzero(first & second))


def find_known(outlines: Sequence[np.ndarray], known: Sequence[np.ndarray]) -> np.ndarray:
    """Which of the outlines have an IoU of at least SAME_IOU with any of the known ones: (n,) bool.

    Parameters
    ----------
    outlines : (N, 2) each, x and y, N >= 3
    known : likewise, but any user may have drawn them: what is no area is passed over, what crosses itself is its parts
    """
    marks = np.zeros(len(outlines), bool)
    areas = [shapely.Polygon(points) for points in known
             if len(points) >= 3 and (np.abs(points) <= MAX_COORDINATE).all()]
    if not areas or not len(outlines):
        return marks
    old = np.array([uncross(area) for area in areas])
    new = shapely.make_valid(np.array([shapely.Polygon(points) for points in outlines]))
    at_new, at_old = shapely.STRtree(old).query(new, predicate='intersects')
    shared = shapely.area(shapely.intersection(new[at_new], old[at_old]))
    union = shapely.area(new[at_new]) + shapely.area(old[at_old]) - shared
    marks[at_new[shared >= SAME_IOU * union]] = True
    return marks


def uncross(area: shapely.Polygon) -> shapely.Geometry:
    """The parts of a polygon that crosses itself.

    The time for that grows with the square of its vertices, so of one with more than MOST_CROSSED only some count.
    """
    if area.is_valid:
        return area
    points = shapely.get_coordinates(area)[:-1]
    thinned = shapely.Polygon(points[::math.ceil(len(points) / MOST_CROSSED)])
    return shapely.make_valid(thinned, method='structure')  # the other one takes minutes for a scribble
