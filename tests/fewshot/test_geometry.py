import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewshot.geometry import Box, bound_mask, has_allowed_area

masks = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@given(masks)
def test_bounding_box_is_the_smallest_around_a_mask(mask):
    box = bound_mask(mask)
    if box is None:
        assert not mask.any()
        return
    inside = mask[box.slices]
    assert inside.sum() == mask.sum()
    edges = inside[0], inside[-1], inside[:, 0], inside[:, -1]
    assert [edge.any() for edge in edges] == [True] * 4


@given(st.integers(-9, 9), st.integers(-9, 9))
def test_shift_keeps_the_size(down, right):
    box = Box(1, 2, 5, 4)
    shifted = box.shift(down, right)
    assert (shifted.height, shifted.width) == (box.height, box.width) == (4, 2)
    assert shifted.shift(-down, -right) == box


@pytest.mark.parametrize('shape', [(0, 5), (5, 0), (4, 4)])
def test_empty_mask_has_no_box(shape):
    assert bound_mask(np.zeros(shape, bool)) is None


@pytest.mark.parametrize(
    ('min_area', 'max_area', 'allowed'),
    [
        (0, 0, True),
        (12, 0, True),
        (13, 0, False),
        (0, 12, True),
        (0, 11, False),
        (12, 12, True),
    ],
)
def test_area_limits_are_included(min_area, max_area, allowed):
    assert has_allowed_area(12, min_area, max_area) is allowed
