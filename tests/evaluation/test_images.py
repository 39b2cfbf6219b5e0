"""The drawn pictures contain the requested objects."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from evaluation.images import Kind, Scene, draw_image, draw_shape, is_free, push_out

BRIGHT = Kind(radius=(8, 10), stretch=(1, 1.2), brightness=(0.8, 1), grain=0.1)
DIM = Kind(radius=(8, 10), stretch=(1, 1.2), brightness=(0.2, 0.3), grain=0.1)


def distances(labels: np.ndarray) -> list[int]:
    """From each object to the nearest other one, in steps from pixel to pixel; a step of one joins neighbours."""
    return [
        int(
            ndimage.distance_transform_cdt((labels == number) | (labels == 0), 'taxicab')[
                labels == number
            ].min()
        )
        for number in range(1, labels.max() + 1)
    ]


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32), gap=st.integers(0, 4), crowded=st.booleans())
def test_objects_lie_whole_in_the_picture_and_apart(seed, gap, crowded):
    image, labels, kinds = draw_image(Scene(96, (BRIGHT, DIM), (4, 4), gap, crowded), seed)
    assert image.shape == labels.shape == (96, 96) and image.dtype == np.uint16
    areas = np.bincount(labels.ravel())
    assert len(areas) == len(kinds) >= 5 and kinds[0] == -1
    assert (areas[1:] > np.pi * 8**2 * 0.7).all() and (areas[1:] < np.pi * 10**2 * 1.4).all()
    assert all(ndimage.label(labels == number)[1] == 1 for number in range(1, len(areas)))
    assert min(distances(labels)) > gap


def test_the_objects_of_a_kind_are_as_bright_as_it_says():
    image, labels, kinds = draw_image(Scene(256, (BRIGHT, DIM), (8, 8), 4), 5)
    means = ndimage.mean(image.astype(float), labels, np.arange(len(kinds)))
    assert (np.bincount(kinds[1:]) == [8, 8]).all()
    assert means[kinds == 0].min() > 1.5 * means[kinds == 1].max() > 1.5 * 1.5 * means[0]


def test_in_a_crowd_each_object_touches_another():
    crowd, loose = (
        draw_image(Scene(192, (BRIGHT,), (16,), 0, crowded), 6)[1] for crowded in (True, False)
    )
    assert np.mean(np.array(distances(crowd)) <= 2) > 0.9 > np.mean(np.array(distances(loose)) <= 2)


def test_a_seed_gives_its_picture_and_no_other():
    scene = Scene(64, (BRIGHT,), (4,), 2)
    first, again, other = (draw_image(scene, seed)[0] for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).mean() > 0.9


def test_where_there_is_no_room_fewer_objects_are_drawn():
    kinds = draw_image(Scene(64, (BRIGHT,), (50,), 2), 3)[2]
    assert 2 <= len(kinds) - 1 < 15


@pytest.mark.parametrize('ratio', [1, 3])
def test_a_shape_is_as_long_by_as_wide_as_its_kind_says(ratio):
    shape = draw_shape(Kind((20, 20), (ratio, ratio), (1, 1), 0), np.random.default_rng(2))
    spread = np.linalg.eigvalsh(np.cov(np.argwhere(shape).T))
    assert (spread[1] / spread[0]) ** 0.5 == pytest.approx(ratio, rel=0.2)
    assert shape.sum() == pytest.approx(np.pi * 20**2, rel=0.15)


@pytest.mark.parametrize(
    ('place', 'free'),
    [
        ((0, 0), False),
        ((3, 3), False),
        ((1, 1), True),  # the corner of the shape that would lie on the object is not set
        ((4, 4), True),
        ((0, 4), True),
        ((-1, -1), True),
        ((9, 9), True),
        ((-5, 2), True),  # partly or wholly outside
    ],
)
def test_a_place_is_free_unless_a_set_pixel_lies_on_an_object(place, free):
    labels = np.zeros((10, 10), int)
    labels[2:4, 2:4] = 7
    shape = np.ones((3, 3), bool)
    shape[1:, 1:] = False
    if place == (0, 0):
        shape[2, 2] = True
    assert is_free(labels, shape, np.array(place)) == free


def test_pushed_out_of_an_object_a_shape_is_free_and_beside_it():
    labels = np.zeros((40, 40), int)
    labels[10:30, 10:30] = 1
    shape = np.ones((5, 5), bool)
    for seed in range(8):
        corner = push_out(labels, shape, np.array([18, 18]), np.random.default_rng(seed))
        assert is_free(labels, shape, corner)
        assert not is_free(labels, np.ones((9, 9), bool), corner - 2)
