"""Match found objects with true objects, one to one, and count the duplicates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from demo.dataset import Example, forget_examples, outline
from demo.scoring import IOU, STRICT_IOU, Score, compare, find_fragments, measure_iou
from evaluation.groups import Group


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
    group: Group, found: Sequence[Sequence[np.ndarray]], shown: Sequence[Example], smallest: int
) -> Result:
    """Compare the outlines found in each picture of a group with its wanted objects.

    Two kinds of objects are ignored, neither required nor counted as wrong: objects that the user
    outlined, and fragments of wanted objects at the border, as in `demo.scoring.score`.

    Parameters
    ----------
    group : Group
    found : sequence of sequence of (N, 2) ndarray
        The outlines in each picture, x and y.
    shown : sequence of Example
        Examples and counter-examples of the user.
    smallest : int
        Pixels. A smaller object at the border is a fragment.
    """
    score, strict, duplicates = Score([], [], []), Score([], [], []), 0
    unseen = forget_shown(group, shown)
    pictures = zip(group.labels, unseen, group.wanted, found, strict=True)
    for labels, others, wanted, outlines in pictures:
        iou, shares = measure_iou(outlines, labels)
        duplicates += count_duplicates(outlines, iou)
        ignored = find_ignored(labels, others, wanted, smallest)
        counted = np.flatnonzero(shares[:, ignored].sum(axis=1) <= 0.5)
        required = np.flatnonzero(wanted & ~ignored)
        score += compare(iou, counted, required, IOU)
        strict += compare(iou, counted, required, STRICT_IOU)
    return Result(score, strict, duplicates)


def forget_shown(group: Group, shown: Sequence[Example]) -> list[np.ndarray]:
    """Return the labels of each picture without the objects that the user outlined."""
    pictures = enumerate(group.labels)
    return [
        forget_examples(labels, [one for one in shown if one.position == position])
        for position, labels in pictures
    ]


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
            wrong.append(Example(int(mask.sum()), outline(mask), position))
    return wrong[:most]
