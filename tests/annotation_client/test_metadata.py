"""The metadata of an image: read, or refused with the key and the value."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_client.tiles import check_metadata, frame_numbers
from tests.fewshot.anything import json_values

PLANE = {'sizeX': 30, 'sizeY': 20, 'dtype': 'uint8'}
KEYS = ('the answer', 'sizeX', 'sizeY', 'dtype', 'frames', 'IndexRange')

indices = st.dictionaries(
    st.sampled_from(['IndexXY', 'IndexC', 'Index']), st.integers(0, 2) | json_values, max_size=2
)
lengths = st.dictionaries(st.sampled_from(['IndexXY', 'IndexC']), st.integers(1, 3) | json_values)
metadata = json_values | st.fixed_dictionaries(
    {},
    optional={
        'sizeX': st.integers(1, 99) | json_values,
        'sizeY': st.integers(1, 99) | json_values,
        'dtype': st.just('uint8') | json_values,
        'frames': json_values | st.lists(json_values | indices, max_size=3),
        'IndexRange': json_values | lengths,
    },
)


def refusal_of(tiles: object) -> str:
    """Return the reason why metadata are refused, '' where they are accepted."""
    try:
        check_metadata(tiles)
    except ValueError as error:
        return str(error)
    return ''


@given(metadata)
@settings(max_examples=300)
def test_any_metadata_describe_an_image_or_are_refused(tiles):
    refusal = refusal_of(tiles)
    if refusal:
        assert any(key in refusal for key in KEYS)
        return
    places = frame_numbers(tiles)
    assert places
    assert tiles['sizeX'] * tiles['sizeY'] > 0
    if tiles.get('IndexRange') is not None:
        assert tiles['IndexRange'].get('IndexXY', 1) == 1 + max(place[0] for place in places)


def test_image_of_one_plane_is_accepted():
    assert refusal_of(PLANE) == ''


@pytest.mark.parametrize(
    ('tiles', 'seen'),
    [
        ([], 'the answer is []'),
        (None, 'the answer is None'),
        ({**PLANE, 'sizeX': None}, 'sizeX is None'),
        ({**PLANE, 'sizeY': 0}, 'sizeY is 0'),
        ({**PLANE, 'sizeX': -3}, 'sizeX is -3'),
        ({**PLANE, 'sizeX': '30'}, "sizeX is '30'"),
        ({**PLANE, 'sizeX': True}, 'sizeX is True'),
        ({**PLANE, 'sizeX': 30.0}, 'sizeX is 30.0'),
        ({**PLANE, 'sizeX': 10**30}, 'sizeX is 1000'),
        ({**PLANE, 'dtype': 'object'}, "dtype is 'object'"),
        ({**PLANE, 'dtype': 8}, 'dtype is 8'),
        ({**PLANE, 'frames': 'all'}, "frames is 'all'"),
        ({**PLANE, 'frames': {'0': {}}}, 'frames is {'),
        ({**PLANE, 'frames': [{}, 1]}, 'frames[1] is 1'),
        ({**PLANE, 'frames': [{'IndexC': '0'}]}, "frames[0].IndexC is '0'"),
        ({**PLANE, 'frames': [{'IndexC': None}]}, 'frames[0].IndexC is None'),
        ({**PLANE, 'frames': [{'IndexXY': -1}]}, 'frames[0].IndexXY is -1'),
        ({**PLANE, 'frames': [{'IndexT': False}]}, 'frames[0].IndexT is False'),
        (
            {**PLANE, 'frames': [{'IndexT': 0}, {'IndexT': 1}], 'IndexRange': {'IndexT': 9}},
            'IndexRange.IndexT is 9',
        ),
        ({**PLANE, 'frames': [{}, {'IndexT': 1}], 'IndexRange': {}}, 'IndexRange.IndexT is 1'),
        ({**PLANE, 'IndexRange': {'IndexZ': 4}}, 'IndexRange.IndexZ is 4'),
        ({**PLANE, 'IndexRange': {'IndexZ': 'many'}}, "IndexRange.IndexZ is 'many'"),
        ({**PLANE, 'IndexRange': [1]}, 'IndexRange is [1]'),
    ],
)
def test_bad_metadata_are_refused(tiles, seen):
    assert seen in refusal_of(tiles)
