import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewshot.geometry import Box, bound_mask
from fewshot.matching.duplicates import (
    Found,
    are_duplicates,
    count_shared,
    find_duplicates,
    find_known,
    place_in_frame,
)
from fewshot.sam.candidates import Candidate, pack_mask


def make_candidate(mask: np.ndarray) -> Candidate:
    """Return a candidate of a full-size mask."""
    box = bound_mask(mask)
    assert box is not None
    bits = pack_mask(mask[box.slices])
    return Candidate(box, bits, area=int(mask.sum()), predicted_iou=0.9, stability_score=0.8)


def rectangle(top: int, left: int, height: int = 10, width: int = 10) -> Candidate:
    mask = np.zeros((60, 60), bool)
    mask[top : top + height, left : left + width] = True
    return make_candidate(mask)


def outline(left: float, top: float, side: float = 10) -> np.ndarray:
    """Return the corners of a square."""
    right, bottom = left + side, top + side
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


# Among the objects that were found


@pytest.mark.parametrize(
    ('one', 'other', 'expected'),
    [
        (rectangle(0, 0), rectangle(0, 0), True),
        (rectangle(0, 0), rectangle(0, 3), True),  # IoU 70 / 130
        (rectangle(0, 0), rectangle(0, 4), False),  # IoU 60 / 140
        (rectangle(0, 0, 20, 20), rectangle(5, 5, 4, 4), True),  # a part
        (rectangle(0, 0, 20, 20), rectangle(12, 0, 10, 10), True),  # 80 of 100 pixels inside
        (rectangle(0, 0, 20, 20), rectangle(13, 0, 10, 10), False),  # 70 inside
        (rectangle(0, 0), rectangle(0, 10), False),  # neighbours
        (rectangle(0, 0), rectangle(40, 40), False),
    ],
)
def test_duplicates_by_iou_or_as_a_part(one, other, expected):
    assert are_duplicates(one, other) is expected
    assert are_duplicates(other, one) is expected


masks = arrays(bool, (9, 11)).filter(np.any)


@given(masks, masks)
def test_shared_pixels(first, second):
    shared = count_shared(make_candidate(first), make_candidate(second))
    assert shared == (first & second).sum()


# Each is a duplicate of the next one, but not of the third.
CHAIN = [rectangle(0, 0), rectangle(0, 3), rectangle(0, 6)]


@pytest.mark.parametrize(
    ('candidates', 'similarities', 'expected'),
    [
        ([*CHAIN, rectangle(40, 40)], [0.9, 0.8, 0.7, 0.1], [False, True, False, False]),
        ([*CHAIN, rectangle(40, 40)], [0.7, 0.8, 0.9, 0.1], [False, True, False, False]),
        ([*CHAIN, rectangle(40, 40)], [0.8, 0.9, 0.8, 0.1], [True, False, True, False]),
        (CHAIN[:2], [0.5, 0.5], [False, True]),  # the first of equals stays
        ([], [], []),
    ],
)
def test_most_similar_object_stays(candidates, similarities, expected):
    found = [Found(*pair, 0.5) for pair in zip(candidates, similarities, strict=True)]
    assert find_duplicates(found).tolist() == expected


@pytest.mark.parametrize(
    ('tiles', 'across_tiles_only', 'expected'),
    [
        ([0, 0, 1], False, [False, True, True]),
        ([0, 0, 1], True, [False, False, True]),
        ([3, 3, 3], True, [False, False, False]),
    ],
)
def test_duplicates_across_tiles(tiles, across_tiles_only, expected):
    candidates = [rectangle(0, 0), rectangle(0, 1), rectangle(0, 2)]
    found = [
        Found(candidate, similarity, 0.5, tile)
        for candidate, similarity, tile in zip(candidates, [0.9, 0.8, 0.7], tiles, strict=True)
    ]
    assert find_duplicates(found, across_tiles_only).tolist() == expected


sides, starts = st.integers(1, 20), st.integers(0, 40)
rectangles = st.builds(rectangle, starts, starts, sides, sides)


@given(st.lists(st.builds(Found, rectangles, st.floats(-1, 1)), max_size=12))
def test_each_duplicate_has_a_better_one(found):
    is_duplicate = find_duplicates(found)
    numbers = range(len(found))
    kept = [found[number] for number in numbers if not is_duplicate[number]]
    for number, one in enumerate(kept):
        assert not any(are_duplicates(one.candidate, other.candidate) for other in kept[:number])
    for number in np.flatnonzero(is_duplicate):
        one = found[number]
        better = [other for other in kept if other.similarity >= one.similarity]
        assert any(are_duplicates(one.candidate, other.candidate) for other in better)


