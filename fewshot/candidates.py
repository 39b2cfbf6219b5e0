"""SAM proposes: a frame becomes candidate masks, whatever they show.

The masks, their order and their scores are those of `segment_anything.SamAutomaticMaskGenerator` for the whole frame as
its only crop (Kirillov et al., "Segment Anything", ICCV 2023).
"""
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torchvision
from segment_anything.modeling import Sam
from segment_anything.utils.amg import build_point_grid
from segment_anything.utils.transforms import ResizeLongestSide

from fewshot import decoder
from fewshot.crops import Box, CutMask, bound_mask
from fewshot.masks import Axis, Sketch, draw_masks, pack_mask, plan_axis, sketch_masks, unpack_mask
from fewshot.parameters import Parameters

CELLS_PER_BATCH = 4 * 64 ** 2  # of all points of a batch on a CPU: what its cache can hold is fastest
POINTS_PER_BATCH = 128  # on a GPU, at most
BYTES_PER_CHANNEL = 64  # of GPU memory for one channel of one cell of one point, everything counted
MASKS_AT_ONCE = 256  # masks whose logits wait until they are enlarged together
DRAWN_AT_ONCE = 32  # masks that are fetched from the device together


@dataclass(frozen=True)
class Candidate:
    """A mask that SAM proposes."""

    box: Box  # in its frame, the smallest around the mask
    bits: np.ndarray  # the mask in its box, as by `masks.pack_mask`
    area: int  # pixels
    predicted_iou: float  # SAM's own guess of the mask's quality
    stability_score: float  # IoU of the mask cut a little lower and a little higher

    @property
    def mask(self) -> np.ndarray:
        """(box height, box width) bool, unpacked anew at each call."""
        return unpack_mask(self.bits, self.box.right - self.box.left)


def propose_candidates(model: Sam, features: torch.Tensor, shape: tuple[int, ...], parameters: Parameters,
                       report: Callable[[float], None]) -> list[Candidate]:
    """Every mask that SAM finds in a frame, asked at a grid of points, near doubles removed.

    Parameters
    ----------
    features : (1, C, h, w) of the frame, from the image encoder
    shape : (H, W, ...) of the frame
    report : called with the share of points done, 0 to 1

    Raises torch.OutOfMemoryError when a GPU cannot hold a single point's work.
    """
    checkpoint = parameters.checkpoint
    axes = _plan_axes(model, features, shape)
    with torch.inference_mode():
        sketches, scores = _ask_grid(model, features, shape, axes, parameters, report)
        chosen = suppress_doubles([one.box for one in sketches], scores, checkpoint.box_nms_thresh)
        kept = [candidate for start in range(0, len(chosen), DRAWN_AT_ONCE) for candidate in _draw_candidates(
            chosen[start:start + DRAWN_AT_ONCE], sketches, scores, axes, model.mask_threshold)]
    if not parameters.min_area:
        return kept
    cleaned = [clean_mask(candidate, shape, parameters.min_area) for candidate in kept]
    untouched = [float(after is before) for before, after in zip(kept, cleaned, strict=True)]
    return [cleaned[number] for number in suppress_doubles(
        [one.box for one in cleaned], untouched, checkpoint.box_nms_thresh)]


def has_allowed_area(candidate: Candidate, parameters: Parameters) -> bool:
    """Whether a candidate lies within Min and Max Mask Area."""
    return parameters.min_area <= candidate.area <= (parameters.max_area or candidate.area)


def _ask_grid(model: Sam, features: torch.Tensor, shape: tuple[int, ...], axes: tuple[Axis, Axis],
              parameters: Parameters, report: Callable[[float], None]) -> tuple[list[Sketch], list[float]]:
    """The good and stable masks of each point of the grid, row by row, and their predicted IoU."""
    checkpoint = parameters.checkpoint
    transform = ResizeLongestSide(model.image_encoder.img_size)
    grid = build_point_grid(parameters.points_per_side) * np.array(shape[1::-1])
    points = torch.as_tensor(transform.apply_coords(grid, shape[:2]), dtype=torch.float32, device=features.device)
    ground = decoder.prepare_ground(model, features)
    size = count_points_at_once(features)
    waiting: list[tuple[torch.Tensor, np.ndarray]] = []
    sketches: list[Sketch] = []
    scores: list[float] = []
    start = 0
    while start < len(points):
        try:
            waiting.append(draw_good_masks(model, ground, points[start:start + size], checkpoint.pred_iou_thresh))
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
            torch.cuda.empty_cache()
            warnings.warn('The memory of the GPU is short: fewer points are asked at a time, which takes longer',
                          RuntimeWarning, stacklevel=2)
            continue
        start += size
        if start >= len(points) or sum(len(good) for _, good in waiting) >= MASKS_AT_ONCE:
            logits, predicted = torch.cat([part for part, _ in waiting]), np.concatenate([part for _, part in waiting])
            waiting = []
            for number, sketch in sketch_masks(logits, *axes, model.mask_threshold, checkpoint.stability_score_thresh):
                sketches.append(sketch)
                scores.append(float(predicted[number]))
        report(min(1, start / len(points)))
    return sketches, scores


