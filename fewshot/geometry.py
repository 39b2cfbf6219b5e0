"""Places in a dataset and boxes of pixels: the value types that every other module uses.

Loaded by interface requests, which must answer at once: it does not import numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, order=True)
class Location:
    """A position in the dataset, counted from 0 as the server does.

    Examples
    --------
    >>> str(Location(xy=0, z=4, time=0))
    'XY 1, Z 5, Time 1'
    """

    xy: int
    z: int
    time: int

    def __str__(self) -> str:
        """Return the position as the user sees it, counted from 1."""
        return f'XY {self.xy + 1}, Z {self.z + 1}, Time {self.time + 1}'


class Box(NamedTuple):
    """A rectangle of pixels: rows `top` to `bottom`, columns `left` to `right`, ends excluded.

    Examples
    --------
    >>> box = Box(top=10, left=20, bottom=13, right=24)
    >>> box.height, box.width
    (3, 4)
    """

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the box in an image.

        Examples
        --------
        >>> Box(1, 2, 3, 4).slices
        (slice(1, 3, None), slice(2, 4, None))
        """
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def shift(self, down: int, right: int) -> Box:
        """Move the box.

        Parameters
        ----------
        down, right : int
            Distance in pixels; negative values move up and left.

        Returns
        -------
        Box

        Examples
        --------
        >>> Box(0, 0, 3, 4).shift(down=10, right=-2)
        Box(top=10, left=-2, bottom=13, right=2)
        """
        return Box(self.top + down, self.left + right, self.bottom + down, self.right + right)


class Tile(NamedTuple):
    """A part of the frame at a location; the whole frame if `box` is None."""

    location: Location
    box: Box | None = None


class CutMask(NamedTuple):
    """An object: the smallest box around it, and its mask within the box."""

    box: Box
    mask: np.ndarray  # (box height, box width) bool


def bound_mask(mask: np.ndarray) -> Box | None:
    """Find the smallest box around the set pixels of a mask.

    Parameters
    ----------
    mask : (H, W) bool ndarray

    Returns
    -------
    Box or None
        None if no pixel is set.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((5, 8), bool)
    >>> mask[1:3, 4:7] = True
    >>> bound_mask(mask)
    Box(top=1, left=4, bottom=3, right=7)
    """
    import numpy as np

    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def has_allowed_area(area: int, min_area: int, max_area: int) -> bool:
    """Return whether an area, in pixels, is inside limits. A `max_area` of 0 means no limit."""
    return area >= min_area and (not max_area or area <= max_area)
