"""Split a large frame into overlapping tiles, in which SAM sees small objects larger.

A tile is a box in the frame, or None where the frame is searched as a whole.
"""

import math
from collections.abc import Sequence

import numpy as np

from fewshot import messages
from fewshot.geometry import Box

MAX_TILES_PER_FRAME = 10_000


def plan_tiles(frame_shape: Sequence[int], tile_size: int, object_side: int) -> list[Box | None]:
    """Return the tiles of each frame.

    Parameters
    ----------
    frame_shape : (H, W, ...)
        Pixels.
    tile_size : int
        Side of a tile, pixels. 0 means the whole frame.
    object_side : int
        Longest side of the examples' boxes, pixels.

    Returns
    -------
    list of Box or None
        `[None]` if the frame is searched as a whole.

    Raises
    ------
    JobError
        A tile is less than four times as wide as the largest example, or there are too many tiles.

    Examples
    --------
    >>> plan_tiles((300, 500), tile_size=300, object_side=20)
    [Box(top=0, left=0, bottom=300, right=300), Box(top=0, left=200, bottom=300, right=500)]
    >>> plan_tiles((300, 500), tile_size=0, object_side=20)
    [None]
    """
    if not tile_size or tile_size >= max(frame_shape[:2]):
        return [None]
    overlap = choose_overlap(object_side)
    smallest = 2 * overlap
    if tile_size < smallest:
        raise messages.TILES_TOO_SMALL.error(size=tile_size, side=object_side, smallest=smallest)
    tiles = place_tiles(frame_shape, tile_size, overlap)
    if len(tiles) > MAX_TILES_PER_FRAME:
        raise messages.TOO_MANY_TILES.error(size=tile_size, count=len(tiles))
    return list(tiles)


def choose_overlap(object_side: int) -> int:
    """Return the pixels that neighbours must share, so that each object is inside one of them.

    Parameters
    ----------
    object_side : int
        Longest side of an object, pixels.

    Examples
    --------
    >>> choose_overlap(20)
    40
    """
    return max(2 * object_side, object_side + 2)


def place_tiles(frame_shape: Sequence[int], tile_size: int, overlap: int) -> list[Box]:
    """Cover a frame with as few tiles as possible, evenly spread, row by row.

    An object that is two pixels or more smaller than the overlap lies inside a tile and does not
    touch any of its inner borders.

    Parameters
    ----------
    frame_shape : (H, W, ...)
        Pixels. Where the frame is smaller than a tile, so is the tile.
    tile_size : int
        Side of a tile, pixels.
    overlap : int
        Pixels that neighbours share at least, less than `tile_size`.

    Returns
    -------
    list of Box

    Examples
    --------
    >>> place_tiles((100, 180), tile_size=100, overlap=20)
    [Box(top=0, left=0, bottom=100, right=100), Box(top=0, left=80, bottom=100, right=180)]
    """
    height, width = frame_shape[:2]
    tiles = []
    for top in _place_starts(height, tile_size, overlap):
        for left in _place_starts(width, tile_size, overlap):
            bottom, right = min(top + tile_size, height), min(left + tile_size, width)
            tiles.append(Box(top, left, bottom, right))
    return tiles


def _place_starts(length: int, tile_size: int, overlap: int) -> list[int]:
    count = max(1, math.ceil((length - overlap) / (tile_size - overlap)))
    last = max(0, length - tile_size)
    return [round(start) for start in np.linspace(0, last, count)]


def touches_inner_border(box: Box, tile: Box, frame_shape: Sequence[int]) -> bool:
    """Return whether an object reaches a border of its tile that is not a border of the frame.

    Parameters
    ----------
    box : Box
        The object, in pixels of the tile.
    tile : Box
        In pixels of the frame.
    frame_shape : (H, W, ...)

    Examples
    --------
    >>> left_tile = Box(top=0, left=0, bottom=100, right=100)
    >>> touches_inner_border(Box(0, 0, 9, 9), left_tile, frame_shape=(100, 180))
    False
    >>> touches_inner_border(Box(0, 91, 9, 100), left_tile, frame_shape=(100, 180))
    True
    """
    height, width = frame_shape[:2]
    above = tile.top > 0 and box.top == 0
    left = tile.left > 0 and box.left == 0
    below = tile.bottom < height and box.bottom == tile.height
    right = tile.right < width and box.right == tile.width
    return above or left or below or right


def choose_tile(box: Box | None, tiles: Sequence[Box | None]) -> Box | None:
    """Return the tile in which an object has the most room around it.

    Parameters
    ----------
    box : Box or None
        The object, in pixels of the frame. None for an object outside the frame.
    tiles : sequence of Box or None

    Returns
    -------
    Box or None
        The first tile if the object has no box.

    Examples
    --------
    >>> choose_tile(Box(10, 95, 20, 110), place_tiles((100, 180), tile_size=100, overlap=20))
    Box(top=0, left=80, bottom=100, right=180)
    """

    def room(tile: Box | None) -> int:
        if box is None or tile is None:
            return 0
        return min(
            box.top - tile.top,
            box.left - tile.left,
            tile.bottom - box.bottom,
            tile.right - box.right,
        )

    return max(tiles, key=room)
