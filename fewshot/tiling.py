"""A large frame as overlapping tiles, so that SAM sees small objects large and the memory holds one tile at a time."""
import math
from collections.abc import Sequence

import numpy as np

from fewshot.geometry import Box
from fewshot.parameters import explain

MOST_TILES = 10_000


def plan_tiles(shape: Sequence[int], size: int, side: int) -> list[Box | None]:
    """The tiles of a frame of shape (H, W), or None alone where the frame is taken at once.

    Parameters
    ----------
    size : of a tile, pixels; 0 for the whole frame
    side : the longest of the examples' boxes, pixels

    Raises ValueError, with a note for the user, when a tile would hold less than four times an example's side, or
    there would be more than MOST_TILES.
    """
    if not size or size >= max(shape[:2]):
        return [None]
    overlap = choose_overlap(side)
    if size < 2 * overlap:
        raise explain(ValueError('Tile Size is too small for the examples'),
                      f'Seen: tiles of {size} pixels, and an example of {side}. Enter {2 * overlap} or more, or 0 for '
                      'the whole frame.')
    tiles = place_tiles(shape, size, overlap)
    if len(tiles) > MOST_TILES:
        raise explain(ValueError('Tile Size is too small for the frame'),
                      f'Seen: {size} pixels, which makes {len(tiles):,} tiles of a frame. Enter a larger one: a tile '
                      'takes the time of a frame.')
    return [*tiles]


def place_tiles(shape: Sequence[int], size: int, overlap: int) -> list[Box]:
    """Tiles of `size` by `size` pixels that cover a frame of shape (H, W, ...), row by row, evenly spread.

    Where the frame is smaller than a tile, so is the tile. Neighbours share `overlap` pixels or more; an object whose
    box is smaller by two pixels or more lies inside one of them and touches none of its inner borders.

    `overlap` must be smaller than `size`.
    """
    rows, columns = (_place_starts(length, size, overlap) for length in shape[:2])
    return [Box(top, left, min(top + size, shape[0]), min(left + size, shape[1])) for top in rows for left in columns]


def _place_starts(length: int, size: int, overlap: int) -> list[int]:
    count = max(1, math.ceil((length - overlap) / (size - overlap)))
    return [round(start) for start in np.linspace(0, max(0, length - size), count)]


def choose_overlap(side: int) -> int:
    """The pixels that neighbours must share for objects of up to `side` pixels: twice as many."""
    return max(2 * side, side + 2)


def touches_inner_border(box: Box, tile: Box, shape: Sequence[int]) -> bool:
    """Whether an object's box, in pixels of its tile, reaches a border of the tile that is none of the frame's."""
    return (box.top == 0 < tile.top or box.left == 0 < tile.left
            or box.bottom == tile.bottom - tile.top and tile.bottom < shape[0]
            or box.right == tile.right - tile.left and tile.right < shape[1])


def choose_tile(box: Box | None, tiles: Sequence[Box | None]) -> Box | None:
    """The tile in which an object's box, in pixels of the frame, has the most room around it.

    The first one where the frame is taken at once or the object has no box.
    """
    def room(tile: Box | None) -> int:
        if box is None or tile is None:
            return 0
        return min(box.top - tile.top, box.left - tile.left, tile.bottom - box.bottom, tile.right - box.right)
    return max(tiles, key=room)
