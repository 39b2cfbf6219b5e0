"""How many of the labelled nuclei were found: one-to-one matching at IoU 0.5."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from skimage.draw import polygon2mask

from demo.dataset import touches_border

IOU = 0.5


@dataclass(frozen=True)
class Score:
    """Which found objects are nuclei and which nuclei were missed, by position (indices into what was compared)."""

    right: list[tuple[int, int]]  # position, index of the found outline
    wrong: list[tuple[int, int]]
    missed: list[tuple[int, int]]  # position, label

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
        return (
            2 * len(self.right) / max(1, 2 * len(self.right) + len(self.wrong) + len(self.missed))
        )


def rasterise(outline: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie inside an outline of x, y with pixel centres at +0.5: (H, W) bool."""
    return polygon2mask(shape, outline[:, ::-1] - 0.5)


def match(found: list[np.ndarray], truth: list[np.ndarray]) -> list[tuple[int, int]]:
    """Pairs (found, truth) of masks with an IoU of at least 0.5, as many as can be, each mask at most once."""
    if not found or not truth:
        return []
    return match_iou(
        np.array([[(a & b).sum() / max(1, (a | b).sum()) for b in truth] for a in found])
    )


def match_iou(iou: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (row, column) of a table of IoUs with at least 0.5, as many as can be, each row and column at most once."""
    good = iou >= IOU
    pairs = zip(*linear_sum_assignment(good + iou / 1e3, maximize=True), strict=True)
    return [(int(i), int(j)) for i, j in pairs if good[i, j]]


def score(outlines: list[list[np.ndarray]], labels: np.ndarray, smallest: int) -> Score:
    """Compare the outlines found in each position with the position's labels, (positions, side, side).

    A nucleus cut by the border of a position counts as one nucleus in each. Fragments of under `smallest` pixels at a
    border are neither required nor punished: they are no nuclei to be found, and an object found that lies mostly on
    one counts neither way.
    """
    right, wrong, missed = [], [], []
    for position, (numbers, drawn) in enumerate(zip(labels, outlines, strict=True)):
        found = [rasterise(outline, numbers.shape) for outline in drawn]
        objects = {int(number): numbers == number for number in np.unique(numbers[numbers > 0])}
        fragments = [
            n for n, mask in objects.items() if mask.sum() < smallest and touches_border(mask)
        ]
        on_fragment = np.isin(numbers, fragments)
        required = [n for n in objects if n not in fragments]
        pairs = match(found, [objects[n] for n in required])
        matched_found, matched_truth = {i for i, _ in pairs}, {j for _, j in pairs}
        right += [(position, i) for i in sorted(matched_found)]
        wrong += [
            (position, i)
            for i, mask in enumerate(found)
            if i not in matched_found and (mask & on_fragment).sum() * 2 <= mask.sum()
        ]
        missed += [(position, n) for j, n in enumerate(required) if j not in matched_truth]
    return Score(right, wrong, missed)
