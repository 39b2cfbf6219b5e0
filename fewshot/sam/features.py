"""Features of SAM's image encoder, and one vector for each object."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide

from fewshot.geometry import Box, CutMask
from fewshot.sam.batches import Report, map_ahead, measure_free_memory, run_in_batches
from fewshot.sam.candidates import Candidate
from fewshot.sam.crops import place_crop

# Threads that prepare crops, in 10 to 20 ms per crop: estimated to be enough for a GPU with ViT-H
THREADS = 2
# On a GPU. Even one crop of 1024 x 1024 keeps most of its processors busy.
MAX_CROPS_PER_BATCH = 8
# Share of a GPU's free memory for a batch of crops, and what a block of the encoder needs for each:
# so many float32 arrays of cells x width (9 to 13 were counted)
MEMORY_SHARE = 0.5
ARRAYS_PER_CROP = 16


@torch.inference_mode()
def encode_image_with_sam1(predictor: SamPredictor, image: np.ndarray) -> torch.Tensor:
    """Compute the image embedding.

    The image is resized so that its longer side is that of the model's input, and padded to a
    square at the bottom or on the right.

    Parameters
    ----------
    predictor : SamPredictor
        Keeps the image embedding.
    image : (H, W, 3) uint8 ndarray

    Returns
    -------
    (1, C, h, w) float32 tensor
        1 x 256 x 64 x 64 for ViT-H, on the model's device.
    """
    predictor.set_image(image)
    return predictor.features


def pool_features_with_mask(
    features: torch.Tensor, mask: np.ndarray, feat_h: int, feat_w: int
) -> torch.Tensor:
    """Average the features under a mask, each cell weighted by how much of it the mask covers.

    Parameters
    ----------
    features : (1, C, feat_h, feat_w) float32 tensor
        Of an image, from `encode_image_with_sam1`.
    mask : (H, W) ndarray
        Of the image, not zero on the object. An empty mask averages all features.
    feat_h, feat_w : int

    Returns
    -------
    (C,) float32 tensor
        On the device of the features.

    Examples
    --------
    A mask over one of 2 x 2 cells:

    >>> features = torch.arange(4.0).reshape(1, 1, 2, 2)
    >>> mask = np.array([[False, True], [False, False]])
    >>> pool_features_with_mask(features, mask, 2, 2)
    tensor([1.])
    """
    mask = np.asarray(mask) != 0
    if not mask.any():
        return features[0].mean(dim=(1, 2))
    height, width = mask.shape
    weights = weigh_cells(Box(0, 0, height, width), mask, max(mask.shape), (feat_h, feat_w))
    return _pool(features, torch.as_tensor(weights[None]).to(features))[0]


def describe_objects(
    model: Sam,
    rgb: np.ndarray,
    objects: Sequence[CutMask | Candidate],
    occupancy: float,
    report: Report,
    batch_size: int | None = None,
) -> torch.Tensor:
    """Compute one vector for each object of a frame, from a crop of its own.

    Threads prepare the next crops while the model encodes.

    Parameters
    ----------
    model : Sam
    rgb : (H, W, 3) uint8 ndarray
    objects : sequence of CutMask or Candidate
        Their masks are not empty.
    occupancy : float
        Share of its crop that an object fills, see `crops.place_crop`.
    report : callable
        Called with the share of objects that are done, 0 to 1, after each batch.
    batch_size : int, optional
        Crops to encode at a time; chosen by device and free memory by default.

    Returns
    -------
    (n, C) float32 tensor
        On the model's device.

    Raises
    ------
    JobError
        The GPU has no memory for a single crop.
    """
    batch_size = batch_size or choose_batch_size(model)
    vectors = [torch.empty(0, model.prompt_encoder.embed_dim, device=model.device)]
    done = 0
    with ThreadPoolExecutor(THREADS) as pool:
        crops = map_ahead(
            pool,
            partial(_prepare_crop, model, rgb, occupancy),
            objects,
            ahead=batch_size + THREADS,
        )
        for batch, described in run_in_batches(partial(_describe_crops, model), crops, batch_size):
            vectors.append(described)
            done += len(batch)
            report(done / len(objects))
    return torch.cat(vectors)


def choose_batch_size(model: Sam, free_memory: int | None = None) -> int:
    """Choose how many crops to encode at a time.

    Parameters
    ----------
    model : Sam
    free_memory : int, optional
        Of the GPU, bytes; measured by default.

    Returns
    -------
    int
        1 on a CPU, where larger batches are slower.
    """
    if model.device.type == 'cpu':
        return 1
    if free_memory is None:
        free_memory = measure_free_memory(model.device)
    _, height, width, channels = model.image_encoder.pos_embed.shape
    cells = height * width
    position_bias = cells**2  # of one head
    bytes_per_crop = 4 * (ARRAYS_PER_CROP * cells * channels + position_bias)
    return min(max(1, int(MEMORY_SHARE * free_memory / bytes_per_crop)), MAX_CROPS_PER_BATCH)


class _PreparedCrop(NamedTuple):
    """A crop as the image encoder takes it, before normalisation and padding."""

    pixels: np.ndarray  # (h, w, 3) uint8, the longer side is that of the model's input
    weights: np.ndarray  # (grid, grid) float32, share of each cell that the object covers


def _prepare_crop(
    model: Sam, rgb: np.ndarray, occupancy: float, thing: CutMask | Candidate
) -> _PreparedCrop:
    """Cut out an object and resize the crop to the model's input."""
    mask = thing.mask
    crop = place_crop(thing.box, int(mask.sum()), rgb.shape, occupancy)
    box = thing.box.shift(-crop.top, -crop.left)  # within the crop
    grid = model.prompt_encoder.image_embedding_size
    weights = weigh_cells(box, mask, max(crop.height, crop.width), grid)
    resize = ResizeLongestSide(model.image_encoder.img_size)
    return _PreparedCrop(resize.apply_image(rgb[crop.slices]), weights)


