"""Every mask that SAM finds in a frame, whatever it shows.

The masks, their order and their scores are those of `segment_anything.SamAutomaticMaskGenerator`
with the whole frame as its only crop, before it cleans them. `fewshot.sam.cleaning` does that.

References
----------
Kirillov et al., "Segment Anything", ICCV 2023
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from segment_anything.modeling import Sam
from segment_anything.utils.amg import build_point_grid
from segment_anything.utils.transforms import ResizeLongestSide

from fewshot.geometry import Box, bound_mask
from fewshot.sam.batches import Report, measure_free_memory, run_in_batches
from fewshot.sam.candidates import Candidate, pack_mask, unpack_mask
from fewshot.sam.checkpoints import Checkpoint
from fewshot.sam.cleaning import suppress_duplicates
from fewshot.sam.decoder import ProjectedImage, decode_points, predict_masks, project_image
from fewshot.sam.masks import Axis, draw_masks, find_stable_masks, plan_axis

# Cells of all points of a batch on a CPU, which is fastest when they fit into its cache
CELLS_PER_BATCH = 4 * 64**2
MAX_POINTS_PER_BATCH = 128  # on a GPU
BYTES_PER_CHANNEL = 64  # of GPU memory, for each channel of each cell of a point


def propose_candidates(
    model: Sam,
    image_embedding: torch.Tensor,
    shape: Sequence[int],
    checkpoint: Checkpoint,
    *,
    points_per_side: int,
    report: Report,
) -> list[Candidate]:
    """Prompt SAM with a grid of points and collect its masks, without near duplicates.

    Parameters
    ----------
    model : Sam
    image_embedding : (1, C, h, w) float32 tensor
        Of the frame, from the image encoder.
    shape : sequence of int
        Of the frame, (H, W, ...).
    checkpoint : Checkpoint
        Gives the thresholds for good, stable and duplicate masks.
    points_per_side : int
    report : callable
        Called with the share of points that are done, 0 to 1.

    Returns
    -------
    list of Candidate

    Raises
    ------
    JobError
        The GPU has no memory for a single point.
    """
    with torch.inference_mode():
        grid = prepare_grid(model, image_embedding, shape, points_per_side)
        batch_size = count_points_at_once(image_embedding)

        # Find the good and stable masks. Most are near duplicates, so their pixels are not kept.
        proposals: list[Proposal] = []
        find = partial(_find_proposals, model, grid, checkpoint)
        for batch, found in run_in_batches(find, range(len(grid.points)), batch_size):
            proposals += found
            report((batch[-1] + 1) / len(grid.points))

        kept = suppress_duplicates(
            [proposal.box for proposal in proposals],
            [proposal.predicted_iou for proposal in proposals],
            checkpoint.box_nms_thresh,
        )
        proposals = [proposals[number] for number in kept]

        # Prompt SAM with the remaining points again and draw their masks.
        candidates: list[Candidate] = []
        draw = partial(_draw_proposals, model, grid)
        for _, drawn in run_in_batches(draw, proposals, batch_size):
            candidates += drawn

    return candidates


@dataclass(frozen=True)
class PointGrid:
    """The points of a frame, and what the answers to all of them need."""

    points: torch.Tensor  # (n, 2) float32, x and y in pixels of the model's input
    image: ProjectedImage
    rows: Axis
    columns: Axis


@dataclass(frozen=True)
class Proposal:
    """A good and stable mask of which the pixels are not kept."""

    point: int  # number in the grid
    mask: int  # number among the three masks of the point
    predicted_iou: float
    stability_score: float
    box: Box  # the smallest around the mask, in its frame


def prepare_grid(
    model: Sam, image_embedding: torch.Tensor, shape: Sequence[int], points_per_side: int
) -> PointGrid:
    """Place the grid of points in a frame.

    Parameters
    ----------
    model : Sam
    image_embedding : (1, C, h, w) float32 tensor
    shape : sequence of int
        Of the frame, (H, W, ...).
    points_per_side : int

    Returns
    -------
    PointGrid
    """
    device = image_embedding.device
    height, width = shape[:2]
    grid_height, grid_width = image_embedding.shape[2:]
    input_size = model.image_encoder.img_size
    used_height, used_width = ResizeLongestSide.get_preprocess_shape(height, width, input_size)

    points = build_point_grid(points_per_side) * (width, height)  # (n, 2), pixels of the frame
    points = ResizeLongestSide(input_size).apply_coords(points, (height, width))
    return PointGrid(
        torch.as_tensor(points, dtype=torch.float32, device=device),
        project_image(model, image_embedding),
        plan_axis(4 * grid_height, input_size, used_height, height, device),
        plan_axis(4 * grid_width, input_size, used_width, width, device),
    )


def count_points_at_once(image_embedding: torch.Tensor, free_memory: int | None = None) -> int:
    """Choose how many points to decode in a batch.

    Parameters
    ----------
    image_embedding : (1, C, h, w) tensor
        On the device that decodes.
    free_memory : int, optional
        Of the GPU, bytes; measured by default.

    Returns
    -------
    int
        1 or more.
    """
    _, channels, height, width = image_embedding.shape
    cells = height * width
    if image_embedding.device.type == 'cpu':
        return max(1, CELLS_PER_BATCH // cells)
    if free_memory is None:
        free_memory = measure_free_memory(image_embedding.device)
    bytes_per_point = BYTES_PER_CHANNEL * channels * cells
    return min(max(1, free_memory // 2 // bytes_per_point), MAX_POINTS_PER_BATCH)


def _find_proposals(
    model: Sam, grid: PointGrid, checkpoint: Checkpoint, numbers: list[int]
) -> list[Proposal]:
    """Find the good and stable masks of the points with these numbers.

    The CPU waits for the GPU three times.
    """
    queries, keys, iou_predictions = decode_points(model, grid.image, grid.points[numbers])
    iou_predictions = iou_predictions.cpu()  # (B, 3)
    is_good = iou_predictions > checkpoint.pred_iou_thresh  # (B, 3)

    # Predict the masks of those points only that have a good one.
    has_good = is_good.any(dim=1).nonzero()[:, 0]
    if not len(has_good):
        return []
    if len(has_good) < len(numbers):
        on_device = has_good.to(queries.device)
        queries, keys = queries[on_device], keys[on_device]
    low_res_masks = predict_masks(model, queries, keys).flatten(0, 1)
    good_masks = is_good[has_good].flatten().nonzero()[:, 0]
    low_res_masks = low_res_masks[good_masks.to(low_res_masks.device)]  # (M, 4h, 4w)

    stable = find_stable_masks(
        low_res_masks,
        grid.rows,
        grid.columns,
        model.mask_threshold,
        checkpoint.stability_score_thresh,
    )
    places = is_good.nonzero().tolist()  # point in the batch and mask, for each of the M
    proposals = []
    for number, mask in stable.items():
        row, column = places[number]
        proposals.append(
            Proposal(
                point=numbers[row],
                mask=column,
                predicted_iou=iou_predictions[row, column].item(),
                stability_score=mask.stability_score,
                box=mask.box,
            )
        )
    return proposals


def _draw_proposals(model: Sam, grid: PointGrid, proposals: list[Proposal]) -> list[Candidate]:
    """Predict and draw masks whose boxes are known.

    The CPU waits for the GPU once.
    """
    points = grid.points[[proposal.point for proposal in proposals]]
    queries, keys, _ = decode_points(model, grid.image, points)
    low_res_masks = predict_masks(model, queries, keys)  # (B, 3, 4h, 4w)
    numbers = [proposal.mask for proposal in proposals]
    packed = draw_masks(
        low_res_masks[range(len(proposals)), numbers],
        [proposal.box for proposal in proposals],
        grid.rows,
        grid.columns,
        model.mask_threshold,
    )
    candidates = []
    for proposal, bits in zip(proposals, packed, strict=True):
        mask = unpack_mask(bits, proposal.box.width)
        inner = bound_mask(mask)
        # Rounding can differ from the first time, and can remove the only pixel of a mask.
        if inner is not None:
            candidates.append(
                Candidate(
                    box=inner.shift(proposal.box.top, proposal.box.left),
                    bits=pack_mask(mask[inner.slices]),
                    area=int(mask.sum()),
                    predicted_iou=proposal.predicted_iou,
                    stability_score=proposal.stability_score,
                )
            )
    return candidates
