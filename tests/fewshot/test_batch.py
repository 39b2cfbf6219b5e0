"""The locations of a job, their text, and the shares of a batch."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot import messages
from fewshot.batch import (
    Block,
    cover_locations,
    is_even,
    join_numbers,
    list_locations,
    split_block,
    write_locations,
)
from fewshot.errors import JobError
from fewshot.geometry import Location
from fewshot.settings import BATCH_AXES, parse_ranges
from tests.fewshot.conftest import HERE, pattern_of

METADATA = {'IndexRange': {'IndexXY': 8, 'IndexZ': 3, 'IndexT': 2, 'IndexC': 2}}
INDEX = st.integers(0, 7)
INDICES = st.sets(INDEX, min_size=1)
LOCATIONS = st.sets(st.builds(Location, INDEX, st.integers(0, 3), st.integers(0, 3)), max_size=60)
AXIS = st.sets(st.integers(0, 30), min_size=1, max_size=9).map(lambda found: tuple(sorted(found)))


def list_batch(
    xy: str = '', z: str = '', time: str = '', current: Location = HERE, metadata: Any = METADATA
) -> list[Location]:
    texts = dict(zip(BATCH_AXES, (xy, z, time), strict=True))
    return list_locations(texts, current, metadata)


def read_numbers(text: str) -> list[int]:
    """Return the 0-based indices that a batch field names, in its order."""
    ranges = parse_ranges(text) or []
    return [number - 1 for first, last in ranges for number in range(first, last + 1)]


# The locations of a job


@pytest.mark.parametrize(
    ('texts', 'expected'),
    [
        (('', '', ''), [(2, 1, 1)]),  # the current location
        (('1-3', '', ''), [(0, 1, 1), (1, 1, 1), (2, 1, 1)]),
        (('5, 1-2, 2', '', ''), [(0, 1, 1), (1, 1, 1), (4, 1, 1)]),  # sorted, each once
        (('2-5, 3, 1-2', '2', '2'), [(number, 1, 1) for number in range(5)]),
        (('', 'all', ''), [(2, 0, 1), (2, 1, 1), (2, 2, 1)]),
        (
            ('1-2', '1,3', 'ALL'),
            [(xy, z, time) for xy in (0, 1) for z in (0, 2) for time in (0, 1)],
        ),
    ],
)
def test_locations_are_listed(texts, expected):
    found = list_batch(*texts, current=Location(2, 1, 1))
    assert found == [Location(*place) for place in expected]


@pytest.mark.parametrize(
    ('request_', 'field', 'outside', 'length'),
    [
        ({'xy': '1-3, 7-9, 12'}, 'Batch XY', '7-9, 12', 8),
        ({'xy': '0'}, 'Batch XY', '0', 8),
        ({'z': '4'}, 'Batch Z', '4', 3),
        ({'time': '1-1000000000'}, 'Batch Time', '1-1000000000', 2),
        ({'current': Location(0, 5, 0)}, 'Batch Z', '6', 3),
        ({'xy': '1-999999999999'}, 'Batch XY', '1-999999999999', 8),
        ({'xy': '9,' * 5_000 + '1'}, 'Batch XY', ', '.join('9' * 10) + ', ...', 8),
    ],
)
def test_location_outside_the_dataset_is_refused(request_, field, outside, length):
    with pytest.raises(JobError) as caught:
        list_batch(**request_)
    text, hint = messages.LOCATIONS_OUTSIDE.fill(field=field, outside=outside, length=length)
    assert (caught.value.message, caught.value.hint) == (text, hint)


def test_image_of_one_plane_has_one_location():
    assert list_batch('all', 'all', 'all', metadata={}) == [HERE]


def test_many_overlapping_ranges_are_listed():
    found = list_batch('1-50000,' * 20_000 + '7', metadata={'IndexRange': {'IndexXY': 50_000}})
    assert [location.xy for location in found] == list(range(50_000))


def test_too_large_batch_is_refused():
    metadata = {'IndexRange': {'IndexXY': 90_000, 'IndexZ': 90_000}}
    with pytest.raises(JobError, match=pattern_of(messages.BATCH_TOO_LARGE)):
        list_batch('all', 'all', 'all', metadata=metadata)
    assert len(list_batch('all', '', 'all', metadata=metadata)) == 90_000


def test_axis_of_absurd_length_is_refused():
    with pytest.raises(JobError, match=pattern_of(messages.BAD_AXES)):
        list_batch('all', metadata={'IndexRange': {'IndexXY': 10**12}})


# Locations in words


def read_back(text: str) -> list[Location]:
    """Return the locations that the batch fields of a text name."""
    found = []
    for block in text.split('; ') if text else []:
        fields = block.replace(', Batch', '|Batch').split('|')
        xys, zs, times = (read_numbers(field.partition(': ')[2]) for field in fields)
        found += [Location(xy, z, time) for xy in xys for z in zs for time in times]
    return found


@given(LOCATIONS)
def test_text_names_exactly_the_locations(locations):
    assert sorted(read_back(write_locations(locations))) == sorted(locations)


@given(INDICES, INDICES, INDICES)
def test_locations_of_a_job_are_one_block(xys, zs, times):
    locations = [Location(xy, z, time) for xy in xys for z in zs for time in times]
    (block,) = cover_locations(locations)
    assert block == (tuple(sorted(xys)), tuple(sorted(zs)), tuple(sorted(times)))


def test_batch_without_a_corner_is_two_blocks():
    locations = [Location(xy, 0, time) for xy in range(4) for time in range(3)]
    assert write_locations(locations[:-1]) == (
        'Batch XY: 1-4, Batch Z: 1, Batch Time: 1-2; Batch XY: 1-3, Batch Z: 1, Batch Time: 3'
    )


@given(st.sets(st.integers(0, 200), min_size=1))
def test_joined_numbers_are_read_back(indices):
    text = join_numbers(indices)
    assert read_numbers(text) == sorted(indices)
    ranges = parse_ranges(text) or []
    assert all(later > last + 1 for (_, last), (later, _) in itertools.pairwise(ranges))


# Splitting a batch


@given(AXIS, AXIS, AXIS, st.integers(1, 64))
def test_shares_hold_each_frame_once_and_are_even(xys, zs, times, jobs):
    block = Block(xys, zs, times)
    shares = split_block(block, jobs)
    assert sorted(frame for share in shares for frame in share.locations) == block.locations
    sizes = [len(share.locations) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@given(AXIS, AXIS, AXIS, st.integers(1, 64))
def test_number_of_shares_is_the_nearest_possible(xys, zs, times, jobs):
    block = Block(xys, zs, times)
    possible = {
        a * b * c
        for a in range(1, len(xys) + 1)
        for b in range(1, len(zs) + 1)
        for c in range(1, len(times) + 1)
        if is_even(block, (a, b, c))
    }
    assert abs(len(split_block(block, jobs)) - jobs) == min(abs(one - jobs) for one in possible)


@pytest.mark.parametrize(
    ('axes', 'jobs', 'sizes'),
    [
        ((12, 1, 1), 5, [3, 3, 2, 2, 2]),
        ((12, 1, 1), 64, [1] * 12),
        ((1, 1, 7), 3, [3, 2, 2]),
        ((4, 3, 1), 4, [3] * 4),  # XY is split first
        ((4, 3, 1), 5, [3] * 4),  # five are not possible, four and six are as near
        ((4, 3, 1), 8, [2, 1] * 4),
        ((2, 2, 1), 3, [2] * 2),
        ((3, 3, 3), 1, [27]),
    ],
)
def test_batch_is_split(axes, jobs, sizes):
    shares = split_block(Block(*(tuple(range(length)) for length in axes)), jobs)
    assert [len(share.locations) for share in shares] == sizes


def test_xy_is_split_before_z_and_z_before_time():
    first, _ = split_block(Block((0, 1), (0, 1), (0, 1)), 2)
    assert first == Block((0,), (0, 1), (0, 1))
    first, _ = split_block(Block((0,), (0, 1), (0, 1)), 2)
    assert first == Block((0,), (0,), (0, 1))


def test_neighbours_stay_together():
    shares = split_block(Block((0, 2, 4, 5, 7), (1,), (0,)), 3)
    assert [share.xys for share in shares] == [(0, 2), (4, 5), (7,)]
