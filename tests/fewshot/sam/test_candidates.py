import numpy as np
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from fewshot.sam.candidates import pack_mask, unpack_mask


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)))
def test_packing_keeps_every_pixel(mask):
    bits = pack_mask(mask)
    assert bits.nbytes == mask.shape[0] * -(-mask.shape[1] // 8)
    np.testing.assert_array_equal(unpack_mask(bits, mask.shape[1]), mask)
