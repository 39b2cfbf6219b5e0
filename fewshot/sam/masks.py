"""The decoder's small logits become masks of the frame, each computed and kept in its own box only.

SAM enlarges logits twice, both times bilinearly: to the model's input, whose padding is then cut off, and to the frame.
That is one matrix along the rows and one along the columns, both banded. A pixel is a mean of the logits around it, so
it exceeds a cut only near a logit that does: what lies elsewhere need not be computed.
"""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fewshot.geometry import Box

STABILITY_OFFSET = 1.0  # a mask is cut so much higher and lower to see whether it changes; SAM's own value
SLAB_PIXELS = {'cpu': 2 ** 16, 'cuda': 2 ** 24}  # of a mask enlarged at a time; a CPU wants what its cache holds


@dataclass(frozen=True)
class Axis:
    """How logits along one axis of the frame become pixels."""

    weights: torch.Tensor  # (pixels, logits)
    reach: np.ndarray  # (logits, 2): first pixel that a logit takes part in, and the one after its last
    source: np.ndarray  # (pixels, 2): first logit that takes part in a pixel, and the one after its last


def plan_axis(logits: int, input_side: int, used: int, pixels: int, device: torch.device) -> Axis:
    """The axis for a frame of `pixels` that fills `used` of the `input_side` pixels of the model's input."""
    identity = torch.eye(logits)[None]
    enlarged = F.interpolate(identity, input_side, mode='linear', align_corners=False)[..., :used]
    weights = F.interpolate(enlarged, pixels, mode='linear', align_corners=False)[0].T.contiguous()
    takes_part = weights != 0
    return Axis(weights.to(device), _find_ends(takes_part.T.numpy()), _find_ends(takes_part.numpy()))


def _find_ends(marks: np.ndarray) -> np.ndarray:
    """First marked column of each row and the one after the last: (rows, 2); both 0 where none is marked."""
    ends = np.stack([marks.argmax(axis=1), marks.shape[1] - marks[:, ::-1].argmax(axis=1)], axis=1)
    return ends * marks.any(axis=1, keepdims=True)


@dataclass(frozen=True)
class Sketch:
    """What is kept of a mask until it is drawn."""

    box: Box  # of the frame: the smallest around the mask
    stability_score: float  # share of the lower cut that the higher cut covers


def sketch_masks(logits: torch.Tensor, rows: Axis, columns: Axis, threshold: float,
                 stability_thresh: float) -> Iterator[tuple[int, Sketch]]:
    """The stable ones, at least `stability_thresh`, among masks of logits (M, h, w), each with its number from 0.

    The device is waited for twice, however many masks there are.
    """
    started = []
    for number, low in find_boxes(logits > threshold - STABILITY_OFFSET):
        region = Box(*(int(end) for end in (
            rows.reach[low.top:low.bottom, 0].min(), columns.reach[low.left:low.right, 0].min(),
            rows.reach[low.top:low.bottom, 1].max(), columns.reach[low.left:low.right, 1].max())))
        if region.bottom > region.top and region.right > region.left:  # else all of it lies in the input's padding
            started.append((number, region))
    if not started:
        return
    measured = torch.stack([
        _measure(logits[number], rows, columns, region, threshold) for number, region in started]).cpu()
    for (number, region), (high, low_, *ends) in zip(started, measured.tolist(), strict=True):
        if ends[1] > 0 and high >= stability_thresh * low_:
            box = Box(ends[0], ends[2], ends[1], ends[3]).shift(region.top, region.left)
            yield number, Sketch(box, high / low_)


def draw_masks(logits: torch.Tensor, sketches: Sequence[Sketch], rows: Axis, columns: Axis,
               threshold: float) -> list[np.ndarray]:
    """The masks of logits (M, h, w) and their sketches, each in its box, as by `pack_mask`.

    The device is waited for once.
    """
    packed = [
        torch.cat([_pack_on_device(slab > threshold) for slab in _enlarge(one, rows, columns, sketch.box)])
        for one, sketch in zip(logits, sketches, strict=True)]
    flat = torch.cat([bits.flatten() for bits in packed]).cpu().numpy()
    ends = np.cumsum([bits.numel() for bits in packed])
    return [part.reshape(bits.shape) for part, bits in zip(np.split(flat, ends[:-1]), packed, strict=True)]


