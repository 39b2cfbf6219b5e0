"""From low-resolution logits to masks of the frame, each computed and kept within its own box.

SAM enlarges logits twice, both times bilinearly: to the model's input, whose padding is then cut
off, and to the frame. Both together are one matrix along the rows and one along the columns, and
both are banded. A pixel is a weighted mean of the logits around it. So it can exceed a threshold
only near a logit that does, and the other pixels need not be computed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fewshot.geometry import Box

STABILITY_OFFSET = 1.0  # as in SamAutomaticMaskGenerator
# Pixels of a mask that are enlarged at a time. On a CPU they should fit into its cache.
SLAB_PIXELS = {'cpu': 2**16, 'cuda': 2**24}


@dataclass(frozen=True)
class Axis:
    """How logits become pixels along one axis of the frame."""

    weights: torch.Tensor  # (pixels, logits) float32
    # First index, and the one after the last: of the pixels that a logit influences, and of the
    # logits that influence a pixel
    pixels_of: np.ndarray  # (logits, 2) int64
    logits_of: np.ndarray  # (pixels, 2) int64


def plan_axis(logits: int, input_size: int, used: int, pixels: int, device: torch.device) -> Axis:
    """Combine the two enlargements along an axis.

    Parameters
    ----------
    logits : int
        Number of logits.
    input_size : int
        Side of the model's input, pixels.
    used : int
        Pixels of the model's input that the frame fills; the rest is padding.
    pixels : int
        Pixels of the frame.
    device : torch.device
        Where masks are computed.

    Returns
    -------
    Axis
    """
    identity = torch.eye(logits)[None]
    enlarged = F.interpolate(identity, input_size, mode='linear', align_corners=False)
    enlarged = F.interpolate(enlarged[..., :used], pixels, mode='linear', align_corners=False)
    weights = enlarged[0].T.contiguous()  # (pixels, logits)
    influences = weights != 0
    return Axis(
        weights.to(device),
        pixels_of=_find_spans(influences.T).numpy(),
        logits_of=_find_spans(influences).numpy(),
    )


@dataclass(frozen=True)
class StableMask:
    """A mask of which the pixels are not kept."""

    box: Box  # the smallest around the mask, in its frame
    stability_score: float  # IoU of the masks at a higher and a lower threshold


def find_stable_masks(
    logits: torch.Tensor,
    rows: Axis,
    columns: Axis,
    mask_threshold: float,
    stability_score_thresh: float,
) -> dict[int, StableMask]:
    """Measure masks and select the stable ones, without keeping their pixels.

    The CPU waits for the GPU twice, however many masks there are.

    Parameters
    ----------
    logits : (M, h, w) float32 tensor
    rows, columns : Axis
    mask_threshold : float
        Logit above which a pixel belongs to the mask.
    stability_score_thresh : float
        The lowest score that is stable.

    Returns
    -------
    dict of int to StableMask
        By number of the mask, 0 to M - 1, in ascending order.
    """
    # Find the part of the frame in which each mask can have pixels.
    regions = {}
    for number, box in find_boxes(logits > mask_threshold - STABILITY_OFFSET).items():
        top, bottom = _bound(rows.pixels_of[box.top : box.bottom])
        left, right = _bound(columns.pixels_of[box.left : box.right])
        if top < bottom and left < right:  # otherwise the mask lies in the padding of the input
            regions[number] = Box(top, left, bottom, right)
    if not regions:
        return {}

    # Measure all masks before the CPU waits for the first.
    measured = [
        _measure(logits[number], rows, columns, region, mask_threshold)
        for number, region in regions.items()
    ]
    measurements = torch.stack(measured).tolist()

    stable = {}
    for (number, region), measurement in zip(regions.items(), measurements, strict=True):
        above_higher, above_lower, top, bottom, left, right = measurement
        is_empty = bottom == 0
        if not is_empty and above_higher >= stability_score_thresh * above_lower:
            box = Box(top, left, bottom, right).shift(region.top, region.left)
            stable[number] = StableMask(box, above_higher / above_lower)
    return stable


def draw_masks(
    logits: torch.Tensor,
    boxes: Sequence[Box],
    rows: Axis,
    columns: Axis,
    mask_threshold: float,
) -> list[np.ndarray]:
    """Draw masks, each within its box.

    The CPU waits for the GPU once.

    Parameters
    ----------
    logits : (M, h, w) float32 tensor
    boxes : sequence of M Box
        In the frame, from `find_stable_masks`.
    rows, columns : Axis
    mask_threshold : float

    Returns
    -------
    list of M (box height, ceil(box width / 8)) uint8 ndarrays
        As from `candidates.pack_mask`.
    """
    packed = []
    for mask_logits, box in zip(logits, boxes, strict=True):
        slabs = _enlarge(mask_logits, rows, columns, box)
        packed.append(torch.cat([_pack_on_device(slab > mask_threshold) for slab in slabs]))

    # Fetch all masks at once, as one array.
    flat = torch.cat([bits.flatten() for bits in packed]).cpu().numpy()
    ends = np.cumsum([bits.numel() for bits in packed])
    parts = np.split(flat, ends[:-1])
    return [part.reshape(bits.shape) for part, bits in zip(parts, packed, strict=True)]


def find_boxes(masks: torch.Tensor) -> dict[int, Box]:
    """Find the smallest box around each mask that is not empty.

    Parameters
    ----------
    masks : (M, h, w) bool tensor

    Returns
    -------
    dict of int to Box
        By number of the mask, 0 to M - 1, in ascending order.

    Examples
    --------
    >>> masks = torch.zeros(2, 5, 8, dtype=torch.bool)
    >>> masks[1, 1:3, 4:7] = True
    >>> find_boxes(masks)
    {1: Box(top=1, left=4, bottom=3, right=7)}
    """
    row_spans = _find_spans(masks.any(dim=2))
    column_spans = _find_spans(masks.any(dim=1))
    boxes = {}
    for number, span in enumerate(torch.cat([row_spans, column_spans], dim=1).tolist()):
        top, bottom, left, right = span
        if top < bottom:
            boxes[number] = Box(top, left, bottom, right)
    return boxes


def _find_spans(marks: torch.Tensor) -> torch.Tensor:
    """Find the first marked column of each row, and the one after the last.

    Parameters
    ----------
    marks : (n, m) bool tensor

    Returns
    -------
    (n, 2) int64 tensor
        m and 0 for a row without a mark.
    """
    columns = marks.shape[1]
    order = torch.arange(1, columns + 1, device=marks.device)
    first = columns - (marks * order.flip(0)).amax(dim=1)
    end = (marks * order).amax(dim=1)
    return torch.stack([first, end], dim=1)


def _bound(spans: np.ndarray) -> tuple[int, int]:
    """Find the span around all spans (n, 2), n > 0."""
    return int(spans[:, 0].min()), int(spans[:, 1].max())


def _measure(
    logits: torch.Tensor, rows: Axis, columns: Axis, region: Box, mask_threshold: float
) -> torch.Tensor:
    """Measure the size, stability and extent of a mask.

    Parameters
    ----------
    logits : (h, w) float32 tensor
    rows, columns : Axis
    region : Box
        Part of the frame in which the mask can have pixels.
    mask_threshold : float

    Returns
    -------
    (6,) int64 tensor
        Pixels above the higher and the lower stability threshold; top, bottom, left and right of
        the mask, counted from the corner of the region, ends excluded. The bottom of an empty mask
        is 0.
    """
    above_higher, above_lower, any_in_row, any_in_column = [], [], [], []
    for slab in _enlarge(logits, rows, columns, region):
        above_higher.append((slab > mask_threshold + STABILITY_OFFSET).sum())
        above_lower.append((slab > mask_threshold - STABILITY_OFFSET).sum())
        mask = slab > mask_threshold
        any_in_row.append(mask.any(dim=1))
        any_in_column.append(mask.any(dim=0))
    counts = torch.stack([torch.stack(above_higher).sum(), torch.stack(above_lower).sum()])
    row_span = _find_spans(torch.cat(any_in_row)[None])[0]
    column_span = _find_spans(torch.stack(any_in_column).any(dim=0)[None])[0]
    return torch.cat([counts, row_span, column_span])


def _enlarge(
    logits: torch.Tensor, rows: Axis, columns: Axis, region: Box
) -> Iterator[torch.Tensor]:
    """Enlarge logits to the pixels of a region of the frame.

    Parameters
    ----------
    logits : (h, w) float32 tensor
    rows, columns : Axis
    region : Box

    Yields
    ------
    (slab height, region width) float32 tensor
        The next rows of the region, from the top.
    """
    top, bottom = _bound(rows.logits_of[region.top : region.bottom])
    left, right = _bound(columns.logits_of[region.left : region.right])
    column_weights = columns.weights[region.left : region.right, left:right]
    wide = logits[top:bottom, left:right] @ column_weights.T  # (logits, region width)

    slab_height = max(1, SLAB_PIXELS[logits.device.type] // region.width)
    for start in range(region.top, region.bottom, slab_height):
        stop = min(start + slab_height, region.bottom)
        first, end = _bound(rows.logits_of[start:stop])
        yield rows.weights[start:stop, first:end] @ wide[first - top : end - top]


def _pack_on_device(mask: torch.Tensor) -> torch.Tensor:
    """Do for a tensor what `candidates.pack_mask` does."""
    octets = F.pad(mask, (0, -mask.shape[1] % 8)).unflatten(1, (-1, 8))  # (h, ceil(w / 8), 8)
    powers = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=mask.device)
    return (octets * powers).sum(dim=2, dtype=torch.uint8)
