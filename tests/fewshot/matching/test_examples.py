from collections import Counter
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.errors import JobError
from fewshot.geometry import Box, Location, Tile
from fewshot.matching.examples import CutExamples, Examples, cut_examples, sort_examples
from tests.fewshot.anything import GOOD, annotations

METADATA = {'IndexRange': {'IndexXY': 3}, 'sizeX': 40, 'sizeY': 30}
FIRST = Tile(Location(0, 0, 0))
ids = count()


def outline(xy: int, left: float, side: float = 5, top: float = 2) -> dict:
    """Return a square of `side` pixels as the server sends it."""
    right, bottom = left + side, top + side
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return {
        '_id': f'{next(ids):024x}',
        'coordinates': [{'x': x, 'y': y} for x, y in corners],
        'location': {'XY': xy, 'Z': 0, 'Time': 0},
    }


def cut(examples: Examples, tile: Tile, shape: tuple[int, int] = (30, 40)) -> CutExamples:
    return cut_examples(examples.by_tile[tile], tile, shape)


def test_examples_are_sorted_by_location():
    tagged = [outline(2, 10), outline(0, 1), outline(2, 20)]
    examples = sort_examples(tagged, [], METADATA, 0)
    second = Tile(Location(2, 0, 0))
    assert list(examples.by_tile) == [FIRST, second]
    assert examples.boxes == [None]
    assert not examples.skipped

    objects, is_counter, ids, skipped = cut(examples, second)
    assert [one.box for one in objects] == [Box(2, 10, 7, 15), Box(2, 20, 7, 25)]
    assert ids == [tagged[0]['_id'], tagged[2]['_id']]
    assert all(one.mask.all() for one in objects)
    assert is_counter == [False, False]
    assert not skipped


def test_counter_examples_are_marked():
    examples = sort_examples([outline(0, 10)], [outline(0, 20), outline(1, 5)], METADATA, 0)
    assert cut(examples, FIRST).is_counter == [False, True]
    assert cut(examples, Tile(Location(1, 0, 0))).is_counter == [True]


def test_both_tags_are_refused():
    both = [outline(1, 10), outline(1, 20), outline(0, 10)]
    again = [dict(one) for one in both]
    with pytest.raises(JobError, match='both the Training Tag and the Negative Tag') as caught:
        sort_examples([outline(0, 1), *both], again, METADATA, 0)
    assert caught.value.message.endswith(': 3.')
    assert 'XY 1, Z 1, Time 1; XY 2, Z 1, Time 1.' in caught.value.hint


@pytest.mark.parametrize(
    ('tagged', 'counter', 'reasons'),
    [
        ([outline(7, 1), outline(8, 1)], [], '2 on a frame that the dataset does not have'),
        ([outline(7, 1)], [outline(0, 1)], '1 on a frame that the dataset does not have'),
        ([{**GOOD, 'coordinates': 7}], [None], '1 without coordinates, 1 without a location'),
    ],
)
def test_no_usable_example_is_refused(tagged, counter, reasons):
    with pytest.raises(JobError, match='No example can be used') as caught:
        sort_examples(tagged, counter, METADATA, 0)
    assert caught.value.hint.endswith(f': {reasons}.')


def test_unusable_examples_are_counted():
    tagged = [outline(0, 1), outline(0, 100), outline(0, 200), outline(7, 1), outline(-1, 1)]
    examples = sort_examples(tagged, [], METADATA, 0)
    assert examples.skipped == {'on a frame that the dataset does not have': 2}
    objects, is_counter, ids, skipped = cut(examples, FIRST)
    assert [one.box for one in objects] == [Box(2, 1, 7, 6)]
    assert ids == [tagged[0]['_id']]
    assert is_counter == [False]
    assert skipped == {'outside the image': 2}


def test_examples_are_cut_from_the_tile_with_the_most_room():
    odd = outline(0, 5)
    odd['coordinates'][0]['x'] = float('nan')
    tagged = [outline(0, 3), outline(0, 148, side=10, top=40), odd]
    large = {'sizeX': 300, 'sizeY': 100}
    examples = sort_examples(tagged, [outline(0, 290)], large, tile_size=100)
    assert examples.side == 10
    assert len(examples.boxes) > 3
    assert examples.skipped == {'coordinates that are not numbers': 1}

    found = []
    for tile in examples.by_tile:
        for one in cut(examples, tile, (100, 100)).objects:
            assert one.box.left > 0
            assert one.box.right < 100
            found.append(one.box.shift(tile.box.top, tile.box.left))
    assert found == [Box(2, 3, 7, 8), Box(40, 148, 50, 158), Box(2, 290, 7, 295)]


def test_outline_outside_the_image_does_not_enlarge_the_tiles():
    far = outline(0, 1e9, side=1e9, top=1e9)
    examples = sort_examples([GOOD, far], [], {'sizeX': 300, 'sizeY': 300}, tile_size=100)
    assert examples.side == 8
    assert len(examples.boxes) > 1


@given(st.lists(annotations, max_size=4), st.lists(annotations, max_size=2))
def test_any_annotation_is_used_or_counted(tagged, counter):
    try:
        examples = sort_examples([GOOD, *tagged], counter, METADATA, 0)
    except JobError as refused:
        message, hint = refused.message, refused.hint
        assert 'both the Training Tag' in message
        assert hint
        return
    objects = []
    skipped = Counter(examples.skipped)
    for tile in examples.by_tile:
        one = cut(examples, tile)
        objects += one.objects
        skipped += one.skipped
        assert len(one.objects) == len(one.is_counter) == len(one.ids)
    assert objects
    assert len(objects) + skipped.total() == 1 + len(tagged) + len(counter)
    for one in objects:
        assert one.mask.any()
        assert one.box.bottom <= 30
        assert one.box.right <= 40