def count_points_at_once(features: torch.Tensor) -> int:
    """How many points to ask in one batch, for features (1, C, h, w) on their device."""
    _, channels, height, width = features.shape
    if features.device.type == 'cpu':
        return max(1, CELLS_PER_BATCH // (height * width))
    free, _ = torch.cuda.mem_get_info(features.device)
    return int(min(max(1, free // 2 // (BYTES_PER_CHANNEL * channels * height * width)), POINTS_PER_BATCH))


def _plan_axes(model: Sam, features: torch.Tensor, shape: tuple[int, ...]) -> tuple[Axis, Axis]:
    side = model.image_encoder.img_size
    used = ResizeLongestSide.get_preprocess_shape(*shape[:2], side)
    rows, columns = (plan_axis(4 * cells, side, filled, pixels, features.device) for cells, filled, pixels
                     in zip(features.shape[2:], used, shape[:2], strict=True))
    return rows, columns


def draw_good_masks(model: Sam, ground: decoder.Ground, points: torch.Tensor,
                    pred_iou_thresh: float) -> tuple[torch.Tensor, np.ndarray]:
    """Logits (M, h, w), and predicted IoU (M,), of those of the points' masks that SAM thinks good enough.

    `points` are (B, 2), x and y in the model's input. The device is waited for once.
    """
    tokens, cells, predicted_iou = decoder.ask_points(model, ground, points)
    scores = predicted_iou.cpu()
    good = scores > pred_iou_thresh  # (B, 3)
    asked = good.any(dim=1).nonzero()[:, 0]
    drawn = good[asked].flatten().nonzero()[:, 0]
    if len(asked) < len(points):
        on_device = asked.to(points.device)
        tokens, cells = tokens[on_device], cells[on_device]
    logits = decoder.draw_logits(model, tokens, cells).flatten(0, 1)
    return logits[drawn.to(points.device)], scores[good].numpy()


def _draw_candidates(chosen: list[int], sketches: list[Sketch], scores: list[float], axes: tuple[Axis, Axis],
                     mask_threshold: float) -> Iterator[Candidate]:
    drawn = draw_masks([sketches[number] for number in chosen], *axes, mask_threshold)
    for number, bits in zip(chosen, drawn, strict=True):
        box = sketches[number].box
        area = int(unpack_mask(bits, box.right - box.left).sum())
        yield Candidate(box, bits, area, scores[number], sketches[number].stability_score)


def suppress_doubles(boxes: list[Box], scores: list[float], iou_thresh: float) -> list[int]:
    """Numbers of the boxes by falling score, without those that overlap a better one too much.

    The boxes are compared as SAM does, from the first to the last pixel.
    """
    if not boxes:
        return []
    corners = torch.tensor([(box.left, box.top, box.right - 1, box.bottom - 1) for box in boxes], dtype=torch.float32)
    return torchvision.ops.nms(corners, torch.tensor(scores, dtype=torch.float32), iou_thresh).tolist()


def clean_mask(candidate: Candidate, shape: tuple[int, ...], min_area: int) -> Candidate:
    """The candidate without holes and without islands smaller than `min_area` pixels; itself where there are none.

    Where all islands are smaller the largest stays. Corners connect.
    """
    original = CutMask(candidate.box, candidate.mask)
    filled = fill_holes(original, shape, min_area)
    islands, sizes = _find_regions(filled.mask)
    small = sizes < min_area
    if filled is original and not small.any():
        return candidate
    small[sizes.argmax()] &= not small.all()
    mask = filled.mask & ~_mark_regions(islands, small)
    inner = bound_mask(mask)
    assert inner is not None  # the largest island stays
    return replace(candidate, box=inner.shift(filled.box.top, filled.box.left), bits=pack_mask(mask[inner.slices]),
                   area=int(mask.sum()))


def fill_holes(cut: CutMask, shape: tuple[int, ...], min_area: int) -> CutMask:
    """The mask with the regions of background filled that are smaller; itself where there are none.

    The frame around the box counts, for a region may reach out of it, or lie between it and the frame's border: each
    side of it is one row or column, which weighs as much as it stands for.
    """
    box = cut.box
    rows, columns = (
        np.array([before, *[1] * length, after])
        for before, length, after in zip((box.top, box.left), cut.mask.shape,
                                         (shape[0] - box.bottom, shape[1] - box.right), strict=True))
    inside = np.ix_(rows > 0, columns > 0)
    filled = np.pad(cut.mask, 1)
    regions, sizes = _find_regions(~filled[inside])
    edge = np.ones(regions.shape, bool)
    edge[1:-1, 1:-1] = False
    at_row, at_column = edge.nonzero()
    beyond = rows[rows > 0][at_row] * columns[columns > 0][at_column] - 1  # pixels that the edge stands for, no more
    sizes = sizes + np.bincount(regions[edge], beyond, minlength=len(sizes) + 1)[1:]
    if not (small := sizes < min_area).any():
        return cut
    filled[inside] |= _mark_regions(regions, small)
    rows[[0, -1]] *= filled[[0, -1]].any(axis=1)
    columns[[0, -1]] *= filled[:, [0, -1]].any(axis=0)
    grown = Box(box.top - rows[0], box.left - columns[0], box.bottom + rows[-1], box.right + columns[-1])
    return CutMask(grown, filled.repeat(rows, axis=0).repeat(columns, axis=1))


def _find_regions(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of each pixel's region, 0 outside the mask, and the pixels of each region from the first."""
    _, regions, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return regions, stats[1:, cv2.CC_STAT_AREA]


def _mark_regions(regions: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The pixels of the chosen (a bool for each, from the first) of the regions."""
    marks = np.concatenate([[False], chosen])
    return np.stack([marks[row] for row in regions])  # row by row, for an index takes eight bytes a pixel
