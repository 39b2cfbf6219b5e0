import numpy as np
import pytest

from training.synthetic import SIDE, make_image


@pytest.fixture(scope='module')
def images():
    rng = np.random.default_rng(5)
    return [make_image(rng) for _ in range(12)]


def test_an_image_has_the_shape_and_type_that_sam_takes(images):
    for rgb, labels in images:
        assert rgb.shape == (SIDE, SIDE, 3) and rgb.dtype == np.uint8
        assert labels.shape == (SIDE, SIDE) and labels.dtype == np.int32


def test_every_image_holds_objects_and_background(images):
    for _, labels in images:
        assert (labels == 0).any() and len(np.unique(labels)) > 3


def test_objects_can_be_told_from_their_background(images):
    differences = [
        abs(float(rgb[labels > 0].mean()) - float(rgb[labels == 0].mean()))
        for rgb, labels in images
    ]
    assert np.median(differences) > 15


def test_the_same_seed_draws_the_same_image():
    first, second, other = (make_image(np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert (first[1] != other[1]).any()
