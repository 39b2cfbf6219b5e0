"""SAM proposes: a frame becomes candidate masks, whatever they show.

The masks, their order and their scores are those of `segment_anything.SamAutomaticMaskGenerator` for the whole frame as
its only crop (Kirillov et al., "Segment Anything", ICCV 2023).
"""
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import cv2
import numpy as np
import torch
import torchvision
from segment_anything.modeling import Sam
from segment_anything.utils.amg import build_point_grid
from segment_anything.utils.transforms import ResizeLongestSide

from fewshot.geometry import Box, CutMask, bound_mask
from fewshot.parameters import Parameters
from fewshot.sam import decoder
from fewshot.sam.checkpoints import Checkpoint
from fewshot.sam.masks import Axis, Sketch, draw_masks, pack_mask, plan_axis, sketch_masks, unpack_mask

CELLS_PER_BATCH = 4 * 64 ** 2  # of all points of a batch on a CPU: what its cache can hold is fastest
POINTS_PER_BATCH = 128  # on a GPU, at most
BYTES_PER_CHANNEL = 64  # of GPU memory for one channel of one cell of one point, everything counted
T = TypeVar('T')


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
    with torch.inference_mode():
        grid = prepare_grid(model, features, shape, parameters.points_per_side)
        sketches = [one for part in _in_batches(
            partial(_sketch, model, grid, checkpoint), len(grid.points), count_points_at_once(features), report)
            for one in part]
        scores = [one.predicted_iou for one in sketches]
        chosen = [sketches[number] for number in suppress_doubles(
            [one.sketch.box for one in sketches], scores, checkpoint.box_nms_thresh)]
        kept = [one for part in _in_batches(
            partial(_draw, model, grid, chosen), len(chosen), count_points_at_once(features)) for one in part]
    if not parameters.min_area:
        return kept
    cleaned = [clean_mask(candidate, shape, parameters.min_area) for candidate in kept]
    untouched = [float(after is before) for before, after in zip(kept, cleaned, strict=True)]
    return [cleaned[number] for number in suppress_doubles(
        [one.box for one in cleaned], untouched, checkpoint.box_nms_thresh)]


def has_allowed_area(candidate: Candidate, parameters: Parameters) -> bool:
    """Whether a candidate lies within Min and Max Mask Area."""
    return parameters.min_area <= candidate.area <= (parameters.max_area or candidate.area)


@dataclass(frozen=True)
class Grid:
    """The points to ask in a frame, and what every answer needs."""

    points: torch.Tensor  # (n, 2) float32, x and y in pixels of the model's input
    ground: decoder.Ground
    rows: Axis
    columns: Axis


@dataclass(frozen=True)
class Proposal:
    """A good and stable mask, not drawn: most are doubles of others, and what is chosen is asked for again."""

    point: int  # number in the grid
    mask: int  # of the point's three
    predicted_iou: float
    sketch: Sketch


def prepare_grid(model: Sam, features: torch.Tensor, shape: tuple[int, ...], points_per_side: int) -> Grid:
    """The grid of points in a frame of shape (H, W, ...) with features (1, C, h, w)."""
    side = model.image_encoder.img_size
    places = build_point_grid(points_per_side) * np.array(shape[1::-1])
    points = ResizeLongestSide(side).apply_coords(places, shape[:2])
    used = ResizeLongestSide.get_preprocess_shape(*shape[:2], side)
    rows, columns = (plan_axis(4 * cells, side, filled, pixels, features.device) for cells, filled, pixels
                     in zip(features.shape[2:], used, shape[:2], strict=True))
    points = torch.as_tensor(points, dtype=torch.float32, device=features.device)
    return Grid(points, decoder.prepare_ground(model, features), rows, columns)


def _in_batches(work: Callable[[slice], T], count: int, size: int,
                report: Callable[[float], None] = lambda share: None) -> Iterator[T]:
    """The results of the work on `size` of `count` things at a time, or on fewer where the memory of a GPU is short."""
    start = 0
    while start < count:
        try:
            done = work(slice(start, start + size))
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
            torch.cuda.empty_cache()
            warnings.warn('The memory of the GPU is short: fewer points are asked at a time, which takes longer',
                          RuntimeWarning, stacklevel=2)
            continue
        start += size
        yield done
        report(min(1, start / count))


def count_points_at_once(features: torch.Tensor) -> int:
    """How many points to ask in one batch, for features (1, C, h, w) on their device."""
    _, channels, height, width = features.shape
    if features.device.type == 'cpu':
        return max(1, CELLS_PER_BATCH // (height * width))
    free, _ = torch.cuda.mem_get_info(features.device)
    return int(min(max(1, free // 2 // (BYTES_PER_CHANNEL * channels * height * width)), POINTS_PER_BATCH))


def _sketch(model: Sam, grid: Grid, checkpoint: Checkpoint, batch: slice) -> list[Proposal]:
    """The good and stable masks of some points. The device is waited for three times."""
    tokens, cells, predicted_iou = decoder.ask_points(model, grid.ground, grid.points[batch])
    scores = predicted_iou.cpu()
    good = scores > checkpoint.pred_iou_thresh  # (B, 3)
    asked = good.any(dim=1).nonzero()[:, 0]
    if not len(asked):
        return []
    if len(asked) < len(scores):
        on_device = asked.to(tokens.device)
        tokens, cells = tokens[on_device], cells[on_device]
    drawn = good[asked].flatten().nonzero()[:, 0]
    logits = decoder.draw_logits(model, tokens, cells).flatten(0, 1)[drawn.to(tokens.device)]
    places = good.nonzero().tolist()
    return [Proposal(batch.start + places[number][0], places[number][1], scores[tuple(places[number])].item(), sketch)
            for number, sketch in sketch_masks(
                logits, grid.rows, grid.columns, model.mask_threshold, checkpoint.stability_score_thresh)]


def _draw(model: Sam, grid: Grid, chosen: list[Proposal], batch: slice) -> list[Candidate]:
    """Some of the chosen proposals, asked for again. The device is waited for once."""
    part = chosen[batch]
    tokens, cells, _ = decoder.ask_points(model, grid.ground, grid.points[[one.point for one in part]])
    logits = decoder.draw_logits(model, tokens, cells)[range(len(part)), [one.mask for one in part]]
    drawn = draw_masks(logits, [one.sketch for one in part], grid.rows, grid.columns, model.mask_threshold)
    candidates = []
    for one, bits in zip(part, drawn, strict=True):
        mask = unpack_mask(bits, one.sketch.box.right - one.sketch.box.left)
        if (inner := bound_mask(mask)) is not None:  # rounding may take a last pixel away
            box = inner.shift(one.sketch.box.top, one.sketch.box.left)
            candidates.append(Candidate(box, pack_mask(mask[inner.slices]), int(mask.sum()), one.predicted_iou,
                                        one.sketch.stability_score))
    return candidates


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
