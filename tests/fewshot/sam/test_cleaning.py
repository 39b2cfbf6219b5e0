import numpy as np
import pytest
import torch
import torchvision
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from segment_anything.utils.amg import remove_small_regions

from fewshot.geometry import Box, bound_mask
from fewshot.sam.cleaning import (
    clean_mask,
    fill_small_holes,
    remove_small_islands,
    select_cleaned,
    suppress_duplicates,
)
from tests.fewshot.sam.drawing import make_candidate, place

MASKS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)), fill=st.nothing())


@pytest.mark.parametrize(
    ('iou_thresh', 'kept'),
    [
        pytest.param(0.7, [1, 2], id='one suppressed'),
        pytest.param(0.9, [1, 2, 0], id='none suppressed'),
    ],
)
def test_better_one_of_two_duplicates_is_kept(iou_thresh, kept):
    boxes = [Box(0, 0, 10, 10), Box(1, 0, 11, 10), Box(30, 30, 40, 40)]
    assert suppress_duplicates(boxes, [0.6, 0.9, 0.7], iou_thresh) == kept


def test_no_boxes_have_no_duplicates():
    assert suppress_duplicates([], [], 0.7) == []


# Two islands of two pixels, whose order depends on where OpenCV's blocks of 2 x 2 pixels begin
TWO_ISLANDS = np.array([[1, 0, 0, 0, 0, 1], [0, 0, 1, 1, 0, 1]], bool)


@settings(max_examples=400)
@example(mask=TWO_ISLANDS.copy(), top=4, bottom=0, left=0, right=0, min_area=5)
@example(mask=TWO_ISLANDS.T.copy(), top=0, bottom=0, left=4, right=0, min_area=5)
@given(
    mask=MASKS,
    top=st.integers(0, 9),
    bottom=st.integers(0, 9),
    left=st.integers(0, 9),
    right=st.integers(0, 9),
    min_area=st.integers(1, 60),
)
def test_masks_are_cleaned_as_in_the_whole_frame(mask, top, bottom, left, right, min_area):
    mask[0, 0] = True  # a candidate is not empty
    frame = np.pad(mask, ((top, bottom), (left, right)))
    filled, has_holes = remove_small_regions(frame, min_area, 'holes')
    expected, has_islands = remove_small_regions(filled, min_area, 'islands')
    candidate = make_candidate(mask, top, left)
    cleaned = clean_mask(candidate, frame.shape, min_area)
    assert (cleaned is candidate) == (not has_holes and not has_islands)
    np.testing.assert_array_equal(place(cleaned, frame.shape), expected)
    assert cleaned.box == bound_mask(expected)
    assert cleaned.area == expected.sum()


@given(mask=MASKS, min_area=st.integers(1, 60))
def test_regions_are_those_of_segment_anything(mask, min_area):
    for clean, mode in ((fill_small_holes, 'holes'), (remove_small_islands, 'islands')):
        cleaned, has_changed = clean(mask, min_area)
        expected, should_change = remove_small_regions(mask, min_area, mode)
        np.testing.assert_array_equal(cleaned, expected)
        assert has_changed == should_change


def test_large_noise_is_cleaned_as_by_segment_anything():
    mask = np.random.default_rng(0).random((300, 200)) < 0.5
    for min_area in (2, 20, 10**6):
        cleaned, _ = remove_small_islands(mask, min_area)
        expected, _ = remove_small_regions(mask, min_area, 'islands')
        np.testing.assert_array_equal(cleaned, expected)


def test_nothing_is_cleaned_without_a_limit():
    candidate = make_candidate(np.eye(4, dtype=bool))
    assert clean_mask(candidate, (9, 9), 0) is candidate


def test_candidate_that_did_not_change_is_selected():
    whole, holed = np.ones((9, 9), bool), np.ones((9, 9), bool)
    holed[4, 4] = False
    proposed = [make_candidate(holed), make_candidate(whole), make_candidate(whole, 20, 20)]
    cleaned = [clean_mask(one, (40, 40), 5) for one in proposed]
    assert select_cleaned(proposed, cleaned, 0.7) == [1, 2]


BOXES = st.builds(
    lambda top, left, height, width: Box(top, left, top + height, left + width),
    *(st.integers(0, 12),) * 2,
    *(st.integers(1, 12),) * 2,
)


@settings(max_examples=400)
@given(
    scored=st.lists(st.tuples(BOXES, st.sampled_from([0.0, 0.5, 0.9, 1.0])), max_size=25),
    iou_thresh=st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]),
)
def test_selected_boxes_are_those_of_torchvision(scored, iou_thresh):
    boxes, scores = [box for box, _ in scored], [score for _, score in scored]
    assert suppress_duplicates(boxes, scores, iou_thresh) == select_by_torchvision(
        boxes, scores, iou_thresh
    )


def test_many_boxes_are_selected_as_by_torchvision():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 2000, (3000, 2))
    sides = rng.integers(1, 300, (3000, 2))
    boxes = [Box(*one) for one in np.hstack([corners, corners + sides]).tolist()]
    scores = rng.random(3000).tolist()
    expected = select_by_torchvision(boxes, scores, 0.3)
    assert suppress_duplicates(boxes, scores, 0.3) == expected
    assert 0 < len(expected) < 3000


def select_by_torchvision(boxes: list[Box], scores: list[float], iou_thresh: float) -> list[int]:
    """Select boxes as the mask generator of segment_anything does."""
    corners = [(box.left, box.top, box.right - 1, box.bottom - 1) for box in boxes]
    kept = torchvision.ops.nms(
        torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        iou_thresh,
    )
    return kept.tolist()
