"""Matching of found outlines to labelled nuclei."""

import numpy as np
import pytest

from demo.dataset import outline
from demo.scoring import IOU, STRICT_IOU, match_iou, rasterise, score

SHAPE = 40, 40


def square(top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def number(*masks: np.ndarray) -> np.ndarray:
    """Return the labels of an image, (H, W)."""
    labels = np.zeros(SHAPE, np.uint16)
    for value, mask in enumerate(masks, start=1):
        labels[mask] = value
    return labels


NUCLEUS, OTHER = square(5, 5, 10), square(20, 20, 10)


@pytest.mark.parametrize(
    ('found', 'least', 'counts'),
    [
        ([NUCLEUS, OTHER], IOU, (2, 0, 0)),
        ([NUCLEUS], IOU, (1, 0, 1)),
        ([], IOU, (0, 0, 2)),
        ([NUCLEUS, NUCLEUS, OTHER], IOU, (2, 1, 0)),  # the second outline of one nucleus is wrong
        ([NUCLEUS, square(20, 24, 10)], IOU, (1, 1, 1)),  # IoU 0.43
        ([NUCLEUS, square(20, 23, 10)], IOU, (2, 0, 0)),  # IoU 0.54
        ([NUCLEUS, square(20, 23, 10)], STRICT_IOU, (1, 1, 1)),
        ([NUCLEUS, square(20, 21, 10)], STRICT_IOU, (2, 0, 0)),  # IoU 0.82
        ([NUCLEUS, OTHER, square(0, 30, 8)], IOU, (2, 1, 0)),  # on the background
    ],
)
def test_each_nucleus_is_found_once_or_missed(found, least, counts):
    outlines = [outline(mask) for mask in found]
    result = score(outlines, number(NUCLEUS, OTHER), smallest=30, least=least)
    assert (len(result.right), len(result.wrong), len(result.missed)) == counts


def test_as_many_pairs_as_possible_are_made():
    # the first row fits the first column best, and the second row fits no other one
    assert match_iou(np.array([[0.9, 0.6], [0.7, 0.1]])) == [(0, 1), (1, 0)]


def test_a_small_fragment_at_the_border_is_neither_required_nor_punished():
    fragment = square(0, 30, 4)
    labels = number(NUCLEUS, fragment)
    for found in ([NUCLEUS], [NUCLEUS, fragment], [NUCLEUS, square(0, 30, 5)]):
        result = score([outline(mask) for mask in found], labels, smallest=30)
        assert (len(result.right), len(result.wrong), len(result.missed)) == (1, 0, 0)


def test_a_small_nucleus_inside_an_image_is_required():
    assert score([], number(square(10, 10, 4)), smallest=30).missed == [1]


def test_a_large_part_of_a_nucleus_at_the_border_is_required():
    assert score([], number(square(0, 10, 8)), smallest=30).missed == [1]


def test_a_nucleus_that_was_shown_has_no_label_and_is_not_required():
    labels = number(NUCLEUS, OTHER)
    labels[NUCLEUS] = 0
    assert score([], labels, smallest=30).missed == [2]


def test_outcomes_are_numbers_of_outlines_and_labels():
    found = [outline(mask) for mask in (square(0, 30, 8), NUCLEUS)]
    result = score(found, number(NUCLEUS, OTHER), smallest=30)
    assert (result.right, result.wrong, result.missed) == ([1], [0], [2])


def test_precision_recall_and_f1_come_from_all_images():
    labels = number(NUCLEUS, OTHER)
    first = score([outline(NUCLEUS), outline(OTHER)], labels, smallest=30)
    second = score([outline(NUCLEUS), outline(square(0, 30, 8))], labels, smallest=30)
    result = first + second
    assert result.precision == result.recall == result.f1 == 0.75


def test_nothing_found_scores_zero():
    result = score([], number(NUCLEUS), smallest=30)
    assert result.precision == result.recall == result.f1 == 0


def test_an_outline_between_the_centres_of_pixels_holds_them():
    outline_of_four = np.array([[2, 3], [4, 3], [4, 5], [2, 5]], float)  # x 2-4, y 3-5
    assert np.argwhere(rasterise(outline_of_four, (8, 8))).tolist() == [
        [3, 2],
        [3, 3],
        [4, 2],
        [4, 3],
    ]
