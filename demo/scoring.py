"""Score the found objects against the labelled nuclei, matched one to one at IoU 0.5."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from skimage.draw import polygon2mask

from demo.dataset import touches_border

IOU = 0.5


@dataclass(frozen=True)
class Score:
    """The found objects that are nuclei, those that are not, and the missed nuclei.

    Attributes
    ----------
    right, wrong : list of tuple
        (position, index of the found outline in it).
    missed : list of tuple
        (position, label).
    """

    right: list[tuple[int, int]]
    wrong: list[tuple[int, int]]
    missed: list[tuple[int, int]]

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


def match(found: list[np.ndarray], truth: list[np.ndarray]) -> list[tuple[int, int]]:
    """Match masks one to one, at an IoU of at least 0.5, with as many pairs as possible.

    Returns
    -------
    list of tuple
        Indices (found, truth) of each pair.
    """
    if not found or not truth:
        return []
    iou = np.zeros((len(found), len(truth)))
    for row, one in enumerate(found):
        for column, other in enumerate(truth):
            iou[row, column] = (one & other).sum() / max(1, (one | other).sum())
    return match_iou(iou)


def match_iou(iou: np.ndarray) -> list[tuple[int, int]]:
    """Match rows with columns one to one, at an IoU of at least 0.5.

    There are as many pairs as possible; among equal numbers of pairs, their IoU is the highest.

    Parameters
    ----------
    iou : (rows, columns) ndarray

    Returns
    -------
    list of tuple
        (row, column) of each pair.
    """
    good = iou >= IOU
    rows, columns = linear_sum_assignment(good + iou / 1e3, maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(row, column) for row, column in pairs if good[row, column]]


def score(outlines: list[list[np.ndarray]], labels: np.ndarray, smallest: int) -> Score:
    """Compare the outlines found in each position with its labels.

    A nucleus that the border of a position cuts counts once in each. Fragments at a border are
    ignored: they need not be found, and a found object that lies mostly on one is not wrong.

    Parameters
    ----------
    outlines : list of list of (N, 2) ndarray
        The outlines in each position, x and y.
    labels : (positions, side, side) ndarray
    smallest : int
        Pixels. A smaller object at the border is a fragment.
    """
    right, wrong, missed = [], [], []
    for position, (numbers, drawn) in enumerate(zip(labels, outlines, strict=True)):
        found = [rasterise(outline, numbers.shape) for outline in drawn]
        required, fragments = {}, []
        for number in np.unique(numbers[numbers > 0]).tolist():
            mask = numbers == number
            if mask.sum() < smallest and touches_border(mask):
                fragments.append(number)
            else:
                required[number] = mask
        on_fragment = np.isin(numbers, fragments)

        pairs = match(found, list(required.values()))
        matched_found = {index for index, _ in pairs}
        matched_truth = {index for _, index in pairs}
        for index, mask in enumerate(found):
            mostly_fragment = (mask & on_fragment).sum() * 2 > mask.sum()
            if index in matched_found:
                right.append((position, index))
            elif not mostly_fragment:
                wrong.append((position, index))
        for index, number in enumerate(required):
            if index not in matched_truth:
                missed.append((position, number))
    return Score(right, wrong, missed)
