import pytest
from hypothesis import given

from fewshot.errors import JobError
from fewshot.geometry import Location
from fewshot.images.metadata import axis_length, has_location
from tests.fewshot.anything import json_values

METADATA = {'IndexRange': {'IndexXY': 8, 'IndexZ': 3, 'IndexT': 2, 'IndexC': 2}}


@pytest.mark.parametrize(
    ('metadata', 'place', 'has'),
    [
        (METADATA, (7, 2, 1), True),
        (METADATA, (8, 0, 0), False),
        (METADATA, (0, 3, 0), False),
        (METADATA, (0, 0, 2), False),
        (METADATA, (-1, 0, 0), False),
        ({}, (0, 0, 0), True),  # an image of a single plane
        ({}, (0, 0, 1), False),
    ],
)
def test_has_location(metadata, place, has):
    assert has_location(metadata, Location(*place)) is has


@given(json_values)
def test_axis_has_a_length_or_is_refused(lengths):
    try:
        assert axis_length({'IndexRange': lengths}, 'Z') == 1
    except JobError as refused:
        message, hint = refused.message, refused.hint
        assert 'positions of Z' in message
        assert hint
    else:
        assert lengths is None or isinstance(lengths, dict)


@pytest.mark.parametrize('length', [0, -1, True, '3', 2.0, None, 10**12])
def test_bad_length_is_refused(length):
    with pytest.raises(JobError, match='positions of Z') as caught:
        axis_length({'IndexRange': {'IndexZ': length}}, 'Z')
    assert repr(length) in caught.value.message
