import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.geometry import Box
from fewshot.tiling import choose_overlap, choose_tile, place_tiles, plan_tiles, touches_inner_border


@pytest.mark.parametrize(('shape', 'size', 'overlap', 'tops', 'lefts'), [
    ((1000, 1000), 1000, 100, [0], [0]),
    ((300, 1500), 1000, 100, [0], [0, 500]),
    ((1900, 800), 1000, 100, [0, 900], [0]),
    ((1901, 800), 1000, 100, [0, 450, 901], [0]),
])
def test_tiles_are_as_few_as_the_overlap_allows_and_evenly_spread(shape, size, overlap, tops, lefts):
    tiles = place_tiles(shape, size, overlap)
    assert sorted({tile.top for tile in tiles}) == tops and sorted({tile.left for tile in tiles}) == lefts
    assert len(tiles) == len(tops) * len(lefts)


sizes = st.tuples(st.integers(1, 400), st.integers(1, 400), st.integers(1, 40), st.integers(1, 60))


@given(sizes, st.data())
def test_any_object_up_to_the_size_lies_whole_in_a_tile_that_takes_it(sizes, data):
    height, width, side, more = sizes
    overlap = choose_overlap(side)
    tiles = place_tiles((height, width), overlap + more, overlap)
    covered = np.zeros((height, width), bool)
    for tile in tiles:
        assert tile.bottom - tile.top == min(overlap + more, height)
        assert tile.right - tile.left == min(overlap + more, width)
        covered[tile.slices] = True
    assert covered.all()
    high, wide = (data.draw(st.integers(1, min(side, length))) for length in (height, width))
    top, left = data.draw(st.integers(0, height - high)), data.draw(st.integers(0, width - wide))
    box = Box(top, left, top + high, left + wide)
    best = choose_tile(box, tiles)
    assert best is not None
    takers = [tile for tile in tiles
              if tile.top <= box.top and tile.left <= box.left and box.bottom <= tile.bottom and box.right <= tile.right
              and not touches_inner_border(box.shift(-tile.top, -tile.left), tile, (height, width))]
    assert takers
    assert best.top <= box.top and best.left <= box.left and box.bottom <= best.bottom and box.right <= best.right


def test_a_frame_is_taken_at_once_where_the_user_wants_it_or_it_fits_a_tile():
    assert plan_tiles((900, 1000), 0, 20) == plan_tiles((900, 1000), 1000, 20) == [None]
    assert len(plan_tiles((900, 1000), 500, 20)) == 6
    assert choose_tile(Box(1, 1, 5, 5), [None]) is None
    assert choose_tile(None, place_tiles((900, 1000), 500, 40)) == Box(0, 0, 500, 500)


def test_a_tile_that_is_too_small_for_the_examples_is_refused_with_a_size_that_is_not():
    with pytest.raises(ValueError, match='Tile Size is too small') as caught:
        plan_tiles((900, 1000), 399, 100)
    assert '399 pixels' in caught.value.__notes__[0] and 'Enter 400 or more' in caught.value.__notes__[0]
    assert plan_tiles((900, 1000), 400, 100)


@pytest.mark.parametrize(('box', 'touches'), [
    (Box(1, 1, 49, 49), False), (Box(0, 1, 9, 9), True), (Box(1, 0, 9, 9), False), (Box(1, 1, 50, 9), True),
    (Box(1, 1, 9, 50), True)])
def test_the_borders_of_the_frame_itself_are_no_inner_borders(box, touches):
    tile = Box(25, 0, 75, 50)  # of a frame of 100 × 100: at its left border
    assert touches_inner_border(box, tile, (100, 100)) is touches


def test_more_tiles_than_anyone_waits_for_are_refused():
    with pytest.raises(ValueError, match='too small for the frame') as caught:
        plan_tiles((20_000, 20_000), 64, 8)
    assert '64 pixels' in caught.value.__notes__[0] and ' tiles of a frame' in caught.value.__notes__[0]
