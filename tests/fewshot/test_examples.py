import numpy as np
import pytest

from fewshot.examples import Examples
from fewshot.parameters import Location

TILES = {'IndexRange': {'IndexXY': 3}}


def outline(xy: int, left: float, side: float = 5) -> dict:
    """A square of `side` pixels as the server sends it."""
    corners = [(left, 2), (left + side, 2), (left + side, 2 + side), (left, 2 + side)]
    return {'coordinates': [{'x': x, 'y': y} for x, y in corners], 'location': {'XY': xy, 'Z': 0, 'Time': 0}}


def test_examples_are_cut_frame_by_frame_in_the_order_of_the_frames():
    examples = Examples([outline(2, 10), outline(0, 1), outline(2, 20)], TILES)
    assert list(examples.by_location) == [Location(0, 0, 0), Location(2, 0, 0)] and examples.count == 3
    here, there = examples.cut(Location(2, 0, 0), (30, 40, 3))
    assert here.box == (2, 10, 7, 15) and there.box == (2, 20, 7, 25)
    assert here.mask.all() and here.mask.shape == (5, 5) and not examples.skipped


def test_what_cannot_be_used_is_counted_by_its_reason():
    examples = Examples([outline(0, 1), outline(0, 100), outline(0, 200), outline(7, 1)], TILES)
    assert len(examples.cut(Location(0, 0, 0), (30, 40))) == 1
    assert examples.reasons == '1 on a frame that the dataset does not have, 2 outside the image'


def test_examples_without_a_single_frame_are_refused_with_the_reason():
    with pytest.raises(ValueError, match='None of the examples can be used') as caught:
        Examples([outline(7, 1), outline(8, 1)], TILES)
    assert '2 on a frame that the dataset does not have' in caught.value.__notes__[0]


def test_a_cut_example_does_not_hold_the_frame_in_memory():
    cut, = Examples([outline(0, 1)], TILES).cut(Location(0, 0, 0), (3000, 3000))
    assert cut.mask.base is None or cut.mask.base.size < 1000
    np.testing.assert_array_equal(cut.mask, True)
