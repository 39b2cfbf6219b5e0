"""SAM proposes: a frame becomes candidate masks, whatever they show."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torchvision
from segment_anything import SamAutomaticMaskGenerator, automatic_mask_generator
from segment_anything.modeling import Sam
from segment_anything.utils.amg import rle_to_mask

from fewshot.crops import Box, bound_mask
from fewshot.parameters import Parameters

POINTS_PER_BATCH = 64
BATCH_PIXELS = POINTS_PER_BATCH * 1024 ** 2  # larger frames take fewer points at a time, for every mask has their size


@dataclass(frozen=True)
class Candidate:
    """A mask that SAM proposes."""

    box: Box  # in its frame
    mask: np.ndarray  # (box height, box width) bool
    predicted_iou: float  # SAM's own guess of the mask's quality
    stability_score: float  # IoU of the mask cut a little lower and a little higher

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(self.mask.sum())


def patch_nms() -> None:
    """Let the generator's non-maximum suppression run on a GPU with many boxes.

    segment-anything 1.0 makes the boxes' categories on the CPU (`torch.zeros(len(boxes))`). With many boxes torchvision
    leaves its coordinate trick, which moves them to the boxes' device, for a path that indexes tensors on the GPU with
    them, and fails. As all boxes are of one category, the trick gives the same boxes; so it is always taken.

    Raises AttributeError when one of the three names is gone, for then the fix must be looked at again.
    """
    for module in (torchvision.ops.boxes, automatic_mask_generator):
        if not hasattr(module, 'batched_nms'):
            raise AttributeError(f'{module.__name__}.batched_nms is gone: this version needs another fix')
        module.batched_nms = torchvision.ops.boxes._batched_nms_coordinate_trick


class _ReportingGenerator(SamAutomaticMaskGenerator):
    """The stock generator, telling after each batch of points which share of them is done."""

    def __init__(self, model: Sam, report: Callable[[float], None], **settings: Any) -> None:
        super().__init__(model, **settings)
        self.report = report
        self.points_done = 0

    def _process_batch(self, points: np.ndarray, *arguments: Any) -> Any:
        masks = super()._process_batch(points, *arguments)
        self.points_done += len(points)
        self.report(self.points_done / len(self.point_grids[0]))
        return masks


def propose_candidates(
        model: Sam, rgb: np.ndarray, parameters: Parameters,
        report: Callable[[float], None]) -> list[Candidate]:
    """Every mask that SAM finds in a frame, asked at a grid of points, near doubles removed.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    report : called with the share of points done, 0 to 1
    """
    patch_nms()
    generator = _ReportingGenerator(
        model, report,
        points_per_side=parameters.points_per_side,
        points_per_batch=max(1, min(POINTS_PER_BATCH, BATCH_PIXELS // (rgb.shape[0] * rgb.shape[1]))),
        pred_iou_thresh=parameters.checkpoint.pred_iou_thresh,
        stability_score_thresh=parameters.checkpoint.stability_score_thresh,
        box_nms_thresh=parameters.checkpoint.box_nms_thresh,
        crop_nms_thresh=parameters.checkpoint.box_nms_thresh,  # the clean-up of small regions takes the larger of both
        min_mask_region_area=parameters.min_area,
        output_mode='uncompressed_rle')  # full-size masks of all candidates at once would fill the memory
    candidates = []
    for record in generator.generate(rgb):
        mask = rle_to_mask(record['segmentation'])
        box = bound_mask(mask)
        if box is not None:
            candidates.append(
                Candidate(box, mask[box.slices].copy(), record['predicted_iou'], record['stability_score']))
    return candidates


def has_allowed_area(candidate: Candidate, parameters: Parameters) -> bool:
    """Whether a candidate lies within Min and Max Mask Area."""
    return parameters.min_area <= candidate.area <= (parameters.max_area or candidate.area)
