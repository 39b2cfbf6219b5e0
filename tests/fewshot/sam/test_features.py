from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from segment_anything import SamPredictor

from fewshot.geometry import Box, CutMask, bound_mask
from fewshot.sam.attention import narrow_blocks
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.crops import extract_crop_with_context
from fewshot.sam.features import (
    choose_batch_size,
    describe_objects,
    encode_image_with_sam1,
    pool_features_with_mask,
    pool_objects,
    weigh_cells,
)
from fewshot.sam.model import load_model
from tests.small_model import CHECKPOINT, GRID, small_predictor
from tests.worker import REPOSITORY

DATA = REPOSITORY / 'tests' / 'data'


def ignore(share: float) -> None:
    """Ignore a progress report."""


def read_nuclei(height: int, width: int, most: int = 99) -> tuple[np.ndarray, list[CutMask]]:
    """Read the upper left of the test image, (height, width, 3) uint8, and its first nuclei."""
    image = tifffile.imread(DATA / 'nuclei.tif')[:height, :width]
    labels = tifffile.imread(DATA / 'nuclei_labels.tif')[:height, :width]
    objects = []
    for number in np.unique(labels[labels > 0])[:most]:
        box = bound_mask(labels == number)
        assert box is not None
        objects.append(CutMask(box, labels[box.slices] == number))
    gray = (image / image.max() * 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2), objects


def place(thing: CutMask, shape: tuple[int, ...]) -> np.ndarray:
    """Draw an object's mask into a frame: (H, W) bool."""
    mask = np.zeros(shape[:2], bool)
    mask[thing.box.slices] = thing.mask
    return mask


def describe_one_by_one(rgb: np.ndarray, objects: list[CutMask], occupancy: float) -> torch.Tensor:
    """Do what `describe_objects` does in the plain way."""
    vectors = []
    for thing in objects:
        crop_image, crop_mask = extract_crop_with_context(rgb, place(thing, rgb.shape), occupancy)
        features = encode_image_with_sam1(small_predictor(), crop_image)
        vectors.append(pool_features_with_mask(features, crop_mask, *features.shape[-2:]))
    return torch.stack(vectors)


@pytest.mark.parametrize('shape', [(128, 128), (300, 200), (90, 256)])
def test_encoding_is_that_of_sam_predictor(shape):
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    stock = SamPredictor(small_predictor().model)
    stock.set_image(image)
    features = encode_image_with_sam1(small_predictor(), image)
    assert features.shape == (1, VIT_MINI.channels, GRID, GRID)
    torch.testing.assert_close(features, stock.features, rtol=0, atol=0)


def test_pooling_weighs_each_cell_by_its_covered_share():
    features = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    mask = np.zeros((8, 8), bool)
    mask[0:2, 0:2] = True  # all of cell (0, 0)
    mask[2:3, 0:2] = True  # half of cell (1, 0)
    expected = (features[0, :, 0, 0] + 0.5 * features[0, :, 1, 0]) / 1.5
    torch.testing.assert_close(pool_features_with_mask(features, mask, 4, 4), expected)


@pytest.mark.parametrize(('shape', 'cells'), [((4, 8), (2, 4)), ((8, 4), (4, 2)), ((8, 8), (4, 4))])
def test_pooling_ignores_the_padding(shape, cells):
    features = torch.full((1, 1, 4, 4), 100.0)
    features[..., : cells[0], : cells[1]] = 1  # the image
    pooled = pool_features_with_mask(features, np.ones(shape, bool), 4, 4)
    assert pooled.item() == pytest.approx(1)


def test_empty_mask_averages_all_features():
    features = torch.rand(1, 5, 4, 4)
    pooled = pool_features_with_mask(features, np.zeros((9, 9), bool), 4, 4)
    torch.testing.assert_close(pooled, features[0].mean(dim=(1, 2)))


def test_smallest_object_is_pooled_where_it_lies():
    features = torch.zeros(1, 1, 4, 4)
    features[..., 3, 2] = 7
    mask = np.zeros((400, 400), bool)
    mask[399, 250] = True
    assert pool_features_with_mask(features, mask, 4, 4).item() == pytest.approx(7)


def test_similar_objects_have_similar_vectors():
    rows, columns = np.mgrid[:160, :160]
    disc = np.hypot(rows - 80, columns - 80) < 14
    noise = np.random.default_rng(1).integers(0, 20, (160, 160, 3))
    vectors = []
    for inside, outside in ((200, 20), (180, 25), (20, 200)):
        image = (np.where(disc, inside, outside)[..., None] + noise).astype(np.uint8)
        features = encode_image_with_sam1(small_predictor(), image)
        vectors.append(pool_features_with_mask(features, disc, GRID, GRID))
    bright, fainter, dark = vectors
    alike = torch.cosine_similarity(bright, fainter, dim=0)
    assert alike > 0.95
    assert alike > torch.cosine_similarity(bright, dark, dim=0) + 0.005


