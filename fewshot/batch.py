"""The batch: which locations a job searches, their words for the batch fields, and how it is split."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from fewshot import messages
from fewshot.geometry import Location
from fewshot.images.metadata import axis_length
from fewshot.settings import BATCH_AXES, parse_ranges

MAX_LOCATIONS = 100_000  # of a job
MAX_LISTED_RANGES = 10  # of a message


class Block(NamedTuple):
    """All combinations of these XY, Z and Time indices, 0-based and ascending: what the batch fields can name."""

    xys: tuple[int, ...]
    zs: tuple[int, ...]
    times: tuple[int, ...]

    @property
    def locations(self) -> list[Location]:
        """XY by XY, then Z, then Time."""
        return [Location(xy, z, time) for xy, z, time in product(*self)]

    @property
    def fields(self) -> dict[str, str]:
        """The values of the batch fields, by their names."""
        return {name: join_numbers(indices) for name, indices in zip(BATCH_AXES, self, strict=True)}

    def __str__(self) -> str:
        """Return the batch fields as they can be pasted."""
        return ', '.join(f'{name}: {text}' for name, text in self.fields.items())


# The locations of a job


def list_locations(
    batches: Mapping[str, str], current: Location, metadata: Mapping
) -> list[Location]:
    """Return the locations to search, XY by XY, then Z, then Time.

    Parameters
    ----------
    batches : Mapping
        The text of each batch field, by the field's name.
    current : Location
        The location for blank fields.
    metadata : Mapping
        The metadata of the dataset's image.

    Raises
    ------
    JobError
        A field names locations outside the dataset, or there are more than MAX_LOCATIONS.
    """
    here = (current.xy, current.z, current.time)
    axes = []
    for name, index, axis in zip(BATCH_AXES, here, ('XY', 'Z', 'T'), strict=True):
        axes.append(list_indices(name, batches[name], index, axis_length(metadata, axis)))
    count = math.prod(len(axis) for axis in axes)
    if count > MAX_LOCATIONS:
        raise messages.BATCH_TOO_LARGE.error(count=count, most=MAX_LOCATIONS)
    return Block(*axes).locations


def list_indices(name: str, text: str, current: int, length: int) -> tuple[int, ...]:
    """Return the 0-based indices that a batch field names on an axis of this length. Raises JobError."""
    ranges = parse_ranges(text)
    if ranges is None:
        return tuple(range(length))
    wanted = ranges or [(current + 1, current + 1)]
    outside = [(first, last) for first, last in wanted if first < 1 or last > length]
    if outside:
        texts = [
            f'{first}-{last}' if first < last else f'{first}'
            for first, last in outside[:MAX_LISTED_RANGES]
        ]
        more = ', ...' if len(outside) > MAX_LISTED_RANGES else ''
        raise messages.LOCATIONS_OUTSIDE.error(
            field=name, outside=', '.join(texts) + more, length=length
        )
    indices: list[int] = []
    for first, last in sorted(wanted):
        start = max(first - 1, indices[-1] + 1) if indices else first - 1  # ranges may overlap
        indices.extend(range(start, last))
    return tuple(indices)


# Locations in words


def write_locations(locations: Collection[Location]) -> str:
    """Return exactly these locations as values of the batch fields, separated by semicolons.

    Examples
    --------
    >>> write_locations([Location(0, 0, 0), Location(1, 0, 0), Location(4, 0, 0)])
    'Batch XY: 1-2, 5, Batch Z: 1, Batch Time: 1'
    """
    return '; '.join(str(block) for block in cover_locations(locations))


def cover_locations(locations: Collection[Location]) -> list[Block]:
    """Return few blocks that hold each of the locations once and nothing else, ordered by their first location."""
    # lines of XYs, then planes of lines with the same XYs, then blocks of planes with the same XYs and times
    lines: dict[tuple[int, int], set[int]] = {}
    for location in locations:
        lines.setdefault((location.z, location.time), set()).add(location.xy)
    planes: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for (z, time), xys in sorted(lines.items()):
        planes.setdefault((z, tuple(sorted(xys))), []).append(time)
    blocks: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    for (z, line), times in planes.items():
        blocks.setdefault((line, tuple(times)), []).append(z)
    covering = [Block(line, tuple(zs), times) for (line, times), zs in blocks.items()]
    return sorted(covering, key=lambda block: (block.xys[0], block.zs[0], block.times[0]))


def join_numbers(indices: Iterable[int]) -> str:
    """Return 0-based indices as the user counts and writes them.

    Examples
    --------
    >>> join_numbers([0, 1, 2, 4])
    '1-3, 5'
    """
    ranges: list[list[int]] = []
    for index in sorted(indices):
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    texts = [
        f'{first + 1}-{last + 1}' if first < last else f'{first + 1}' for first, last in ranges
    ]
    return ', '.join(texts)


# Splitting a batch


def split_block(block: Block, jobs: int) -> list[Block]:
    """Return a batch in shares that are blocks and differ by one frame at most, neighbours together.

    The number of shares is the one nearest to `jobs` for which there are even shares, and the smaller of two.
    """
    ways = product(*(range(1, len(axis) + 1) for axis in block))
    even_ways = [way for way in ways if is_even(block, way)]

    def preference(way: tuple[int, ...]) -> tuple[int, ...]:
        count = math.prod(way)
        # of the same number of shares, split XY first, then Z: positions far apart have least in common
        return abs(count - jobs), count, -way[0], -way[1]

    way = min(even_ways, key=preference)
    parts = [split_evenly(axis, count) for axis, count in zip(block, way, strict=True)]
    return [Block(*share) for share in product(*parts)]


def is_even(block: Block, way: Sequence[int]) -> bool:
    """Return whether the shares differ by one frame at most when each axis is split into so many parts."""
    smallest = largest = 1
    for axis, count in zip(block, way, strict=True):
        whole, rest = divmod(len(axis), count)
        smallest *= whole
        largest *= whole + (rest > 0)
    return largest - smallest <= 1


def split_evenly(indices: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """Return neighbouring indices in so many parts, the longer parts first."""
    whole, rest = divmod(len(indices), count)
    parts = []
    start = 0
    for number in range(count):
        stop = start + whole + (number < rest)
        parts.append(tuple(indices[start:stop]))
        start = stop
    return parts
