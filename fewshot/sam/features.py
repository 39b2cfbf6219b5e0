"""SAM's image encoder: a crop or a frame becomes features, and the features under a mask one vector."""
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from fewshot.geometry import Box
from fewshot.parameters import explain
from fewshot.sam.crops import place_crop

THREADS = 2  # that prepare crops, in 10 to 20 ms each: by reckoning enough to keep one GPU busy with ViT-H
MOST_CROPS = 8  # encoded at a time on a GPU; even one of 1024 pixels keeps most of its processors busy
MEMORY_SHARE = 0.5  # of a GPU's free memory that a batch may take by this reckoning:
ARRAYS_A_CROP = 16  # of cells × width float32 in a block; 9 to 13 were counted
OBJECTS_AT_A_TIME = 1024  # pooled from a frame: 16 MB of weights for ViT-H


class CutObject(Protocol):
    """An object of a frame: `crops.CutMask` or `candidates.Candidate`."""

    @property
    def box(self) -> Box:
        """Where it lies in its frame."""

    @property
    def mask(self) -> np.ndarray:
        """(box height, box width) bool, not empty."""


class PreparedCrop(NamedTuple):
    """A crop as the encoder takes it, before normalisation and padding."""

    pixels: np.ndarray  # (h, w, 3) uint8, the longer of both the side of the model's input
    weights: np.ndarray  # (grid, grid) float32, how much of each feature cell the object covers


@torch.inference_mode()
def encode_image_with_sam1(predictor: SamPredictor, image: np.ndarray) -> torch.Tensor:
    """Features of an (H, W, 3) uint8 image: (1, C, h, w) float32, 1×256×64×64 for ViT-H.

    The image is enlarged or shrunk to the model's input side and padded to a square at the bottom and the right.
    """
    predictor.set_image(image)
    return predictor.features


def pool_features_with_mask(features: torch.Tensor, mask: np.ndarray, feat_h: int, feat_w: int) -> torch.Tensor:
    """The features under a mask as one vector: their mean, each cell weighted by how much of it the mask covers.

    Parameters
    ----------
    features : (1, C, feat_h, feat_w)
    mask : (H, W) of the encoded image, not zero on the object; an empty mask averages over everything

    Returns
    -------
    (C,) on the features' device
    """
    mask = np.asarray(mask) != 0
    if not mask.any():
        return features[0].mean(dim=(1, 2))
    weights = weigh_cells(Box(0, 0, *mask.shape), mask, max(mask.shape), (feat_h, feat_w))
    return _pool(features, torch.as_tensor(weights[None]).to(features))[0]


def describe_objects(predictor: SamPredictor, rgb: np.ndarray, objects: Sequence[CutObject], occupancy: float,
                     report: Callable[[int], None]) -> torch.Tensor:
    """One vector for each object of a frame, each encoded in a crop of its own.

    Threads prepare the next crops while the model encodes: one crop at a time on a CPU, on a GPU as many as fit, and
    fewer, with a RuntimeWarning, where they do not. The predictor's own image stays set.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    occupancy : the share of its crop that an object fills, see `crops.place_crop`
    report : called with the number of objects done, after each batch

    Returns
    -------
    (n, C) float32 on the model's device

    Raises
    ------
    torch.OutOfMemoryError
        when the GPU has no room for a single crop, with a note for the user
    """
    model = predictor.model
    prepare = partial(_prepare_crop, predictor, rgb, occupancy)
    vectors = [torch.empty(0, model.prompt_encoder.embed_dim, device=model.device)]
    size, done = choose_batch_size(model), 0
    batch: list[PreparedCrop] = []
    with ThreadPoolExecutor(THREADS) as pool:
        crops = _look_ahead(pool, prepare, objects, size + THREADS)
        while batch := batch + list(islice(crops, max(0, size - len(batch)))):  # what an overflow left comes first
            try:
                vectors.append(_describe_crops(model, batch[:size]))
            except torch.OutOfMemoryError as error:
                size = min(size, len(batch)) // 2
                if not size:
                    explain(error, "The GPU's memory does not hold one crop. End what else runs on it, or use another.")
                    raise
                warnings.warn(f'The GPU has no memory for so many crops at a time: trying {size}', RuntimeWarning,
                              stacklevel=2)
                continue
            done += len(batch[:size])
            batch = batch[size:]
            report(done)
    return torch.cat(vectors)