@st.composite
def objects_in_squares(draw):
    """Draw the arguments of `weigh_cells`."""
    side = draw(st.integers(1, 90))
    top, left = draw(st.integers(0, side - 1)), draw(st.integers(0, side - 1))
    box = Box(top, left, draw(st.integers(top + 1, side)), draw(st.integers(left + 1, side)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    mask = rng.random((box.height, box.width)) < draw(st.floats(0.1, 1))
    return box, mask, side, (draw(st.integers(1, 20)), draw(st.integers(1, 20)))


@given(objects_in_squares())
def test_weights_are_those_of_area_interpolation(arguments):
    box, mask, side, grid = arguments
    square = torch.as_tensor(place(CutMask(box, mask), (side, side)), dtype=torch.float32)
    expected = F.interpolate(square[None, None], size=grid, mode='area')[0, 0].numpy()
    weights = weigh_cells(box, mask, side, grid)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, atol=1e-6)


@pytest.mark.parametrize(
    ('shape', 'occupancy'),
    [
        pytest.param((128, 128), 0.2, id='square crops'),
        pytest.param((128, 60), 0.05, id='frame narrower than most crops'),
        pytest.param((60, 128), 0.05, id='frame lower than most crops'),
    ],
)
def test_batches_do_not_change_the_vectors(shape, occupancy):
    rgb, objects = read_nuclei(*shape, most=3)
    model = small_predictor().model
    expected = describe_one_by_one(rgb, objects, occupancy)
    for batch_size in (1, 2):
        vectors = describe_objects(model, rgb, objects, occupancy, ignore, batch_size)
        assert vectors.shape == (3, VIT_MINI.channels)
        assert vectors.dtype == torch.float32
        torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-4)


def test_progress_is_reported_after_each_batch():
    rgb, objects = read_nuclei(128, 128, most=3)
    shares: list[float] = []
    describe_objects(small_predictor().model, rgb, objects, 0.2, shares.append, batch_size=2)
    assert shares == [2 / 3, 1]


def test_no_objects_have_no_vectors():
    rgb, model = np.zeros((64, 64, 3), np.uint8), small_predictor().model
    shares: list[float] = []
    vectors = describe_objects(model, rgb, [], 0.2, shares.append)
    assert vectors.shape == (0, VIT_MINI.channels)
    assert pool_objects(torch.zeros(1, 128, 16, 16), rgb.shape, []).shape == (0, 128)
    assert shares == []


@pytest.mark.parametrize(
    ('free_memory', 'size'),
    [
        pytest.param(1e8, 1, id='hardly anything'),
        pytest.param(4e9, 4, id='half of it, 0.40 GB per crop'),
        pytest.param(70e9, 8, id='not more than useful'),
    ],
)
def test_batch_on_a_gpu_fits_its_free_memory(free_memory, size):
    vit_h: Any = SimpleNamespace(
        device=torch.device('cuda'),
        image_encoder=SimpleNamespace(pos_embed=torch.empty(1, 64, 64, 1280)),
    )
    assert choose_batch_size(vit_h, int(free_memory)) == size


def test_batch_on_a_cpu_is_one_crop():
    assert choose_batch_size(small_predictor().model) == 1


@pytest.mark.parametrize('shape', [(128, 128), (128, 60), (50, 128)])
def test_objects_are_pooled_from_the_frame_as_by_their_full_masks(shape):
    rgb, objects = read_nuclei(*shape)
    features = encode_image_with_sam1(small_predictor(), rgb)
    expected = [
        pool_features_with_mask(features, place(thing, shape), GRID, GRID) for thing in objects
    ]
    assert len(expected) > 3
    vectors = pool_objects(features, rgb.shape, objects)
    torch.testing.assert_close(vectors, torch.stack(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize('whole_frame', [False, True])
def test_vector_of_an_object_is_the_same_whatever_else_is_described(whole_frame):
    rgb, objects = read_nuclei(128, 128, most=4)
    model = small_predictor().model
    features = encode_image_with_sam1(small_predictor(), rgb)

    def describe(some: list) -> torch.Tensor:
        if whole_frame:
            return pool_objects(features, rgb.shape, some)
        return describe_objects(model, rgb, some, 0.2, ignore)

    together = describe(objects)
    assert torch.equal(describe(objects[::-2]), together[range(len(objects))[::-2]])
    assert torch.equal(describe(objects[:1]), together[:1])


def test_bfloat16_gives_nearly_the_same_float32_vectors():
    rgb, objects = read_nuclei(128, 128, most=4)
    wide, narrow = small_predictor().model, load_model(VIT_MINI, str(CHECKPOINT))
    narrow_blocks(narrow.image_encoder)
    expected = describe_objects(wide, rgb, objects, 0.2, ignore)
    vectors = describe_objects(narrow, rgb, objects, 0.2, ignore)
    assert vectors.dtype == torch.float32
    assert not torch.equal(vectors, expected)
    assert torch.cosine_similarity(vectors, expected).min() > 0.99

    features = encode_image_with_sam1(SamPredictor(narrow), rgb)
    assert features.dtype == torch.float32
    wide_features = encode_image_with_sam1(small_predictor(), rgb)
    pooled = pool_objects(features, rgb.shape, objects)
    expected = pool_objects(wide_features, rgb.shape, objects)
    assert torch.cosine_similarity(pooled, expected).min() > 0.99