def find_boxes(masks: torch.Tensor) -> list[tuple[int, Box]]:
    """Number and smallest box of each mask of (M, h, w) bool that is not empty."""
    spans = torch.cat([_find_span(masks.any(dim=2)), _find_span(masks.any(dim=1))], dim=1).tolist()
    return [(number, Box(top, left, bottom, right)) for number, (top, bottom, left, right) in enumerate(spans)
            if bottom > 0]


def _find_span(marks: torch.Tensor) -> torch.Tensor:
    """First marked column of each row of (n, m) bool and the one after the last: (n, 2); m and 0 where none is."""
    order = torch.arange(1, marks.shape[1] + 1, device=marks.device)
    first = marks.shape[1] - (marks * order.flip(0)).amax(dim=1)
    return torch.stack([first, (marks * order).amax(dim=1)], dim=1)


def _measure(logits: torch.Tensor, rows: Axis, columns: Axis, region: Box, threshold: float) -> torch.Tensor:
    """Pixels above the higher and the lower stability cut, and top, bottom, left, right of the mask: (6,) int.

    The ends count from the region's corner, a last one excluded; a mask without a pixel ends at 0.
    """
    high_and_low, by_row, by_column = [], [], []
    for slab in _enlarge(logits, rows, columns, region):
        high_and_low.append(torch.stack([(slab > threshold + offset).sum() for offset in
                                         (STABILITY_OFFSET, -STABILITY_OFFSET)]))
        mask = slab > threshold
        by_row.append(mask.any(dim=1))
        by_column.append(mask.any(dim=0))
    ends = torch.cat([_find_span(torch.cat(by_row)[None]), _find_span(torch.stack(by_column).any(dim=0)[None])], dim=1)
    return torch.cat([torch.stack(high_and_low).sum(dim=0), ends[0]])


def _enlarge(logits: torch.Tensor, rows: Axis, columns: Axis, region: Box) -> Iterator[torch.Tensor]:
    """A region of the frame, made of the logits (h, w), in slabs of rows from the top: (rows, region width)."""
    left, right = _bound_source(columns, region.left, region.right)
    top, bottom = _bound_source(rows, region.top, region.bottom)
    wide = logits[top:bottom, left:right] @ columns.weights[region.left:region.right, left:right].T
    step = max(1, SLAB_PIXELS[logits.device.type] // (region.right - region.left))
    for start in range(region.top, region.bottom, step):
        stop = min(start + step, region.bottom)
        first, last = _bound_source(rows, start, stop)
        yield rows.weights[start:stop, first:last] @ wide[first - top:last - top]


def _bound_source(axis: Axis, start: int, stop: int) -> tuple[int, int]:
    return int(axis.source[start:stop, 0].min()), int(axis.source[start:stop, 1].max())


def _pack_on_device(mask: torch.Tensor) -> torch.Tensor:
    """As `pack_mask`, for a tensor: (h, ceil(w / 8)) uint8."""
    eights = F.pad(mask, (0, -mask.shape[1] % 8)).unflatten(1, (-1, 8))
    powers = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=mask.device)
    return (eights * powers).sum(dim=2, dtype=torch.uint8)


def pack_mask(mask: np.ndarray) -> np.ndarray:
    """A mask (h, w) bool with eight pixels of a row in each byte: (h, ceil(w / 8)) uint8."""
    return np.packbits(mask, axis=1)


def unpack_mask(bits: np.ndarray, width: int) -> np.ndarray:
    """The mask (h, width) bool that `pack_mask` made small."""
    return np.unpackbits(bits, axis=1, count=width).view(bool)
