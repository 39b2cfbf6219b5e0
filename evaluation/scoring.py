"""Found objects matched with true objects, one to one, and the duplicates among them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from demo.dataset import Example, forget_examples, outline, touches_border
from demo.scoring import IOU, Score, match_iou, rasterise
from evaluation.groups import Group

STRICT_IOU = 0.75


@dataclass(frozen=True)
class Result:
    """How good the outlines of a group are."""

    score: Score  # at IoU 0.5
    strict: Score  # at STRICT_IOU
    duplicates: int  # outlines to delete so that no object has two

    @property
    def objects(self) -> int:
        """How many were to be found."""
        return len(self.score.right) + len(self.score.missed)


def measure_iou(
    outlines: Sequence[np.ndarray], labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How outlines, (N, 2) each as x and y, lie on the objects of a picture.

    Returns
    -------
    iou : (outlines, labels.max() + 1) with each object, 0 with the background
    shares : likewise, the share of the outline's pixels that lie on the object or on the background
    """
    areas = np.bincount(labels.ravel())
    shared, own = np.zeros((len(outlines), len(areas))), np.zeros((len(outlines), 1))
    for row, points in enumerate(outlines):
        left, top = np.floor(points.min(axis=0)).astype(int).clip(0)
        right, bottom = np.ceil(points.max(axis=0)).astype(int)
        part = labels[top:bottom, left:right]
        mask = rasterise(points - (left, top), part.shape)
        shared[row], own[row] = np.bincount(part[mask], minlength=len(areas)), mask.sum()
    iou = shared / np.maximum(areas + own - shared, 1)
    iou[:, 0] = 0
    return iou, shared / np.maximum(own, 1)


def count_duplicates(outlines: Sequence[np.ndarray], iou: np.ndarray) -> int:
    """How many of a picture's outlines to delete so that no two of them are of one object.

    Two are of one object when both have an IoU of 0.5 or more with it (`iou` as of `measure_iou`), or with each other.
    """
    count = len(outlines)
    if not count:
        return 0
    polygons = shapely.make_valid(np.array([shapely.Polygon(points) for points in outlines]))
    one, other = shapely.STRtree(polygons).query(polygons, predicate='intersects')
    shared = shapely.area(shapely.intersection(polygons[one], polygons[other]))
    same = shared >= IOU * (shapely.area(polygons[one]) + shapely.area(polygons[other]) - shared)
    hits, objects = np.nonzero(iou >= IOU)
    links = np.concatenate([one[same], hits]), np.concatenate([other[same], count + objects])
    nodes = count + iou.shape[1]
    bonds = csr_array((np.ones(len(links[0])), links), shape=(nodes, nodes))
    return count - len(np.unique(connected_components(bonds, directed=False)[1][:count]))


def score_group(
    group: Group, found: Sequence[Sequence[np.ndarray]], shown: list[Example], smallest: int
) -> Result:
    """Compare the outlines found in each picture of a group with its wanted objects.

    What the user has outlined, `shown`, examples and counter-examples, counts neither way; nor do wanted objects that
    the border cuts to less than `smallest` pixels, as in `demo.scoring.score`.
    """
    score, strict, duplicates = Score([], [], []), Score([], [], []), 0
    unseen = forget_examples(group.labels, shown)
    for position, (labels, wanted, outlines) in enumerate(
        zip(group.labels, group.wanted, found, strict=True)
    ):
        iou, shares = measure_iou(outlines, labels)
        duplicates += count_duplicates(outlines, iou)
        passed = ~np.isin(np.arange(len(wanted)), unseen[position]) | wanted & find_fragments(
            labels, smallest
        )
        counted = np.flatnonzero(shares[:, passed].sum(axis=1) <= 0.5)
        required = np.flatnonzero(wanted & ~passed)
        add_outcome(score, position, iou, counted, required, IOU)
        add_outcome(strict, position, iou, counted, required, STRICT_IOU)
    return Result(score, strict, duplicates)


def add_outcome(
    score: Score,
    position: int,
    iou: np.ndarray,
    counted: np.ndarray,
    required: np.ndarray,
    least: float,
) -> None:
    """Match the outlines that count with the objects to be found, at an IoU of `least` or more, and add what comes out.

    Parameters
    ----------
    iou : as of `measure_iou`
    counted, required : numbers of outlines, and of objects
    """
    table = iou[np.ix_(counted, required)]
    pairs = match_iou(np.where(table >= least, table, 0)) if table.size else []
    rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
    for row, number in enumerate(counted.tolist()):
        (score.right if row in rows else score.wrong).append((position, number))
    score.missed.extend(
        (position, number)
        for column, number in enumerate(required.tolist())
        if column not in columns
    )


def find_fragments(labels: np.ndarray, smallest: int) -> np.ndarray:
    """Which objects are of less than `smallest` pixels and at the picture's border: (labels.max() + 1,) bool."""
    fragments = np.bincount(labels.ravel()) < smallest
    for number in np.flatnonzero(fragments):
        fragments[number] = number > 0 and touches_border(labels == number)
    return fragments


def outline_wrong_kind(
    group: Group, found: Sequence[Sequence[np.ndarray]], most: int
) -> list[Example]:
    """The true outlines of the first objects that are not wanted and were found: a user's counter-examples."""
    wrong: list[Example] = []
    for position, (labels, wanted, outlines) in enumerate(
        zip(group.labels, group.wanted, found, strict=True)
    ):
        iou, _ = measure_iou(outlines, labels)
        for number in np.flatnonzero((iou >= IOU).any(axis=0) & ~wanted):
            mask = labels == number
            wrong.append(Example(position, int(mask.sum()), outline(mask)))
    return wrong[:most]