found_in_tiles = st.lists(
    st.builds(Found, rectangles, st.sampled_from([0.7, 0.75, 0.8, 0.85, 0.9]), st.integers(0, 2)),
    max_size=12,
)


@given(found_in_tiles, st.booleans())
def test_less_similar_objects_have_no_effect(found, across_tiles_only):
    is_duplicate = find_duplicates(found, across_tiles_only)
    for threshold in (0.75, 0.8, 0.85):
        above = np.array([one.similarity >= threshold for one in found], bool)
        alone = [one for one in found if one.similarity >= threshold]
        assert is_duplicate[above].tolist() == find_duplicates(alone, across_tiles_only).tolist()


def test_objects_of_a_tile_are_placed_in_the_frame():
    tile = Box(40, 0, 100, 60)
    found = [
        Found(rectangle(5, 5), 0.9, 0.5),
        Found(rectangle(50, 5), 0.8, 0.5),  # cut by an inner border
        Found(rectangle(5, 0), 0.7, 0.5),  # at the border of the frame
    ]
    placed = place_in_frame(found, 2, tile, (300, 300))
    assert [(one.candidate.box, one.similarity, one.tile) for one in placed] == [
        (Box(45, 5, 55, 15), 0.9, 2),
        (Box(45, 0, 55, 10), 0.7, 2),
    ]
    assert placed[0].candidate.mask.all()


def test_scores():
    scores = Found(rectangle(0, 0), 0.75, 0.7).scores
    assert scores == {'Similarity': 0.75, 'Closest Examples': 0.7, 'Predicted IoU': 0.9}


# Of objects that the server has

BOW_TIE = np.array([(0, 0), (10, 10), (10, 0), (0, 10)], float)
WITHOUT_AREA = [
    np.array([(1.0, 1.0)]),
    np.array([(1.0, 1), (2, 2), (3, 3)]),
    np.full((4, 2), np.nan),
    np.full((4, 2), np.inf),
    np.full((4, 2), 1e308),
    outline(0, 0) * 1e306,
    np.zeros((5, 2)),
    np.empty((0, 2)),
    np.full((4, 2), 1e9),
]


@pytest.mark.parametrize(
    ('outlines', 'known', 'expected'),
    [
        (
            [outline(0, 3), outline(0, 4), outline(100, 100), outline(50, 50)],
            [outline(0, 0), outline(100, 100)],
            [True, False, True, False],
        ),
        ([], [outline(0, 0)], []),
        ([outline(0, 0)], [], [False]),
        ([outline(0, 0)], WITHOUT_AREA, [False]),
        # The two parts of the bow tie cover half of the square.
        ([outline(0, 0)], [*WITHOUT_AREA, BOW_TIE], [True]),
    ],
)
@pytest.mark.filterwarnings('error')
def test_known_outlines(outlines, known, expected):
    assert find_known(outlines, known).tolist() == expected


def test_known_scribble():
    """All crossings of this outline would take hours."""
    scribble = np.random.default_rng(0).random((20_000, 2)) * 100
    assert not shapely.Polygon(scribble).is_valid
    assert find_known([outline(0, 0, side=100)], [scribble]).tolist() == [True]


def test_known_triangle_counts():
    triangle = outline(0, 0)[:3]
    known = find_known([triangle, outline(0, 0)], [triangle])
    assert known.dtype == bool
    assert known.tolist() == [True, True]  # it is half of the square


def test_outline_drawn_twice_around_covers_what_it_surrounds():
    corners = [(0, 0), (10, 0), (10, 10), (0, 10), (0, 1), (9, 1), (9, 9), (1, 9), (1, 0)]
    assert find_known([outline(0, 0)], [np.array(corners, float)]).tolist() == [True]


def test_first_of_equals_stays():
    places = [rectangle(top, left) for top in range(0, 40, 10) for left in range(0, 50, 10)]
    similarities = [0.5 + 0.01 * number for number in range(20)]
    found = [Found(*pair, 0.5) for pair in zip(places * 2, similarities * 2, strict=True)]
    assert find_duplicates(found).tolist() == [False] * 20 + [True] * 20
