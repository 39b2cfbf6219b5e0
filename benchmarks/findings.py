"""What a run finds in a frame, as a file, and whether two runs have found the same."""

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
    """The candidates within the area limits, in the order in which they were proposed."""

    objects: list[CutMask]
    predicted_iou: np.ndarray  # (n,)
    similarities: np.ndarray  # (n,) to the prototype


@dataclass(frozen=True)
class Agreement:
    """How far two runs agree; `problems` are sentences, none where they agree."""

    candidates: int
    other_masks: int  # that are not the same in every pixel
    mask_iou: float  # the lowest
    other_outlines: int
    outline_iou: float  # the lowest
    similarity_gap: float  # the widest
    problems: list[str]

    def __str__(self) -> str:
        return (
            f'{self.candidates} candidates, {self.other_masks} masks differ (lowest IoU {self.mask_iou:.5f}), '
            f'{self.other_outlines} outlines differ (lowest IoU {self.outline_iou:.5f}), '
            f'similarities by {self.similarity_gap:.1e} at most'
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
    """What `save_findings` wrote."""
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
    """Compare the candidates of two runs one by one, and the outlines of those that both have kept.

    The tolerances are for rounding alone. Duplicates and scores are off in both runs, and both
    place pixel centres and simplify outlines in the same way.

    Parameters
    ----------
    threshold : similarity from which a candidate was kept
    specified_outlines, worker_outlines : what the runs uploaded, (N, 2) each, x and y, in their order

    Raises ValueError where a run did not upload what it kept.
    """
    counts = len(specified.objects), len(worker.objects)
    if counts[0] != counts[1]:
        problem = (
            f'The method as specified proposes {counts[0]} candidates, the worker {counts[1]}.'
        )
        return Agreement(counts[1], 0, np.nan, 0, np.nan, np.nan, [problem])
    masks = [mask_iou(*pair) for pair in zip(specified.objects, worker.objects, strict=True)]
    gaps = np.abs(specified.similarities - worker.similarities)
    ours = outlines_of_kept(worker.similarities >= threshold, worker_outlines)
    outlines = [
        outline_iou(outline, ours[number])
        for number, outline in outlines_of_kept(
            specified.similarities >= threshold, specified_outlines
        ).items()
        if number in ours
    ]
    agreement = Agreement(
        counts[0],
        sum(iou < 1 for iou in masks),
        min(masks, default=1),
        sum(iou < 1 for iou in outlines),
        min(outlines, default=1),
        gaps.max(initial=0),
        [],
    )
    # what only one run has kept lies within the gap of the threshold, or the gap is too wide
    if agreement.mask_iou < LOWEST_IOU:
        agreement.problems.append(
            f'A mask has an IoU of {agreement.mask_iou:.5f} with the one as specified, below '
            f'{LOWEST_IOU}: it differs, or the order does.'
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
    """The outlines by the number of their candidate; `kept` is (candidates,) bool."""
    return dict(zip(np.flatnonzero(kept).tolist(), outlines, strict=True))


def mask_iou(one: CutMask, other: CutMask) -> float:
    """IoU of two masks, not empty, that are cut to their boxes."""
    corner = np.minimum(one.box[:2], other.box[:2])
    height, width = np.maximum(one.box[2:], other.box[2:]) - corner
    canvas = np.zeros((2, height, width), bool)
    for layer, (box, mask) in zip(canvas, (one, other), strict=True):
        top, left = np.array(box[:2]) - corner
        layer[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return float((canvas[0] & canvas[1]).sum() / (canvas[0] | canvas[1]).sum())


def outline_iou(one: np.ndarray, other: np.ndarray) -> float:
    """IoU of two valid polygons, (N, 2) each; exactly 1 where their corners are the same."""
    if np.array_equal(one, other):
        return 1
    polygons = shapely.Polygon(one), shapely.Polygon(other)
    return float(polygons[0].intersection(polygons[1]).area / polygons[0].union(polygons[1]).area)
