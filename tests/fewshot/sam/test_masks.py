import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from segment_anything.utils.amg import batched_mask_to_box, calculate_stability_score
from segment_anything.utils.transforms import ResizeLongestSide

from fewshot.geometry import Box, bound_mask
from fewshot.sam import masks
from fewshot.sam.masks import draw_masks, find_boxes, pack_mask, plan_axis, sketch_masks, unpack_mask
from tests.small_model import small_predictor

SIDE = 256  # of the small model's input
CPU = torch.device('cpu')


def draw_logits(count: int, seed: int) -> torch.Tensor:
    """Logits as a decoder draws them: blobs of any size and height on a low ground, (count, 64, 64)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:64, :64]
    logits = np.empty((count, 64, 64), np.float32)
    for number in range(count):
        row, column, radius, height = rng.uniform(-5, 69), rng.uniform(-5, 69), rng.uniform(0.5, 40), rng.uniform(0, 12)
        distance = np.hypot(rows - row, columns - column) / radius
        logits[number] = height - 8 * distance ** rng.uniform(0.5, 3) + rng.normal(0, 0.3, (64, 64))
    return torch.from_numpy(logits.clip(-30, 30))


def cut(logits: torch.Tensor, shape: tuple[int, int], thresh: float) -> dict[int, tuple[Box, np.ndarray, float]]:
    used = ResizeLongestSide.get_preprocess_shape(*shape, SIDE)
    rows, columns = (plan_axis(64, SIDE, filled, pixels, CPU) for filled, pixels in zip(used, shape, strict=True))
    sketches = dict(sketch_masks(logits, rows, columns, 0.0, thresh))
    drawn = draw_masks(logits[[*sketches]], [*sketches.values()], rows, columns, 0.0) if sketches else []
    return {number: (sketch.box, unpack_mask(bits, sketch.box.right - sketch.box.left), sketch.stability_score)
            for (number, sketch), bits in zip(sketches.items(), drawn, strict=True)}


frame_shapes = st.tuples(st.integers(1, 300), st.integers(1, 300))


@settings(max_examples=40)
@given(frame_shapes, st.integers(0, 2 ** 32), st.sampled_from([0.0, 0.5, 0.9]))
def test_the_masks_are_those_of_full_enlargement_wherever_they_lie(shape, seed, thresh):
    logits = draw_logits(6, seed)
    used = ResizeLongestSide.get_preprocess_shape(*shape, SIDE)
    full = small_predictor().model.postprocess_masks(logits[:, None], used, shape)[:, 0]
    stability = calculate_stability_score(full, 0.0, 1.0)
    found = cut(logits, shape, thresh)
    for number in range(6):
        mask = (full[number] > 0).numpy()
        doubtful = (full[number].abs() < 1e-3).numpy()  # rounding may put these on either side
        if number not in found:
            assert stability[number].isnan() or stability[number] < thresh + 0.02 or not (mask & ~doubtful).any()
            continue
        box, inside, score = found[number]
        drawn = np.zeros(shape, bool)
        drawn[box.slices] = inside
        assert bound_mask(drawn) == box
        np.testing.assert_array_equal(drawn | doubtful, mask | doubtful)
        assert score == pytest.approx(stability[number].item(), abs=0.01 + 2 / mask.sum()) and score >= thresh


def test_a_large_mask_is_the_same_when_it_is_enlarged_in_slabs(monkeypatch):
    logits = draw_logits(8, seed=4)
    whole = cut(logits, (190, 250), 0.0)
    monkeypatch.setitem(masks.SLAB_PIXELS, 'cpu', 1000)
    in_slabs = cut(logits, (190, 250), 0.0)
    assert whole.keys() == in_slabs.keys() and len(whole) > 3
    for number, (box, mask, score) in whole.items():
        assert in_slabs[number][0] == box and in_slabs[number][2] == score
        np.testing.assert_array_equal(in_slabs[number][1], mask)


def test_logits_that_lie_in_the_padding_alone_give_no_mask():
    logits = torch.full((1, 64, 64), -9.0)
    logits[0, 60:, 60:] = 9
    assert not cut(logits, (40, 200), 0.0)


def test_no_logits_give_no_masks():
    assert not cut(torch.empty(0, 64, 64), (50, 50), 0.0)
    assert not cut(torch.full((3, 64, 64), -9.0), (50, 50), 0.0)


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)))
def test_packing_keeps_every_pixel(mask):
    bits = pack_mask(mask)
    assert bits.nbytes == mask.shape[0] * -(-mask.shape[1] // 8)
    np.testing.assert_array_equal(unpack_mask(bits, mask.shape[1]), mask)
    np.testing.assert_array_equal(masks._pack_on_device(torch.from_numpy(mask)).numpy(), bits)


@given(arrays(bool, st.tuples(st.integers(0, 4), st.integers(1, 12), st.integers(1, 12))))
def test_boxes_are_the_smallest_around_each_mask(stack):
    boxes = dict(find_boxes(torch.from_numpy(stack)))
    assert boxes == {number: bound_mask(mask) for number, mask in enumerate(stack) if mask.any()}
    for number, box in boxes.items():
        left, top, right, bottom = batched_mask_to_box(torch.from_numpy(stack[number])[None])[0].tolist()
        assert box == Box(top, left, bottom + 1, right + 1)
