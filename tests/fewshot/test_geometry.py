import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewshot.geometry import Box, bound_mask

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
