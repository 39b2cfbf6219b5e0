from itertools import count

import numpy as np
import pytest

from fewshot.examples import Examples
from fewshot.frames import Piece
from fewshot.geometry import Box
from fewshot.parameters import Location

TILES = {'IndexRange': {'IndexXY': 3}, 'sizeX': 40, 'sizeY': 30}
ids = count()


def outline(xy: int, left: float, side: float = 5, top: float = 2) -> dict:
    """A square of `side` pixels as the server sends it."""
    corners = [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]
    return {'coordinates': [{'x': x, 'y': y} for x, y in corners], 'location': {'XY': xy, 'Z': 0, 'Time': 0},
            '_id': f'{next(ids):024x}'}


def test_examples_are_cut_frame_by_frame_in_the_order_of_the_frames():
    examples = Examples([outline(2, 10), outline(0, 1), outline(2, 20)], [], TILES, 0)
    assert list(examples.by_piece) == [Piece(Location(0, 0, 0)), Piece(Location(2, 0, 0))] and examples.count == 3
    (here, is_counter), (there, _) = examples.cut(Piece(Location(2, 0, 0)), (30, 40, 3))
    assert here.box == (2, 10, 7, 15) and there.box == (2, 20, 7, 25) and not is_counter
    assert here.mask.all() and here.mask.shape == (5, 5) and not examples.skipped


def test_counter_examples_are_told_from_examples():
    examples = Examples([outline(0, 10)], [outline(0, 20), outline(1, 5)], TILES, 0)
    assert [counter for _, counter in examples.cut(Piece(Location(0, 0, 0)), (30, 40))] == [False, True]
    assert [counter for _, counter in examples.cut(Piece(Location(1, 0, 0)), (30, 40))] == [True]


def test_an_annotation_with_both_tags_is_refused_with_its_place():
    both = outline(1, 10)
    with pytest.raises(ValueError, match='both the Training Tag and the Negative Tag') as caught:
        Examples([outline(0, 1), both], [dict(both)], TILES, 0)
    assert 'Seen: 1, at XY 2, Z 1, Time 1' in caught.value.__notes__[0]


def test_counter_examples_alone_teach_nothing():
    with pytest.raises(ValueError, match='None of the examples can be used'):
        Examples([outline(7, 1)], [outline(0, 1)], TILES, 0)


def test_what_cannot_be_used_is_counted_by_its_reason():
    examples = Examples([outline(0, 1), outline(0, 100), outline(0, 200), outline(7, 1)], [], TILES, 0)
    assert len(examples.cut(Piece(Location(0, 0, 0)), (30, 40))) == 1
    assert examples.reasons == '1 on a frame that the dataset does not have, 2 outside the image'


def test_examples_without_a_single_frame_are_refused_with_the_reason():
    with pytest.raises(ValueError, match='None of the examples can be used') as caught:
        Examples([outline(7, 1), outline(8, 1)], [], TILES, 0)
    assert '2 on a frame that the dataset does not have' in caught.value.__notes__[0]


def test_a_cut_example_does_not_hold_the_frame_in_memory():
    (cut, _), = Examples([outline(0, 1)], [], TILES, 0).cut(Piece(Location(0, 0, 0)), (3000, 3000))
    assert cut.mask.base is None or cut.mask.base.size < 1000
    np.testing.assert_array_equal(cut.mask, True)


def test_in_tiles_each_example_is_cut_from_the_tile_that_has_it_whole():
    large = {'sizeX': 300, 'sizeY': 100}
    odd = outline(0, 5)
    odd['coordinates'][0]['x'] = float('nan')
    examples = Examples([outline(0, 3), outline(0, 148, 10, 40), odd], [outline(0, 290)], large, 100)
    assert examples.side == 10 and len(examples.tiles) > 3
    cut = {piece.tile: examples.cut(piece, (100, 100)) for piece in examples.by_piece}
    found = [one.box.shift(tile.top, tile.left) for tile, group in cut.items() for one, _ in group]
    assert found == [Box(2, 3, 7, 8), Box(40, 148, 50, 158), Box(2, 290, 7, 295)]
    for group in cut.values():
        assert all(one.box.left > 0 and one.box.right < 100 for one, _ in group)
    assert examples.reasons == '1 coordinates that are not numbers'
