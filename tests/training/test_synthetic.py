import numpy as np
import pytest

from training.synthetic import LOOKS, SIDE, make_image


@pytest.fixture(scope='module')
def drawings():
    """Two drawings of each look."""
    rng = np.random.default_rng(5)
    return [make_image(rng, look) for look in LOOKS for _ in range(2)]


def test_a_drawing_has_the_shape_and_type_that_sam_takes(drawings):
    for rgb, labels, parts in drawings:
        assert rgb.shape == (SIDE, SIDE, 3)
        assert rgb.dtype == np.uint8
        assert labels.shape == parts.shape == (SIDE, SIDE)


def test_every_drawing_holds_objects(drawings):
    for drawing in drawings:
        assert (drawing.labels > 0).any()


@pytest.mark.parametrize('look', LOOKS)
def test_objects_can_be_told_from_their_background(look):
    rng = np.random.default_rng(3)
    differences = []
    for _ in range(4):
        rgb, labels, _ = make_image(rng, look)
        background = rgb[labels == 0].astype(float)
        if len(background):
            spread = np.abs(rgb - background.mean(axis=0)).sum(axis=2)
            differences.append(spread[labels > 0].mean() - spread[labels == 0].mean())
    assert max(differences) > 10


def test_the_same_seed_draws_the_same_picture():
    first, second, other = (make_image(np.random.default_rng(seed)) for seed in (1, 1, 2))
    for one, same in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, same)
    assert (first.rgb != other.rgb).any()
