import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from fewshot.sam.candidates import has_allowed_area, pack_mask, unpack_mask
from tests.fewshot.sam.drawing import make_candidate


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
    candidate = make_candidate(np.arange(16).reshape(4, 4) < 12)
    assert candidate.area == 12
    assert has_allowed_area(candidate, min_area, max_area) is allowed


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)))
def test_packing_keeps_every_pixel(mask):
    bits = pack_mask(mask)
    assert bits.nbytes == mask.shape[0] * -(-mask.shape[1] // 8)
    np.testing.assert_array_equal(unpack_mask(bits, mask.shape[1]), mask)
