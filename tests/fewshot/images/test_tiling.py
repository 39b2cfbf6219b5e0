import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.errors import JobError
from fewshot.geometry import Box
from fewshot.images.tiling import (
    choose_overlap,
    choose_tile,
    place_tiles,
    plan_tiles,
    touches_inner_border,
)


@pytest.mark.parametrize(
    ('shape', 'size', 'overlap', 'tops', 'lefts'),
    [
        ((1000, 1000), 1000, 100, [0], [0]),
        ((300, 1500), 1000, 100, [0], [0, 500]),
        ((1900, 800), 1000, 100, [0, 900], [0]),
        ((1901, 800), 1000, 100, [0, 450, 901], [0]),
    ],
)
def test_tiles_are_few_and_evenly_spread(shape, size, overlap, tops, lefts):
    tiles = place_tiles(shape, size, overlap)
    assert [(tile.top, tile.left) for tile in tiles] == [(t, left) for t in tops for left in lefts]


def contains(tile: Box, box: Box) -> bool:
    rows = tile.top <= box.top and box.bottom <= tile.bottom
    columns = tile.left <= box.left and box.right <= tile.right
    return rows and columns


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 40), st.integers(1, 60), st.data())
def test_any_object_is_whole_in_a_tile(height, width, side, extra, data):
    shape, overlap = (height, width), choose_overlap(side)
    size = overlap + extra
    tiles = place_tiles(shape, size, overlap)
    covered = np.zeros(shape, bool)
    for tile in tiles:
        assert (tile.height, tile.width) == (min(size, height), min(size, width))
        covered[tile.slices] = True
    assert covered.all()

    object_height = data.draw(st.integers(1, min(side, height)))
    object_width = data.draw(st.integers(1, min(side, width)))
    top = data.draw(st.integers(0, height - object_height))
    left = data.draw(st.integers(0, width - object_width))
    box = Box(top, left, top + object_height, left + object_width)
    takers = []
    for tile in tiles:
        inside = box.shift(-tile.top, -tile.left)
        if contains(tile, box) and not touches_inner_border(inside, tile, shape):
            takers.append(tile)
    assert takers
    chosen = choose_tile(box, tiles)
    assert chosen is not None
    assert contains(chosen, box)


@pytest.mark.parametrize(
    ('size', 'number'), [(0, 1), (1000, 1), (2000, 1), (999, 2), (500, 6), (80, 24 * 22)]
)
def test_number_of_tiles(size, number):
    tiles = plan_tiles((900, 1000), size, object_side=20)
    assert len(tiles) == number
    assert (tiles == [None]) is (number == 1)


@pytest.mark.parametrize(
    ('box', 'tiles', 'expected'),
    [
        (Box(1, 1, 5, 5), [None], None),
        (None, [Box(0, 0, 9, 9), Box(0, 5, 9, 14)], Box(0, 0, 9, 9)),
        (Box(2, 7, 4, 9), [Box(0, 0, 9, 9), Box(0, 5, 9, 14)], Box(0, 5, 9, 14)),
    ],
)
def test_chosen_tile(box, tiles, expected):
    assert choose_tile(box, tiles) == expected


def test_small_tiles_are_refused():
    with pytest.raises(JobError, match=r'Tile Size 399 is too small: .* 100 pixels') as caught:
        plan_tiles((900, 1000), 399, 100)
    assert 'Enter 400 or more' in caught.value.hint
    assert plan_tiles((900, 1000), 400, 100)


def test_too_many_tiles_are_refused():
    with pytest.raises(JobError, match=r'Tile Size 64 splits each frame into \d+,\d+ tiles'):
        plan_tiles((20_000, 20_000), 64, 8)


@pytest.mark.parametrize(
    ('box', 'touches'),
    [
        (Box(1, 1, 49, 49), False),
        (Box(0, 1, 9, 9), True),
        (Box(1, 0, 9, 9), False),  # the border of the frame
        (Box(1, 1, 50, 9), True),
        (Box(1, 1, 9, 50), True),
    ],
)
def test_inner_borders(box, touches):
    tile = Box(25, 0, 75, 50)
    assert touches_inner_border(box, tile, (100, 100)) is touches