def choose_batch_size(model: Sam) -> int:
    """Crops to encode at a time: one on a CPU, where more are slower, and up to `MOST_CROPS` on a GPU."""
    if model.device.type == 'cpu':
        return 1
    _, height, width, channels = model.image_encoder.pos_embed.shape
    cells = height * width
    crop_bytes = 4 * (ARRAYS_A_CROP * cells * channels + cells ** 2)  # the last for one head's position bias
    free = torch.cuda.mem_get_info(model.device)[0]
    unused = torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    return min(max(1, int(MEMORY_SHARE * (free + unused) / crop_bytes)), MOST_CROPS)


def _look_ahead(pool: ThreadPoolExecutor, prepare: Callable[[CutObject], PreparedCrop], objects: Sequence[CutObject],
                ahead: int) -> Iterator[PreparedCrop]:
    """The objects' crops in their order, while the pool prepares at most the next `ahead` of them."""
    pending: deque[Future[PreparedCrop]] = deque()
    for thing in objects:
        pending.append(pool.submit(prepare, thing))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _prepare_crop(predictor: SamPredictor, rgb: np.ndarray, occupancy: float, thing: CutObject) -> PreparedCrop:
    mask = thing.mask
    crop = place_crop(thing.box, int(mask.sum()), rgb.shape, occupancy)
    pixels = rgb[crop.slices]
    weights = weigh_cells(thing.box.shift(-crop.top, -crop.left), mask, max(pixels.shape[:2]),
                          predictor.model.prompt_encoder.image_embedding_size)
    return PreparedCrop(predictor.transform.apply_image(pixels), weights)


@torch.inference_mode()
def _describe_crops(model: Sam, crops: Sequence[PreparedCrop]) -> torch.Tensor:
    """Vectors (n, C) of prepared crops."""
    images = torch.stack([
        model.preprocess(torch.as_tensor(crop.pixels, device=model.device).permute(2, 0, 1)) for crop in crops])
    weights = torch.as_tensor(np.stack([crop.weights for crop in crops]), device=model.device)
    return _pool(model.image_encoder(images), weights)


def pool_objects(features: torch.Tensor, shape: Sequence[int], objects: Sequence[CutObject]) -> torch.Tensor:
    """One vector for each object of a frame, all pooled from the features of the whole frame.

    Parameters
    ----------
    features : (1, C, h, w) of the frame
    shape : of the frame, (H, W, ...)

    Returns
    -------
    (n, C) on the features' device
    """
    side, grid = max(shape[:2]), (features.shape[2], features.shape[3])
    vectors = [features.new_empty(0, features.shape[1])]
    for start in range(0, len(objects), OBJECTS_AT_A_TIME):
        part = objects[start:start + OBJECTS_AT_A_TIME]
        weights = torch.as_tensor(np.stack([weigh_cells(thing.box, thing.mask, side, grid) for thing in part]))
        weights = weights.to(features).flatten(1)  # (n, h·w)
        vectors.append(weights @ features[0].flatten(1).T / weights.sum(dim=1, keepdim=True))
    return torch.cat(vectors)


def weigh_cells(box: Box, mask: np.ndarray, side: int, grid: tuple[int, int]) -> np.ndarray:
    """The share of each cell that an object covers, as area interpolation of the whole square would give it.

    Each row and column of cells averages the pixels that it touches, so the weights are one sum along the rows and a
    product with a small matrix along the columns, over the pixels of the box alone.

    Parameters
    ----------
    box : of the object, in a square of `side` pixels
    mask : (box height, box width) bool
    grid : rows and columns of cells

    Returns
    -------
    (rows, columns) float32, 0 to 1
    """
    first, last = _bound_cells(side, grid[0])
    by_row = np.zeros((grid[0], mask.shape[1]), np.float32)
    for row in np.flatnonzero((first < box.bottom) & (last > box.top)):  # no float copy of a mask that may be huge
        pixels = mask[max(first[row] - box.top, 0):last[row] - box.top]
        by_row[row] = pixels.sum(axis=0) / (last[row] - first[row])
    first, last = _bound_cells(side, grid[1])
    column = np.arange(box.left, box.right)[:, None]
    by_column = ((first <= column) & (column < last)) / (last - first)  # (box width, columns)
    return by_row @ by_column.astype(np.float32)


def _bound_cells(side: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel that each cell touches, and the one after its last: (cells,) each."""
    ends = np.arange(cells + 1) * side
    return ends[:-1] // cells, -(-ends[1:] // cells)


def _pool(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean of the features (B, C, h, w) by the weights (B, h, w), not all 0 for any of B: (B, C)."""
    return (features * weights[:, None]).sum(dim=(2, 3)) / weights.sum(dim=(1, 2))[:, None]
