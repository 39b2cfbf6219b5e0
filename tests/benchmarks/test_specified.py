"""The method as specified: by hand on small pictures, and against the worker's own steps."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from segment_anything import automatic_mask_generator

from benchmarks.specified import (
    crop_with_context,
    cut_mask,
    draw_mask,
    load_frame,
    load_model,
    outline_mask,
    patch_nms,
    pool,
    propose,
    read_layers,
)
from fewshot.geometry import Location, Tile
from fewshot.images.frames import FrameLoader
from fewshot.images.layers import choose_layers
from fewshot.polygons import annotation_to_mask, trace_mask
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.crops import extract_crop_with_context
from fewshot.sam.features import pool_features_with_mask
from fewshot.server import Server
from tests.datasets import make_layer, write_dataset
from tests.small_model import CENTRES, CHECKPOINT, draw_discs


@pytest.fixture
def names_are_put_back(monkeypatch):
    """Restore the functions that `patch_nms` replaces."""
    for module in (torchvision.ops.boxes, automatic_mask_generator):
        monkeypatch.setattr(module, 'batched_nms', module.batched_nms)


def test_the_patch_replaces_both_references_and_suppresses_as_before(names_are_put_back):
    boxes = torch.rand(3000, 4, generator=torch.Generator().manual_seed(0)) * 50
    boxes[:, 2:] += boxes[:, :2] + 1
    scores, one_category = torch.rand(3000), torch.zeros(3000)
    expected = torchvision.ops.nms(boxes, scores, 0.7)
    patch_nms()
    for module in (torchvision.ops.boxes, automatic_mask_generator):
        assert module.batched_nms is torchvision.ops.boxes._batched_nms_coordinate_trick
        assert torch.equal(module.batched_nms(boxes, scores, one_category, 0.7), expected)


@pytest.mark.parametrize(
    'module', ['torchvision.ops.boxes', 'segment_anything.automatic_mask_generator']
)
def test_the_patch_fails_loudly_where_a_name_is_gone(monkeypatch, names_are_put_back, module):
    monkeypatch.delattr(f'{module}.batched_nms')
    with pytest.raises(AttributeError, match='batched_nms'):
        patch_nms()


def test_the_patch_fails_loudly_where_the_trick_is_gone(monkeypatch, names_are_put_back):
    monkeypatch.delattr('torchvision.ops.boxes._batched_nms_coordinate_trick')
    with pytest.raises(AttributeError, match='_batched_nms_coordinate_trick'):
        patch_nms()


def test_every_disc_is_proposed_within_the_area_limits():
    image, labels = draw_discs(CENTRES, radius=14)
    rgb = np.repeat((image / image.max() * 255).astype(np.uint8)[..., None], 3, axis=2)
    model = load_model(VIT_MINI, str(CHECKPOINT)).model
    records = propose(model, rgb, VIT_MINI, 16, min_area=300, max_area=900)
    masks = [record['segmentation'] for record in records]
    assert all(mask.shape == labels.shape and 300 <= mask.sum() <= 900 for mask in masks)
    for number in (1, 2, 3):
        disc = labels == number
        assert max((mask & disc).sum() / (mask | disc).sum() for mask in masks) > 0.7


# Frames


@pytest.fixture(scope='module')
def open_dataset(start_module_server, tmp_path_factory):
    """Return a function that opens a dataset of two positions and three channels, by its name."""
    folder = tmp_path_factory.mktemp('specified')
    image = np.random.default_rng(1).integers(0, 5000, (2, 1, 1, 3, 20, 30)).astype(np.uint16)
    image[0, 0, 0, :2, 0, :3] = [(100, 1100, 2100), (0, 3000, 0)]
    absolute = {'mode': 'absolute', 'black': 100, 'white': 2100}
    write_dataset(
        folder,
        'by hand',
        image,
        [
            make_layer(0, '#FF0000', **absolute),
            make_layer(1, '#8000FF', **absolute),
            make_layer(2, visible=False),
        ],
    )
    write_dataset(
        folder,
        'percentiles',
        image,
        [
            make_layer(0, '#00FF40', black=1, white=99),
            make_layer(2, '#FFFFFF', black=20, white=60),
            make_layer(1, '#123456', id='blue'),
        ],
        {'blue': {'mode': 'absolute', 'blackPoint': 900, 'whitePoint': 1000}},
    )
    server = start_module_server(folder)
    return lambda name: Server(server.apiUrl, server.token, server.datasets[name])


def test_channels_are_merged_by_maximum(open_dataset):
    dataset = open_dataset('by hand').open_image()
    rgb = load_frame(dataset, read_layers(dataset), (0, 0, 0))
    assert rgb.shape == (20, 30, 3)
    assert rgb[0, :3].tolist() == [[0, 0, 0], [128, 0, 255], [255, 0, 0]]


@pytest.mark.parametrize('name', ['by hand', 'percentiles'])
@pytest.mark.parametrize('xy', [0, 1])
def test_frame_is_that_of_the_worker(open_dataset, name, xy):
    server = open_dataset(name)
    dataset = server.open_image()
    layers, problem = choose_layers(server, 3)
    with ThreadPoolExecutor(1) as background:
        loader = FrameLoader(dataset, server.dataset_id, layers, background)
        expected = loader.load(Tile(Location(xy, 0, 0)))
    rgb = load_frame(dataset, read_layers(dataset), (xy, 0, 0))
    assert problem is None
    assert np.ptp(rgb) == 255
    np.testing.assert_allclose(rgb, expected, atol=1)  # the worker rounds float32


# Masks


def to_coordinates(points):
    return [{'x': x, 'y': y} for x, y in points]


def test_box_along_pixel_edges_covers_its_pixels():
    mask = draw_mask(to_coordinates([(2, 1), (5, 1), (5, 3), (2, 3)]), (6, 8))
    assert np.argwhere(mask).tolist() == [[row, column] for row in (1, 2) for column in (2, 3, 4)]


@given(st.lists(st.tuples(st.floats(-5, 25), st.floats(-5, 25)), min_size=3, max_size=9))
def test_mask_is_that_of_the_worker(points):
    expected = annotation_to_mask({'coordinates': to_coordinates(points)}, (15, 20))
    np.testing.assert_array_equal(draw_mask(to_coordinates(points), (15, 20)), expected)


# Crops


def test_crop_at_the_corner_is_moved():
    rgb = np.arange(40 * 60 * 3).reshape(40, 60, 3)
    mask = np.zeros((40, 60), bool)
    mask[0:4, 50:60] = True
    crop, crop_mask = crop_with_context(rgb, mask, 0.2)  # 40 pixels of 14 × 14
    np.testing.assert_array_equal(crop, rgb[:14, 46:])
    np.testing.assert_array_equal(crop_mask, mask[:14, 46:])


masks = arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))).filter(np.any)


@given(masks, st.floats(0.05, 0.8))
def test_crop_is_that_of_the_worker(mask, occupancy):
    numbers = np.arange(mask.size).reshape(mask.shape)
    for ours, theirs in zip(
        crop_with_context(numbers, mask, occupancy),
        extract_crop_with_context(numbers, mask, occupancy),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize('shape', [(40, 40), (23, 40), (57, 31), (200, 133)])
def test_pooling_is_that_of_the_worker(shape):
    rng = np.random.default_rng(0)
    features = torch.tensor(rng.normal(size=(1, 5, 16, 16)), dtype=torch.float32)
    mask = rng.random(shape) < 0.3
    expected = pool_features_with_mask(features, mask, 16, 16)
    torch.testing.assert_close(pool(features, mask), expected)


def test_pooling_one_cell_gives_its_features():
    features = torch.arange(2 * 16, dtype=torch.float32).reshape(1, 2, 4, 4)
    mask = np.zeros((40, 40), bool)
    mask[10:20, 30:40] = True
    assert pool(features, mask).tolist() == [7, 23]


# Outlines


def test_outline_of_one_pixel_lies_around_its_centre():
    mask = np.zeros((4, 9), bool)
    mask[2, 6] = True
    assert sorted(outline_mask(mask, 0).tolist()) == [[6, 2.5], [6.5, 2], [6.5, 3], [7, 2.5]]


@given(masks, st.floats(0, 3))
def test_outline_is_that_of_the_worker(mask, smoothing):
    # of several parts the worker takes the one with most pixels, the other the largest outline
    part = ndimage.label(mask)[0] == 1
    expected = trace_mask(*cut_mask(part), smoothing)
    np.testing.assert_array_equal(outline_mask(part, smoothing), expected)


def test_a_mask_is_cut_to_the_smallest_box_around_it():
    mask = np.zeros((20, 30), bool)
    mask[4:7, 9], mask[5, 9:12] = True, True
    cut = cut_mask(mask)
    assert cut.box == (4, 9, 7, 12)
    assert cut.mask.tolist() == [[1, 0, 0], [1, 1, 1], [1, 0, 0]]
