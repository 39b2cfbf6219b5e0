"""Match found objects with true objects, one to one, and count the duplicates."""

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
    """The scores of the outlines of a group.

    Attributes
    ----------
    score : Score
        At IoU 0.5.
    strict : Score
        At STRICT_IOU.
    duplicates : int
        Outlines to delete so that no object has two.
    """

    score: Score
    strict: Score
    duplicates: int

    @property
    def objects(self) -> int:
        """Number of objects to be found."""
        return len(self.score.right) + len(self.score.missed)


def measure_iou(
    outlines: Sequence[np.ndarray], labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Measure the overlap of outlines with the objects of a picture.

    Parameters
    ----------
    outlines : sequence of (N, 2) ndarray
        x and y.
    labels : (H, W) ndarray
        0 is background.

    Returns
    -------
    iou : (outlines, labels.max() + 1) ndarray
        IoU with each object; 0 with the background.
    shares : (outlines, labels.max() + 1) ndarray
        Share of the outline's pixels that lie on each object, or on the background.
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
    """Count the outlines of a picture to delete so that no object has two.

    Two outlines belong to one object if both have an IoU of 0.5 or more with it, or with each
    other.

    Parameters
    ----------
    outlines : sequence of (N, 2) ndarray
    iou : (outlines, labels) ndarray
        As returned by `measure_iou`.
    """
    count = len(outlines)
    if not count:
        return 0
    polygons = shapely.make_valid(np.array([shapely.Polygon(points) for points in outlines]))
    one, other = shapely.STRtree(polygons).query(polygons, predicate='intersects')
    shared = shapely.area(shapely.intersection(polygons[one], polygons[other]))
    joined = shapely.area(polygons[one]) + shapely.area(polygons[other]) - shared
    same = shared >= IOU * joined
    hits, objects = np.nonzero(iou >= IOU)

    # A graph of outlines and objects. An edge joins two outlines of one object, or an outline and
    # its object. Each connected part keeps one outline.
    starts = np.concatenate([one[same], hits])
    ends = np.concatenate([other[same], count + objects])
    nodes = count + iou.shape[1]
    graph = csr_array((np.ones(len(starts)), (starts, ends)), shape=(nodes, nodes))
    _, parts = connected_components(graph, directed=False)
    return count - len(np.unique(parts[:count]))


def score_group(
    group: Group, found: Sequence[Sequence[np.ndarray]], shown: list[Example], smallest: int
) -> Result:
    """Compare the outlines found in each picture of a group with its wanted objects.

    Two kinds of objects are ignored, neither required nor counted as wrong: objects that the user
    outlined, and fragments of wanted objects at the border, as in `demo.scoring.score`.

    Parameters
    ----------
    group : Group
    found : sequence of sequence of (N, 2) ndarray
        The outlines in each picture, x and y.
    shown : list of Example
        Examples and counter-examples of the user.
    smallest : int
        Pixels. A smaller object at the border is a fragment.
    """
    score, strict, duplicates = Score([], [], []), Score([], [], []), 0
    unseen = forget_examples(group.labels, shown)
    pictures = zip(group.labels, group.wanted, found, strict=True)
    for position, (labels, wanted, outlines) in enumerate(pictures):
        iou, shares = measure_iou(outlines, labels)
        duplicates += count_duplicates(outlines, iou)
        ignored = find_ignored(labels, unseen[position], wanted, smallest)
        counted = np.flatnonzero(shares[:, ignored].sum(axis=1) <= 0.5)
        required = np.flatnonzero(wanted & ~ignored)
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
    """Match the outlines of a picture with the objects to be found, and add the result to a score.

    Parameters
    ----------
    score : Score
    position : int
        Number of the picture.
    iou : (outlines, labels) ndarray
        As returned by `measure_iou`.
    counted : (N,) ndarray of int
        Numbers of the outlines that count.
    required : (M,) ndarray of int
        Labels of the objects to be found.
    least : float
        The lowest IoU of a match.
    """
    table = iou[np.ix_(counted, required)]
    pairs = match_iou(np.where(table >= least, table, 0)) if table.size else []
    rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
    for row, number in enumerate(counted.tolist()):
        outcome = score.right if row in rows else score.wrong
        outcome.append((position, number))
    for column, number in enumerate(required.tolist()):
        if column not in columns:
            score.missed.append((position, number))


def find_ignored(
    labels: np.ndarray, unseen: np.ndarray, wanted: np.ndarray, smallest: int
) -> np.ndarray:
    """Return which objects of a picture do not count, neither as required nor as wrong.

    Parameters
    ----------
    labels, unseen : (H, W) ndarray
        The objects of the picture, with and without the examples.
    wanted : (objects,) ndarray of bool
    smallest : int
        Pixels. A smaller wanted object at the border is a fragment.

    Returns
    -------
    (objects,) ndarray of bool
    """
    was_shown = ~np.isin(np.arange(len(wanted)), unseen)
    return was_shown | (wanted & find_fragments(labels, smallest))


def find_fragments(labels: np.ndarray, smallest: int) -> np.ndarray:
    """Return which objects have fewer than `smallest` pixels and touch the picture's border.

    Returns
    -------
    (labels.max() + 1,) ndarray of bool
    """
    fragments = np.bincount(labels.ravel()) < smallest
    for number in np.flatnonzero(fragments):
        fragments[number] = number > 0 and touches_border(labels == number)
    return fragments


def outline_wrong_kind(
    group: Group, found: Sequence[Sequence[np.ndarray]], most: int
) -> list[Example]:
    """Return counter-examples as a user would draw them.

    They are the true outlines of the first `most` objects that were found but are not wanted.
    """
    wrong: list[Example] = []
    pictures = zip(group.labels, group.wanted, found, strict=True)
    for position, (labels, wanted, outlines) in enumerate(pictures):
        iou, _ = measure_iou(outlines, labels)
        for number in np.flatnonzero((iou >= IOU).any(axis=0) & ~wanted):
            mask = labels == number
            wrong.append(Example(position, int(mask.sum()), outline(mask)))
    return wrong[:most]
