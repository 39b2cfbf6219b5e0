"""The decoder's small logits become masks of the frame, each computed and kept in its own box only.

SAM enlarges logits twice, both times bilinearly: to the model's input, whose padding is then cut off, and to the frame.
That is one matrix along the rows and one along the columns, both banded. A pixel is a mean of the logits around it, so
it exceeds a cut only near a logit that does: what lies elsewhere need not be computed.
"""
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fewshot.crops import Box, bound_mask

STABILITY_OFFSET = 1.0  # a mask is cut so much higher and lower to see whether it changes; SAM's own value
SLAB_PIXELS = 2 ** 24  # of a mask enlarged at a time


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


def cut_masks(logits: torch.Tensor, rows: Axis, columns: Axis, threshold: float,
              stability_thresh: float) -> Iterator[tuple[int, Box, np.ndarray, float]]:
    """The stable masks among (M, h, w) logits.

    The device is waited for three times, however many masks there are.

    Yields
    ------
    number : of the mask, 0 to M - 1, ascending
    box : the smallest around the mask, in the frame
    mask : (box height, box width) bool
    stability_score : share of the lower cut that the higher cut covers, at least `stability_thresh`
    """
    regions, counts, packed = [], [], []
    for number, low in find_boxes(logits > threshold - STABILITY_OFFSET):
        region = Box(*(int(end) for end in (
            rows.reach[low.top:low.bottom, 0].min(), columns.reach[low.left:low.right, 0].min(),
            rows.reach[low.top:low.bottom, 1].max(), columns.reach[low.left:low.right, 1].max())))
        if region.bottom > region.top and region.right > region.left:  # else all of it lies in the input's padding
            high_and_low, bits = _enlarge(logits[number], rows, columns, region, threshold)
            regions.append((number, region))
            counts.append(high_and_low)
            packed.append(bits)
    if not regions:
        return
    high, low_ = torch.stack(counts).cpu().numpy().astype(np.float32).T
    with np.errstate(invalid='ignore'):  # nothing above the lower cut: not a number, and not stable
        stability = high / low_
    stable = np.flatnonzero(stability >= stability_thresh)
    if not len(stable):
        return
    flat = torch.cat([packed[index].flatten() for index in stable]).cpu().numpy()
    start = 0
    for index in stable:
        number, region = regions[index]
        size = packed[index].numel()
        mask = unpack_mask(flat[start:start + size].reshape(packed[index].shape), region.right - region.left)
        start += size
        if (inner := bound_mask(mask)) is not None:
            yield number, inner.shift(region.top, region.left), mask[inner.slices], float(stability[index])


def find_boxes(masks: torch.Tensor) -> list[tuple[int, Box]]:
    """Number and smallest box of each mask of (M, h, w) bool that is not empty."""
    ends = []
    for marks in (masks.any(dim=2), masks.any(dim=1)):  # rows, columns
        order = torch.arange(1, marks.shape[1] + 1, device=masks.device)
        last = (marks * order).amax(dim=1)
        first = (marks * order.flip(0)).amax(dim=1)
        ends += [marks.shape[1] - first, last]
    boxes = torch.stack(ends, dim=1).tolist()
    return [(number, Box(top, left, bottom, right)) for number, (top, bottom, left, right) in enumerate(boxes)
            if bottom > top]


def _enlarge(logits: torch.Tensor, rows: Axis, columns: Axis, region: Box,
             threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels above the higher and the lower stability cut (2,), and the packed mask of a region of the frame."""
    left, right = _bound_source(columns, region.left, region.right)
    top, bottom = _bound_source(rows, region.top, region.bottom)
    wide = logits[top:bottom, left:right] @ columns.weights[region.left:region.right, left:right].T
    step = max(1, SLAB_PIXELS // (region.right - region.left))
    counts, bits = [], []
    for start in range(region.top, region.bottom, step):
        slab = rows.weights[start:min(start + step, region.bottom), top:bottom] @ wide
        counts.append(torch.stack([(slab > threshold + offset).sum(dtype=torch.int32)
                                   for offset in (STABILITY_OFFSET, -STABILITY_OFFSET)]))
        bits.append(_pack_on_device(slab > threshold))
    return torch.stack(counts).sum(dim=0), torch.cat(bits)


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
