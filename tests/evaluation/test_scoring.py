"""One to one, and nothing twice: the measures on cases made by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.dataset import Example, outline
from demo.scoring import find_fragments, measure_iou
from demo.scoring import score as score_whole
from evaluation.groups import Group
from evaluation.scoring import count_duplicates, outline_wrong_kind, score_group

SIDE = 60


def square(top: int, left: int, side: int) -> np.ndarray:
    """Return the outline of a square, as x and y."""
    return np.array(
        [(left, top), (left + side, top), (left + side, top + side), (left, top + side)], float
    )


def make_labels(*squares: tuple[int, int, int]) -> np.ndarray:
    """Return a picture of squares (top, left, side), numbered in their order."""
    labels = np.zeros((SIDE, SIDE), np.int32)
    for number, (top, left, side) in enumerate(squares, start=1):
        labels[top : top + side, left : left + side] = number
    return labels


FIRST, SECOND, OTHER = (5, 5, 10), (20, 20, 10), (40, 40, 10)
LABELS = make_labels(FIRST, SECOND, OTHER)
WANTED = np.array([False, True, True, False])
GROUP = Group('squares', LABELS[None], LABELS[None], (WANTED,), 0)


def outcome(found: list[np.ndarray], shown: list[Example] | None = None) -> tuple[int, ...]:
    """Right, wrong, missed, right at the strict IoU, duplicates."""
    result = score_group(GROUP, [found], shown or [], smallest=30)
    assert result.objects == len(result.score.right) + len(result.score.missed)
    assert len(result.strict.right) + len(result.strict.wrong) == len(result.score.right) + len(
        result.score.wrong
    )
    return (
        len(result.score.right),
        len(result.score.wrong),
        len(result.score.missed),
        len(result.strict.right),
        result.duplicates,
    )


@pytest.mark.parametrize(
    ('found', 'counts'),
    [
        ([], (0, 0, 2, 0, 0)),
        ([square(*FIRST), square(*SECOND)], (2, 0, 0, 2, 0)),
        ([square(*SECOND)], (1, 0, 1, 1, 0)),
        ([square(*FIRST), square(20, 23, 10)], (2, 0, 0, 1, 0)),  # IoU 0.54
        ([square(*FIRST), square(20, 24, 10)], (1, 1, 1, 1, 0)),  # IoU 0.43
        ([square(*FIRST), square(*OTHER)], (1, 1, 1, 1, 0)),  # of the other kind
        ([square(*FIRST), square(0, 50, 8)], (1, 1, 1, 1, 0)),  # on the background
        (
            [square(*FIRST), square(*FIRST)],
            (1, 1, 1, 1, 1),
        ),  # the second outline of an object is wrong, and a double
        (
            [square(5, 3, 10), square(5, 7, 10)],
            (1, 1, 1, 0, 1),
        ),  # IoU 0.67 with the object each, 0.43 with each other
        (
            [square(0, 48, 10), square(0, 49, 10), square(0, 50, 10)],
            (0, 3, 2, 0, 2),
        ),  # on no object, but doubles
        (
            [square(*OTHER), square(40, 41, 10)],
            (0, 2, 2, 0, 1),
        ),  # doubles on an object that is not wanted
        (
            [square(5, 5, 5), square(10, 5, 5), square(5, 10, 5)],
            (0, 3, 2, 0, 0),
        ),  # parts are no doubles
    ],
)
def test_objects_and_outlines_are_matched_one_to_one_and_doubles_counted(found, counts):
    assert outcome(found) == counts


def test_the_numbers_at_iou_075_are_those_of_the_tighter_match():
    loose, tight = square(5, 8, 10), square(5, 6, 10)  # IoU 0.54 and 0.82
    assert outcome([loose, tight, square(*SECOND)]) == (2, 1, 0, 2, 1)


@pytest.mark.parametrize('place', [FIRST, OTHER])
def test_what_was_shown_to_the_worker_counts_neither_way(place):
    shown = [Example(100, square(*place))]
    wanted = 2 - (place == FIRST)
    assert outcome([], shown) == (0, 0, wanted, 0, 0)
    assert outcome([square(*place)], shown) == (0, 0, wanted, 0, 0)
    assert outcome([square(*place), square(*place), square(*SECOND)], shown) == (
        1,
        0,
        wanted - 1,
        1,
        1,
    )


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(-4, 4), st.integers(-4, 4), st.integers(4, 12)),
        max_size=8,
    )
)
def test_where_all_is_wanted_and_nothing_shown_the_score_is_the_demos(found):
    corners = [(0, 48), FIRST[:2], SECOND[:2], OTHER[:2]]
    outlines = [
        square(max(0, corners[at][0] + down), max(0, corners[at][1] + right), side)
        for at, down, right, side in found
    ]
    labels = make_labels(FIRST, SECOND, OTHER, (0, 55, 5))  # the last one a fragment
    group = Group('squares', labels[None], labels[None], (np.arange(5) > 0,), 0)
    ours, demos = (
        score_group(group, [outlines], [], smallest=30).score,
        score_whole(outlines, labels, 30),
    )
    assert (len(ours.right), len(ours.wrong), len(ours.missed)) == (
        len(demos.right),
        len(demos.wrong),
        len(demos.missed),
    )


def test_iou_is_that_of_pixels_and_shares_add_up_to_one():
    iou, shares = measure_iou([square(5, 10, 10)], LABELS)
    assert iou == pytest.approx(np.array([[0, 50 / 150, 0, 0]]))
    assert shares == pytest.approx(np.array([[0.5, 0.5, 0, 0]]))


def test_an_outline_may_end_at_the_border():
    labels = make_labels((50, 50, 10))
    assert measure_iou([square(50, 50, 10)], labels)[0][0, 1] == 1


def test_three_outlines_in_a_chain_are_two_too_many():
    chain = [
        square(0, left, 10) for left in (0, 3, 6)
    ]  # IoU 0.54 from one to the next, 0.25 from first to last
    assert count_duplicates(chain, np.zeros((3, 1))) == 2
    assert count_duplicates(chain[::2], np.zeros((2, 1))) == 0
    assert count_duplicates([], np.zeros((0, 1))) == 0


def test_only_small_pieces_at_the_border_are_fragments():
    labels = make_labels((0, 0, 5), (0, 20, 6), (30, 30, 5))
    assert find_fragments(labels, 30).tolist() == [False, True, False, False]


def test_counter_examples_are_the_true_outlines_of_wrong_objects_that_were_found():
    wrong = outline_wrong_kind(GROUP, [[square(*FIRST), square(40, 42, 10), square(41, 40, 10)]], 5)
    assert [(one.position, one.area) for one in wrong] == [(0, 100)]
    assert sorted(map(tuple, wrong[0].outline)) == sorted(map(tuple, outline(LABELS == 3)))
    assert outline_wrong_kind(GROUP, [[square(*FIRST), square(0, 50, 8)]], 5) == []


def test_no_more_counter_examples_are_taken_than_a_user_would_draw():
    labels = make_labels(*((0, 10 * number, 8) for number in range(6)))
    group = Group('squares', labels[None], labels[None], (np.zeros(7, bool),), 0)
    found = [[square(0, 10 * number, 8) for number in range(6)]]
    assert len(outline_wrong_kind(group, found, 5)) == 5
