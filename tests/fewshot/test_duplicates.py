import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewshot.candidates import Candidate
from fewshot.crops import Box, bound_mask
from fewshot.duplicates import Found, are_doubles, count_shared, find_doubles, find_known, place_in_frame
from fewshot.masks import pack_mask


def make_candidate(mask: np.ndarray) -> Candidate:
    """A candidate of a full-size mask."""
    box = bound_mask(mask)
    assert box is not None
    return Candidate(box, pack_mask(mask[box.slices]), int(mask.sum()), 0.9, 0.9)


def square(top: int, left: int, height: int = 10, width: int = 10) -> Candidate:
    mask = np.zeros((60, 60), bool)
    mask[top:top + height, left:left + width] = True
    return make_candidate(mask)


def outline(left: float, top: float, width: float = 10, height: float = 10) -> np.ndarray:
    return np.array([(left, top), (left + width, top), (left + width, top + height), (left, top + height)])


@pytest.mark.parametrize(('one', 'other', 'doubles'), [
    (square(0, 0), square(0, 0), True),
    (square(0, 0), square(0, 3), True),  # IoU 70 / 130
    (square(0, 0), square(0, 4), False),  # IoU 60 / 140
    (square(0, 0, 10, 12), square(0, 4, 10, 12), True),  # IoU 80 / 160, and 80 of 120 pixels inside
    (square(0, 0, 20, 20), square(5, 5, 4, 4), True),  # a part
    (square(0, 0, 20, 20), square(12, 0, 10, 10), True),  # 80 of 100 pixels inside
    (square(0, 0, 20, 20), square(13, 0, 10, 10), False),  # 70 inside
    (square(0, 0), square(0, 10), False),  # neighbours
    (square(0, 0), square(40, 40), False),
])
def test_masks_are_doubles_by_their_iou_or_when_one_is_a_part_of_the_other(one, other, doubles):
    assert are_doubles(one, other) is are_doubles(other, one) is doubles


frames = arrays(bool, (9, 11)).filter(lambda mask: mask.any())


@given(frames, frames)
def test_shared_pixels_are_counted_from_masks_in_their_boxes(first, second):
    assert count_shared(make_candidate(first), make_candidate(second)) == (first & second).sum()


def doubles(candidates, similarities, tiles=None, **options) -> list[bool]:
    found = [Found(*row) for row in zip(candidates, similarities, tiles or [0] * len(candidates), strict=True)]
    marks = find_doubles(found, **options)
    assert marks.dtype == bool
    return marks.tolist()


def is_known(found, known) -> list[bool]:
    marks = find_known(found, known)
    assert marks.dtype == bool
    return marks.tolist()


def test_of_doubles_the_most_similar_stays_and_what_is_no_double_of_it_too():
    row = [square(0, 0), square(0, 3), square(0, 6), square(40, 40)]  # each a double of the next, but not of the third
    assert doubles(row, [0.9, 0.8, 0.7, 0.1]) == [False, True, False, False]
    assert doubles(row, [0.7, 0.8, 0.9, 0.1]) == [False, True, False, False]
    assert doubles(row, [0.8, 0.9, 0.8, 0.1]) == [True, False, True, False]
    assert doubles(row[:2], [0.5, 0.5]) == [False, True]  # the first of equals
    assert doubles([], []) == []


def test_first_of_equals_stays():
    places = [square(top, left) for top in range(0, 40, 10) for left in range(0, 50, 10)]
    similarities = [0.5 + 0.01 * number for number in range(20)]
    assert doubles(places * 2, similarities * 2) == [False] * 20 + [True] * 20


def test_where_duplicates_are_kept_those_of_different_tiles_still_are_one_object():
    row = [square(0, 0), square(0, 1), square(0, 2)]
    assert doubles(row, [0.9, 0.8, 0.7], [0, 0, 1]) == [False, True, True]
    assert doubles(row, [0.9, 0.8, 0.7], [0, 0, 1], across_tiles_only=True) == [False, False, True]
    assert doubles(row, [0.9, 0.8, 0.7], [3, 3, 3], across_tiles_only=True) == [False] * 3


def test_what_a_tile_has_found_is_placed_in_the_frame_and_what_its_inner_border_cuts_is_left_to_the_neighbour():
    found = [Found(square(5, 5), 0.9), Found(square(50, 5), 0.8), Found(square(5, 0), 0.7)]  # tiles of 60 × 60
    placed = place_in_frame(found, 2, Box(40, 0, 100, 60), (300, 300))
    assert [(one.candidate.box, one.similarity, one.tile) for one in placed] == [
        (Box(45, 5, 55, 15), 0.9, 2), (Box(45, 0, 55, 10), 0.7, 2)]  # the frame's own border cuts nothing


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 20), st.integers(1, 20),
                          st.floats(-1, 1)), max_size=12))
def test_what_stays_has_no_doubles_and_what_goes_has_a_better_one(rows):
    found = [square(*row[:4]) for row in rows]
    similarities = [row[4] for row in rows]
    double = doubles(found, similarities)
    stay = [number for number in range(len(found)) if not double[number]]
    assert not any(are_doubles(found[a], found[b]) for a in stay for b in stay if a < b)
    for number in np.flatnonzero(double):
        assert any(are_doubles(found[number], found[other]) and similarities[other] >= similarities[number]
                   for other in stay)


def test_an_outline_is_known_when_the_server_has_it_at_an_iou_of_a_half():
    known = [outline(0, 0), outline(100, 100)]
    found = [outline(0, 3), outline(0, 4), outline(100, 100), outline(50, 50)]
    assert is_known(found, known) == [True, False, True, False]
    assert is_known([], known) == [] and is_known(found, []) == [False] * 4


def test_known_triangle_counts():
    triangle = outline(0, 0)[:3]
    assert is_known([triangle, outline(0, 0)], [triangle]) == [True, True]  # half of the square


def test_outline_drawn_twice_around_covers_what_it_surrounds():
    twice = [(0, 0), (10, 0), (10, 10), (0, 10), (0, 1), (9, 1), (9, 9), (1, 9), (1, 0)]
    assert is_known([outline(0, 0)], [np.array(twice, float)]) == [True]


def test_what_users_draw_is_no_trouble():
    bow_tie = np.array([(0, 0), (10, 10), (10, 0), (0, 10)], float)
    odd = [np.array([(1.0, 1.0)]), np.array([(1.0, 1), (2, 2), (3, 3)]), np.full((4, 2), np.nan), np.zeros((5, 2)),
           np.empty((0, 2)), np.full((4, 2), 1e9), bow_tie]
    assert is_known([outline(0, 0)], odd) == [True]  # the two halves of the tie cover half of the square
    assert is_known([outline(0, 0)], odd[:-1]) == [False]
