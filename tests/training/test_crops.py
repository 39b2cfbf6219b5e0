import numpy as np
import pytest
import torch

from training.crops import Crop, choose_points, cut_crop, describe_pixels
from training.shapes import IGNORED
from training.synthetic import make_image

SIDE = 64


def make_crop(labels: np.ndarray, parts: np.ndarray | None = None) -> Crop:
    rgb = np.zeros((*labels.shape, 3), np.uint8)
    return Crop(rgb, labels, np.zeros(labels.shape, bool) if parts is None else parts)


@pytest.fixture
def touching() -> np.ndarray:
    """Two objects that touch, and a third one apart."""
    labels = np.zeros((SIDE, SIDE), np.int32)
    labels[4:20, 4:20], labels[4:20, 20:36], labels[44:60, 44:60] = 1, 2, 3
    return labels


@pytest.mark.parametrize('zoom', [0.5, 1, 1.7])
def test_a_crop_has_the_wanted_side(zoom):
    drawing = make_image(np.random.default_rng(0))
    crop = cut_crop(drawing, 128, (zoom, zoom), np.random.default_rng(1))
    assert crop.rgb.shape == (128, 128, 3)
    assert crop.labels.shape == crop.parts.shape == (128, 128)
    assert set(np.unique(crop.labels)) <= set(np.unique(drawing.labels))


def test_a_pixel_knows_the_way_to_the_middle_of_its_object(touching):
    pixels = describe_pixels(touching)
    assert pixels.is_object.shape == (SIDE // 2, SIDE // 2)
    # The middle of object 1 is at 12, 12. This pixel of the low resolution is at 7, 11.
    assert pixels.right[5, 3] == pytest.approx(12 - 7)
    assert pixels.down[5, 3] == pytest.approx(12 - 11)
    assert pixels.size[5, 3] == pytest.approx(16)
    assert pixels.edge[5, 9] > 0
    assert pixels.edge[5, 5] == 0


def test_fragments_are_unknown():
    labels = np.full((SIDE, SIDE), IGNORED, np.int32)
    pixels = describe_pixels(labels)
    assert not pixels.is_known.any()
    assert not pixels.is_object.any()


def test_a_point_lies_on_the_masks_it_asks_for(touching):
    points = choose_points(make_crop(touching), 50, np.random.default_rng(1))
    assert 0 < points.on_object.sum() < 50
    for place, masks, on_object in zip(*points, strict=True):
        column, row = (place / 2).int().tolist()
        number = touching[int(place[1]), int(place[0])]
        if not on_object:
            assert number == 0
            assert not masks.any()
            continue
        assert masks[:, row, column].all()
        assert masks[0].sum() == (touching == number).sum() / 4
        clump = [1, 2] if number < 3 else [3]
        assert masks[2].sum() == np.isin(touching, clump).sum() / 4


def test_a_point_on_a_part_asks_for_it_too(touching):
    parts = np.zeros(touching.shape, bool)
    parts[8:16, 8:16] = True
    points = choose_points(make_crop(touching, parts), 80, np.random.default_rng(2))
    on_part = [
        index for index, (x, y) in enumerate(points.places.tolist()) if parts[int(y), int(x)]
    ]
    assert on_part
    for index in on_part:
        assert points.masks[index, 1].sum() == 8 * 8 / 4
        assert points.masks[index, 0].sum() == 16 * 16 / 4


@pytest.mark.parametrize(('value', 'on_object'), [(0, False), (1, True), (IGNORED, False)])
def test_a_crop_of_one_kind_gives_points_of_this_kind(value, on_object):
    labels = np.full((SIDE, SIDE), value, np.int32)
    points = choose_points(make_crop(labels), 8, np.random.default_rng(1))
    assert torch.equal(points.on_object, torch.full((8,), on_object))
