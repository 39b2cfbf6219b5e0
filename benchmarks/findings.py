"""The findings of a run: saved to a file, and compared with those of another run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from fewshot.geometry import Box, CutMask

LOWEST_IOU = 0.999  # of two masks or outlines that count as the same
SIMILARITY_GAP = 1e-4


@dataclass(frozen=True)
class Findings:
    """The candidates within the area limits, in the order in which they were proposed.

    Attributes
    ----------
    objects : list of CutMask
    predicted_iou : (N,) ndarray
    similarities : (N,) ndarray
        Cosines to the prototype.
    """

    objects: list[CutMask]
    predicted_iou: np.ndarray
    similarities: np.ndarray


@dataclass(frozen=True)
class Agreement:
    """How far two runs agree.

    Attributes
    ----------
    candidates : int
    other_masks : int
        Masks that differ in at least one pixel.
    mask_iou : float
        The lowest IoU of two masks.
    other_outlines : int
        Outlines that differ.
    outline_iou : float
        The lowest IoU of two outlines.
    similarity_gap : float
        The largest difference of two similarities.
    problems : list of str
        One sentence per disagreement; empty if the runs agree.
    """

    candidates: int
    other_masks: int
    mask_iou: float
    other_outlines: int
    outline_iou: float
    similarity_gap: float
    problems: list[str]

    def __str__(self) -> str:
        return (
            f'{self.candidates} candidates, '
            f'{self.other_masks} masks differ (lowest IoU {self.mask_iou:.5f}), '
            f'{self.other_outlines} outlines differ (lowest IoU {self.outline_iou:.5f}), '
            f'similarities differ by {self.similarity_gap:.1e} at most'
        )


def save_findings(findings: Findings, path: Path) -> None:
    """Write the findings as a compressed .npz."""
    masks: dict[str, Any] = {
        f'mask_{number}': one.mask for number, one in enumerate(findings.objects)
    }
    boxes = np.array([one.box for one in findings.objects], int).reshape(-1, 4)
    np.savez_compressed(
        path,
        boxes=boxes,
        predicted_iou=findings.predicted_iou,
        similarities=findings.similarities,
        **masks,
    )


def load_findings(path: Path) -> Findings:
    """Read a file that `save_findings` wrote."""
    with np.load(path) as arrays:
        objects = [
            CutMask(Box(*box), arrays[f'mask_{number}'])
            for number, box in enumerate(arrays['boxes'].tolist())
        ]
        return Findings(objects, arrays['predicted_iou'], arrays['similarities'])


def compare(
    specified: Findings,
    worker: Findings,
    threshold: float,
    specified_outlines: list[np.ndarray],
    worker_outlines: list[np.ndarray],
) -> Agreement:
    """Compare the candidates of two runs one by one, and the outlines that both uploaded.

    The tolerances allow for rounding only. Both keep all outlines. Both place
    pixel centres and simplify outlines in the same way.

    Parameters
    ----------
    specified, worker : Findings
    threshold : float
        Similarity from which a candidate was kept.
    specified_outlines, worker_outlines : list of (N, 2) ndarray
        Uploaded outlines as x and y, in the order of upload.

    Raises
    ------
    ValueError
        A run did not upload one outline per candidate that it kept.
    """
    counts = len(specified.objects), len(worker.objects)
    if counts[0] != counts[1]:
        problem = (
            f'The method as specified proposes {counts[0]} candidates, the worker {counts[1]}.'
        )
        return Agreement(counts[1], 0, np.nan, 0, np.nan, np.nan, [problem])
    masks = [mask_iou(*pair) for pair in zip(specified.objects, worker.objects, strict=True)]
    gaps = np.abs(specified.similarities - worker.similarities)
    first = outlines_of_kept(specified.similarities >= threshold, specified_outlines)
    second = outlines_of_kept(worker.similarities >= threshold, worker_outlines)
    in_both = first.keys() & second.keys()
    outlines = [outline_iou(first[number], second[number]) for number in in_both]
    agreement = Agreement(
        counts[0],
        sum(iou < 1 for iou in masks),
        min(masks, default=1),
        sum(iou < 1 for iou in outlines),
        min(outlines, default=1),
        gaps.max(initial=0),
        [],
    )
    # A candidate that only one run kept is no problem of its own: its similarities are on both
    # sides of the threshold, and the gap between them is checked.
    if agreement.mask_iou < LOWEST_IOU:
        agreement.problems.append(
            f'A mask has an IoU of {agreement.mask_iou:.5f} with the one as specified, below '
            f'{LOWEST_IOU}: the masks or their order differ.'
        )
    if agreement.outline_iou < LOWEST_IOU:
        agreement.problems.append(
            f'An outline has an IoU of {agreement.outline_iou:.5f} with the one as specified, '
            f'below {LOWEST_IOU}.'
        )
    if not agreement.similarity_gap <= SIMILARITY_GAP:
        agreement.problems.append(
            f'A similarity is {agreement.similarity_gap:.1e} away from the one as specified, '
            f'more than {SIMILARITY_GAP:.0e}.'
        )
    return agreement


def outlines_of_kept(kept: np.ndarray, outlines: list[np.ndarray]) -> dict[int, np.ndarray]:
    """Return the outlines by the number of their candidate.

    Parameters
    ----------
    kept : (candidates,) ndarray of bool
    outlines : list of (N, 2) ndarray
        One per kept candidate.
    """
    return dict(zip(np.flatnonzero(kept).tolist(), outlines, strict=True))


def mask_iou(one: CutMask, other: CutMask) -> float:
    """Return the IoU of two masks, not empty, that are cut to their boxes."""
    corner = np.minimum(one.box[:2], other.box[:2])
    height, width = np.maximum(one.box[2:], other.box[2:]) - corner
    canvas = np.zeros((2, height, width), bool)
    for layer, (box, mask) in zip(canvas, (one, other), strict=True):
        top, left = np.array(box[:2]) - corner
        layer[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    shared, joined = canvas[0] & canvas[1], canvas[0] | canvas[1]
    return float(shared.sum() / joined.sum())


def outline_iou(one: np.ndarray, other: np.ndarray) -> float:
    """Return the IoU of two valid polygons, (N, 2) each. It is exactly 1 for equal corners."""
    if np.array_equal(one, other):
        return 1
    first, second = shapely.Polygon(one), shapely.Polygon(other)
    return float(first.intersection(second).area / first.union(second).area)
