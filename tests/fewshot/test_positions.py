import doctest

from hypothesis import given
from hypothesis import strategies as st

from fewshot import positions
from fewshot.parameters import Location, parse_batch
from fewshot.positions import cover_locations, join_numbers, write_locations

INDEX = st.integers(0, 7)
LOCATIONS = st.sets(st.builds(Location, INDEX, st.integers(0, 3), st.integers(0, 3)), max_size=60)


def read_back(text: str) -> list[Location]:
    """The locations that the batch fields of a text name."""
    found = []
    for block in text.split('; ') if text else []:
        fields = block.replace(', Batch', '|Batch').split('|')
        xys, zs, times = ([number - 1 for first, last in parse_batch(field.partition(': ')[2]) or []
                           for number in range(first, last + 1)] for field in fields)
        found += [Location(xy, z, time) for xy in xys for z in zs for time in times]
    return found


@given(LOCATIONS)
def test_the_text_names_exactly_the_locations_each_once(locations):
    assert sorted(read_back(write_locations(locations))) == sorted(locations)


@given(st.sets(INDEX, min_size=1), st.sets(INDEX, min_size=1), st.sets(INDEX, min_size=1))
def test_what_one_job_can_search_is_one_block(xys, zs, times):
    block, = cover_locations([Location(xy, z, time) for xy in xys for z in zs for time in times])
    assert block == (tuple(sorted(xys)), tuple(sorted(zs)), tuple(sorted(times)))


@given(st.sets(st.integers(0, 200), min_size=1))
def test_numbers_are_read_back_as_they_were(indices):
    ranges = parse_batch(join_numbers(indices))
    assert [number - 1 for first, last in ranges or [] for number in range(first, last + 1)] == sorted(indices)
    assert all(later > last + 1 for (_, last), (later, _) in zip(ranges, ranges[1:], strict=False))


def test_a_batch_without_a_corner_is_two_blocks():
    locations = [Location(xy, 0, time) for xy in range(4) for time in range(3)]
    assert write_locations(locations[:-1]) == ('Batch XY: 1-4, Batch Z: 1, Batch Time: 1-2; '
                                               'Batch XY: 1-3, Batch Z: 1, Batch Time: 3')


def test_the_examples_in_the_docstrings_are_true():
    assert doctest.testmod(positions).failed == 0
