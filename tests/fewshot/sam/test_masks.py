from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from segment_anything.utils.amg import batched_mask_to_box, calculate_stability_score
from segment_anything.utils.transforms import ResizeLongestSide

from fewshot.geometry import Box, bound_mask
from fewshot.sam.candidates import unpack_mask
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.masks import (
    SLAB_PIXELS,
    draw_masks,
    find_boxes,
    find_stable_masks,
    plan_axis,
)
from tests.small_model import small_predictor

SIDE = VIT_MINI.input_size  # pixels
LARGE = (700, 500)  # shape of a frame that is enlarged in several slabs


class Drawn(NamedTuple):
    """A stable mask with its pixels."""

    box: Box
    mask: np.ndarray  # (box height, box width) bool
    stability_score: float


def draw_logits(count: int, seed: int) -> torch.Tensor:
    """Draw blobs of any size and height as a decoder does: (count, 64, 64) float32."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:64, :64]
    logits = np.empty((count, 64, 64), np.float32)
    for number in range(count):
        row, column = rng.uniform(-5, 69, 2)
        radius, height, power = rng.uniform(0.5, 40), rng.uniform(0, 12), rng.uniform(0.5, 3)
        distance = np.hypot(rows - row, columns - column) / radius
        logits[number] = height - 8 * distance**power + rng.normal(0, 0.3, (64, 64))
    return torch.from_numpy(logits.clip(-30, 30))


def draw(logits: torch.Tensor, shape: tuple[int, int], thresh: float) -> dict[int, Drawn]:
    """Find the stable masks in a frame and draw them, by number."""
    used_height, used_width = ResizeLongestSide.get_preprocess_shape(*shape, SIDE)
    device = torch.device('cpu')
    rows = plan_axis(64, SIDE, used_height, shape[0], device)
    columns = plan_axis(64, SIDE, used_width, shape[1], device)
    stable = find_stable_masks(logits, rows, columns, 0.0, thresh)
    if not stable:
        return {}
    boxes = [mask.box for mask in stable.values()]
    packed = draw_masks(logits[[*stable]], boxes, rows, columns, 0.0)
    return {
        number: Drawn(mask.box, unpack_mask(bits, mask.box.width), mask.stability_score)
        for (number, mask), bits in zip(stable.items(), packed, strict=True)
    }


@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    seed=st.integers(0, 2**32),
    thresh=st.sampled_from([0.0, 0.5, 0.9]),
)
@example(shape=LARGE, seed=4, thresh=0.0)
def test_masks_equal_those_of_full_enlargement(shape, seed, thresh):
    logits = draw_logits(6, seed)
    used = ResizeLongestSide.get_preprocess_shape(*shape, SIDE)
    enlarged = small_predictor().model.postprocess_masks(logits[:, None], used, shape)[:, 0]
    stability = calculate_stability_score(enlarged, 0.0, 1.0)
    found = draw(logits, shape, thresh)
    for number in range(6):
        expected = (enlarged[number] > 0).numpy()
        doubtful = (enlarged[number].abs() < 1e-3).numpy()  # rounding can decide these
        if number not in found:
            is_unstable = stability[number].isnan() or stability[number] < thresh + 0.02
            assert is_unstable or not (expected & ~doubtful).any()
            continue
        box, inside, score = found[number]
        mask = np.zeros(shape, bool)
        mask[box.slices] = inside
        assert bound_mask(mask) == box
        np.testing.assert_array_equal(mask | doubtful, expected | doubtful)
        assert score >= thresh
        tolerance = 0.01 + 2 / expected.sum()
        assert score == pytest.approx(stability[number].item(), abs=tolerance)


def test_large_masks_take_several_slabs():
    found = draw(draw_logits(6, seed=4), LARGE, 0.0)
    assert max(one.box.height * one.box.width for one in found.values()) > 2 * SLAB_PIXELS['cpu']


def test_mask_in_the_padding_is_ignored():
    logits = torch.full((1, 64, 64), -9.0)
    logits[0, 60:, 60:] = 9
    assert not draw(logits, (40, 200), 0.0)


@pytest.mark.parametrize('count', [0, 3])
def test_empty_masks_are_ignored(count):
    assert not draw(torch.full((count, 64, 64), -9.0), (50, 50), 0.0)


@given(arrays(bool, st.tuples(st.integers(0, 4), st.integers(1, 12), st.integers(1, 12))))
def test_boxes_are_those_of_segment_anything(stack):
    boxes = find_boxes(torch.from_numpy(stack))
    assert list(boxes) == [number for number, mask in enumerate(stack) if mask.any()]
    for number, box in boxes.items():
        corners = batched_mask_to_box(torch.from_numpy(stack[number])[None])[0]
        left, top, right, bottom = corners.tolist()
        assert box == Box(top, left, bottom + 1, right + 1) == bound_mask(stack[number])
