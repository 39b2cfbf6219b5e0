import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.geometry import Box
from fewshot.sam.crops import extract_crop_with_context, place_crop

occupancies = st.floats(0.05, 0.8)


@st.composite
def objects_in_images(draw):
    """Draw the shape of an image, the box of an object in it, and the object's area."""
    height, width = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    box = Box(top, left, draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width)))
    return (height, width), box, draw(st.integers(1, box.height * box.width))


@given(objects_in_images(), occupancies)
def test_crop_is_a_square_around_the_object(placed, occupancy):
    (height, width), box, area = placed
    crop = place_crop(box, area, (height, width), occupancy)
    assert 0 <= crop.top <= box.top < box.bottom <= crop.bottom <= height
    assert 0 <= crop.left <= box.left < box.right <= crop.right <= width
    side = max(round((area / occupancy) ** 0.5), box.height, box.width)
    assert (crop.height, crop.width) == (min(side, height), min(side, width))


@given(objects_in_images(), occupancies)
def test_object_is_in_the_middle_unless_the_border_is_near(placed, occupancy):
    (height, width), box, area = placed
    crop = place_crop(box, area, (height, width), occupancy)
    if crop.top > 0 and crop.bottom < height:
        assert abs((crop.top + crop.bottom) - (box.top + box.bottom)) <= 1
    if crop.left > 0 and crop.right < width:
        assert abs((crop.left + crop.right) - (box.left + box.right)) <= 1


@pytest.mark.parametrize('occupancy', [0.05, 0.2, 0.5])
def test_object_fills_the_given_share(occupancy):
    mask = np.zeros((400, 400), bool)
    mask[180:220, 190:210] = True
    _, crop_mask = extract_crop_with_context(np.zeros((400, 400, 3)), mask, occupancy)
    assert crop_mask.mean() == pytest.approx(occupancy, rel=0.05)


def test_crop_at_a_corner_keeps_its_size():
    image = np.arange(100 * 100).reshape(100, 100)
    mask = np.zeros((100, 100), bool)
    mask[:10, 90:] = True
    crop_image, crop_mask = extract_crop_with_context(image, mask, 0.25)
    np.testing.assert_array_equal(crop_image, image[:20, 80:])
    np.testing.assert_array_equal(crop_mask, mask[:20, 80:])


def test_long_object_is_not_cut():
    mask = np.zeros((100, 100), bool)
    mask[50, 5:95] = True
    crop_image, crop_mask = extract_crop_with_context(np.zeros((100, 100, 3)), mask, 0.8)
    assert crop_mask.sum() == 90
    assert crop_image.shape == (90, 90, 3)


def test_mask_may_be_numbers():
    mask = np.zeros((50, 50), np.uint8)
    mask[10:20, 10:20] = 255
    _, crop_mask = extract_crop_with_context(np.zeros((50, 50, 3)), mask)
    assert crop_mask.dtype == bool
    assert crop_mask.sum() == 100


def test_empty_mask_gives_the_whole_image():
    image = np.ones((30, 40, 3))
    crop_image, crop_mask = extract_crop_with_context(image, np.zeros((30, 40), bool))
    assert crop_image.shape == image.shape
    assert not crop_mask.any()
