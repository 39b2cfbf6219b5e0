import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.geometry import Box, bound_mask
from fewshot.sam.crops import extract_crop, extract_crop_with_context, place_crop


@st.composite
def boxes_in_images(draw):
    height, width = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    box = Box(top, left, draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width)))
    area = draw(st.integers(1, (box.bottom - box.top) * (box.right - box.left)))
    return (height, width), box, area


@given(boxes_in_images(), st.floats(0.05, 0.8))
def test_a_crop_holds_its_object_and_is_square_unless_the_image_is_smaller(placed, occupancy):
    shape, box, area = placed
    crop = place_crop(box, area, shape, occupancy)
    assert 0 <= crop.top <= box.top and box.bottom <= crop.bottom <= shape[0]
    assert 0 <= crop.left <= box.left and box.right <= crop.right <= shape[1]
    side = max(round((area / occupancy) ** 0.5), box.bottom - box.top, box.right - box.left)
    assert (crop.bottom - crop.top, crop.right - crop.left) == (min(side, shape[0]), min(side, shape[1]))


@given(boxes_in_images(), st.floats(0.05, 0.8))
def test_a_crop_has_its_object_in_the_middle_unless_the_border_is_near(placed, occupancy):
    shape, box, area = placed
    crop = place_crop(box, area, shape, occupancy)
    if crop.top > 0 and crop.bottom < shape[0]:
        assert abs((crop.top + crop.bottom) - (box.top + box.bottom)) <= 1
    if crop.left > 0 and crop.right < shape[1]:
        assert abs((crop.left + crop.right) - (box.left + box.right)) <= 1


def test_the_object_fills_the_wanted_share_of_its_crop():
    mask = np.zeros((400, 400), bool)
    mask[180:220, 190:210] = True
    for occupancy in (0.05, 0.2, 0.5):
        _, crop_mask = extract_crop_with_context(np.zeros((400, 400, 3)), mask, occupancy)
        assert crop_mask.mean() == pytest.approx(occupancy, rel=0.05)


def test_at_the_corner_the_crop_is_shifted_and_keeps_its_size():
    image = np.arange(100 * 100).reshape(100, 100)
    mask = np.zeros((100, 100), bool)
    mask[0:10, 90:100] = True
    crop_image, crop_mask = extract_crop_with_context(image, mask, 0.25)
    assert crop_image.shape == (20, 20)
    np.testing.assert_array_equal(crop_image, image[:20, 80:])
    np.testing.assert_array_equal(crop_mask, mask[:20, 80:])


def test_a_long_thin_object_is_not_cut():
    mask = np.zeros((100, 100), bool)
    mask[50, 5:95] = True
    crop_image, crop_mask = extract_crop_with_context(np.zeros((100, 100, 3)), mask, 0.8)
    assert crop_mask.sum() == 90 and crop_image.shape[:2] == (90, 90)


def test_a_mask_cut_to_its_box_gives_the_same_crop_as_a_full_one():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (70, 90, 3), np.uint8)
    mask = np.zeros((70, 90), bool)
    mask[20:41, 60:85] = rng.random((21, 25)) > 0.5
    box = bound_mask(mask)
    for full, cut in zip(extract_crop_with_context(image, mask), extract_crop(image, box, mask[box.slices], 0.2),
                         strict=True):
        np.testing.assert_array_equal(full, cut)


def test_a_mask_of_numbers_counts_where_it_is_not_zero():
    mask = np.zeros((50, 50), np.uint8)
    mask[10:20, 10:20] = 255
    _, crop_mask = extract_crop_with_context(np.zeros((50, 50, 3)), mask)
    assert crop_mask.dtype == bool and crop_mask.sum() == 100


def test_an_empty_mask_gives_the_whole_image():
    image = np.ones((30, 40, 3))
    crop_image, crop_mask = extract_crop_with_context(image, np.zeros((30, 40), bool))
    assert crop_image.shape == image.shape and not crop_mask.any()
    assert bound_mask(crop_mask) is None
