"""Locations in the words of the batch fields, ready to be pasted there."""
from collections.abc import Collection, Iterable
from itertools import product
from typing import NamedTuple

from fewshot.parameters import BATCH_AXES, Location


class Block(NamedTuple):
    """All locations whose XY, Z and Time are each one of these, 0-based and ascending: what one job can search."""

    xys: tuple[int, ...]
    zs: tuple[int, ...]
    times: tuple[int, ...]

    @property
    def locations(self) -> list[Location]:
        """XY by XY, then Z, then Time."""
        return [Location(*place) for place in product(*self)]

    @property
    def fields(self) -> dict[str, str]:
        """The values of the batch fields, by their names."""
        return dict(zip(BATCH_AXES, map(join_numbers, self), strict=True))

    def __str__(self) -> str:
        return ', '.join(f'{name}: {text}' for name, text in self.fields.items())


def write_locations(locations: Collection[Location]) -> str:
    """Exactly these locations as values of the batch fields; several sets of values are parted by a semicolon.

    >>> write_locations([Location(0, 0, 0), Location(1, 0, 0), Location(4, 0, 0)])
    'Batch XY: 1-2, 5, Batch Z: 1, Batch Time: 1'
    """
    return '; '.join(map(str, cover_locations(locations)))


def cover_locations(locations: Collection[Location]) -> list[Block]:
    """Few blocks that hold each of the locations once and nothing else, by their first location."""
    rows: dict[tuple[int, int], set[int]] = {}
    for location in locations:
        rows.setdefault((location.z, location.time), set()).add(location.xy)
    planes: dict[tuple[int, tuple[int, ...]], list[int]] = {}  # by Z and XYs, the times
    for (z, time), xys in sorted(rows.items()):
        planes.setdefault((z, tuple(sorted(xys))), []).append(time)
    blocks: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}  # by XYs and times, the Zs
    for (z, key), times in planes.items():
        blocks.setdefault((key, tuple(times)), []).append(z)
    return sorted((Block(key, tuple(zs), times) for (key, times), zs in blocks.items()),
                  key=lambda block: tuple(indices[0] for indices in block))


def join_numbers(indices: Iterable[int]) -> str:
    """0-based indices as the user counts and writes them.

    >>> join_numbers([0, 1, 2, 4])
    '1-3, 5'
    """
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ', '.join(f'{run[0] + 1}-{run[-1] + 1}' if len(run) > 1 else str(run[0] + 1) for run in runs)
