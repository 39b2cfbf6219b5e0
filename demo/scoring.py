"""Score the found objects against the labelled nuclei, matched one to one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from skimage.draw import polygon2mask

from demo.dataset import touches_border

IOU, STRICT_IOU = 0.5, 0.75  # of an outline and its object, at least


@dataclass(frozen=True)
class Score:
    """The found objects that are nuclei, those that are not, and the missed nuclei.

    Attributes
    ----------
    right, wrong : list of int
        Numbers of the found outlines in their image.
    missed : list of int
        Labels in their image.
    """

    right: list[int]
    wrong: list[int]
    missed: list[int]

    def __add__(self, other: 'Score') -> 'Score':
        return Score(self.right + other.right, self.wrong + other.wrong, self.missed + other.missed)

    @property
    def precision(self) -> float:
        """The share of the found objects that are nuclei."""
        return len(self.right) / max(1, len(self.right) + len(self.wrong))

    @property
    def recall(self) -> float:
        """The share of the nuclei that were found."""
        return len(self.right) / max(1, len(self.right) + len(self.missed))

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        right = 2 * len(self.right)
        return right / max(1, right + len(self.wrong) + len(self.missed))


def rasterise(outline: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the mask (H, W) of the pixels whose centres lie inside an outline.

    Parameters
    ----------
    outline : (N, 2) ndarray
        x and y, with pixel centres at +0.5.
    shape : tuple of int
        (H, W).
    """
    return polygon2mask(shape, outline[:, ::-1] - 0.5)


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


def match_iou(iou: np.ndarray, least: float = IOU) -> list[tuple[int, int]]:
    """Match rows with columns one to one, at an IoU of at least `least`.

    There are as many pairs as possible; among equal numbers of pairs, their IoU is the highest.

    Parameters
    ----------
    iou : (rows, columns) ndarray
    least : float

    Returns
    -------
    list of tuple
        (row, column) of each pair.
    """
    good = iou >= least
    rows, columns = linear_sum_assignment(good + iou / 1e3, maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(row, column) for row, column in pairs if good[row, column]]


def compare(iou: np.ndarray, counted: np.ndarray, required: np.ndarray, least: float) -> Score:
    """Match the outlines of an image with the objects to be found.

    Parameters
    ----------
    iou : (outlines, labels) ndarray
        From `measure_iou`.
    counted : (N,) ndarray of int
        Numbers of the outlines that count.
    required : (M,) ndarray of int
        Labels of the objects to be found.
    least : float
        The lowest IoU of a match.
    """
    pairs = match_iou(iou[np.ix_(counted, required)], least)
    matched = {counted[row] for row, _ in pairs}
    found = {required[column] for _, column in pairs}
    return Score(
        right=[int(number) for number in counted if number in matched],
        wrong=[int(number) for number in counted if number not in matched],
        missed=[int(number) for number in required if number not in found],
    )


def score(
    outlines: Sequence[np.ndarray], labels: np.ndarray, smallest: int, least: float = IOU
) -> Score:
    """Compare the outlines found in an image with its labels.

    Fragments at the border are ignored: they need not be found, and a found object that lies mostly
    on one is not wrong.

    Parameters
    ----------
    outlines : sequence of (N, 2) ndarray
        x and y.
    labels : (H, W) ndarray
    smallest : int
        Pixels. A smaller object at the border is a fragment.
    least : float
        The lowest IoU of an outline and its object.
    """
    iou, shares = measure_iou(outlines, labels)
    fragments = find_fragments(labels, smallest)
    is_required = (np.bincount(labels.ravel()) > 0) & ~fragments
    is_required[0] = False
    counted = np.flatnonzero(shares[:, fragments].sum(axis=1) <= 0.5)
    return compare(iou, counted, np.flatnonzero(is_required), least)