@torch.inference_mode()
def _describe_crops(model: Sam, crops: Sequence[_PreparedCrop]) -> torch.Tensor:
    """Encode crops and pool a vector from each: (n, C)."""
    images = []
    for crop in crops:
        pixels = torch.as_tensor(crop.pixels, device=model.device)
        images.append(model.preprocess(pixels.permute(2, 0, 1)))  # (3, side, side)
    features = model.image_encoder(torch.stack(images))  # (n, C, h, w)
    weights = np.stack([crop.weights for crop in crops])  # (n, h, w)
    return _pool(features, torch.as_tensor(weights, device=model.device))


def pool_objects(
    features: torch.Tensor, shape: Sequence[int], objects: Sequence[CutMask | Candidate]
) -> torch.Tensor:
    """Compute one vector for each object of a frame, from the features of the whole frame.

    Parameters
    ----------
    features : (1, C, h, w) float32 tensor
        Of the frame.
    shape : sequence of int
        Of the frame, (H, W, ...).
    objects : sequence of CutMask or Candidate
        Their masks are not empty.

    Returns
    -------
    (n, C) float32 tensor
        On the device of the features.
    """
    side = max(shape[:2])  # of the frame with its padding
    grid = features.shape[2], features.shape[3]
    flat_features = features[0].flatten(1).T.contiguous()  # (h * w, C)
    vectors = features.new_empty(len(objects), features.shape[1])
    # One by one, so that the other objects have no influence on how a sum is rounded
    for row, thing in enumerate(objects):
        weights = weigh_cells(thing.box, thing.mask, side, grid).ravel()
        cells = np.flatnonzero(weights)
        covered = torch.as_tensor(weights[cells]).to(features)
        sums = covered @ flat_features[torch.as_tensor(cells).to(features.device)]  # (C,)
        vectors[row] = sums / covered.sum()
    return vectors


def weigh_cells(box: Box, mask: np.ndarray, side: int, grid: tuple[int, int]) -> np.ndarray:
    """Compute the share of each cell that an object covers.

    The weights are those of an area interpolation of the whole square. Each row and column of cells
    averages the pixels that it touches. So they are sums along the rows and a product with a small
    matrix along the columns, of the pixels in the box only.

    Parameters
    ----------
    box : Box
        Of the object, within a square of `side` pixels.
    mask : (box height, box width) bool ndarray
    side : int
        Pixels.
    grid : tuple of int
        Rows and columns of cells.

    Returns
    -------
    (rows, columns) float32 ndarray
        0 to 1.

    Examples
    --------
    An object of 2 x 3 pixels at the top left of 4 x 4 pixels and 2 x 2 cells:

    >>> weigh_cells(Box(0, 0, 2, 3), np.ones((2, 3), bool), 4, (2, 2))
    array([[1. , 0.5],
           [0. , 0. ]], dtype=float32)
    """
    rows, columns = grid
    # Row by row, because a copy of a huge mask as float would be four times as large
    first, end = _bound_cells(side, rows)
    by_row = np.zeros((rows, box.width), np.float32)
    for row in np.flatnonzero((first < box.bottom) & (end > box.top)):
        pixels = mask[max(first[row] - box.top, 0) : end[row] - box.top]
        by_row[row] = pixels.sum(axis=0) / (end[row] - first[row])

    first, end = _bound_cells(side, columns)
    column = np.arange(box.left, box.right)[:, None]
    in_cell = (first <= column) & (column < end)  # (box width, columns)
    return by_row @ (in_cell / (end - first)).astype(np.float32)


def _bound_cells(side: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the first pixel that each cell touches, and the one after the last: (cells,) each."""
    ends = np.arange(cells + 1) * side
    return ends[:-1] // cells, -(-ends[1:] // cells)


def _pool(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Average features by weights: (B, C, h, w) and (B, h, w) -> (B, C)."""
    sums = (features * weights[:, None]).sum(dim=(2, 3))  # (B, C)
    return sums / weights.sum(dim=(1, 2))[:, None]
