"""The pixels of the page: tiles of a frame as PNG, with the colours that the worker sees."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import large_image
import numpy as np
from large_image.constants import TILE_FORMAT_NUMPY

from fewshot.geometry import Location
from fewshot.images.layers import Layer, fix_contrast, merge_channel

SIDE = 512  # of a tile, pixels
MAX_SAMPLE_SIDE = 2048  # pixels of a frame that its percentiles are taken from
AXES = {'XY': 'IndexXY', 'Z': 'IndexZ', 'Time': 'IndexT', 'Channel': 'IndexC'}


def read_region(path: Path, frame: int, box: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Return a region of a frame.

    Parameters
    ----------
    path : Path
    frame : int
        Index of the frame.
    box : sequence of int
        Left, top, right and bottom, in pixels of the image.
    size : tuple of int
        Largest width and height of the result. Pixels are skipped to reach it, so that the
        type of the pixels stays the same.

    Returns
    -------
    (H, W, bands) ndarray of the image's type
    """
    edges = dict(zip(('left', 'top', 'right', 'bottom'), box, strict=True))
    pixels, _ = large_image.open(path).getRegion(
        region={**edges, 'units': 'base_pixels'},
        frame=frame,
        output={'maxWidth': size[0], 'maxHeight': size[1]},
        format=TILE_FORMAT_NUMPY,
        resample=None,
    )
    return np.atleast_3d(pixels)


def axis_lengths(metadata: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of positions per axis: XY, Z, Time and Channel.

    Examples
    --------
    >>> axis_lengths({'IndexRange': {'IndexZ': 3}})
    {'XY': 1, 'Z': 3, 'Time': 1, 'Channel': 1}
    """
    lengths = metadata.get('IndexRange', {})
    return {axis: lengths.get(index, 1) for axis, index in AXES.items()}


def count_pages(metadata: Mapping[str, Any]) -> int:
    """Return how many frames have the same position and channel. More than 1: the axis is unknown.

    Examples
    --------
    >>> count_pages({'frames': [{'Frame': 0}, {'Frame': 1}, {'Frame': 2}]})
    3
    """
    return len(metadata.get('frames') or [{}]) // math.prod(axis_lengths(metadata).values())


def find_frame(metadata: Mapping[str, Any], location: Location, channel: int) -> int:
    """Return the index of a frame. Raise a LookupError if the image does not have it."""
    wanted = (location.xy, location.z, location.time, channel)
    for number, frame in enumerate(metadata.get('frames') or [{}]):
        if tuple(frame.get(index, 0) for index in AXES.values()) == wanted:
            return number
    raise LookupError(f'The image has no {location}, channel {channel + 1}.')


@lru_cache(maxsize=1024)
def fix_layer(path: Path, changed: float, frame: int, layer: Layer) -> Layer:
    """Return a layer with intensities as its contrast. `changed` is the time of the file."""
    if not layer.is_percentile:
        return layer
    return fix_contrast(read_sample(path, changed, frame), layer)


@lru_cache(maxsize=8)
def read_sample(path: Path, changed: float, frame: int) -> np.ndarray:
    """Return a frame, without pixels in between if it is large. `changed` is the file's time."""
    metadata = large_image.open(path).getMetadata()
    width, height = metadata['sizeX'], metadata['sizeY']
    # A larger size would enlarge the frame.
    size = min(width, MAX_SAMPLE_SIDE), min(height, MAX_SAMPLE_SIDE)
    return read_region(path, frame, (0, 0, width, height), size)


def draw_tile(
    path: Path, location: Location, layers: Sequence[Layer], level: int, column: int, row: int
) -> bytes:
    """Draw a tile of a frame as a PNG.

    Parameters
    ----------
    path : Path
    location : Location
    layers : sequence of Layer
    level : int
        How often the frame is halved: 0 is its own resolution.
    column, row : int
        Of the tile, from the upper left corner of the frame.

    Raises
    ------
    LookupError
        The image has no such frame or no such tile.
    """
    metadata = large_image.open(path).getMetadata()
    step = SIDE << level
    left, top = column * step, row * step
    right, bottom = min(left + step, metadata['sizeX']), min(top + step, metadata['sizeY'])
    if not (0 <= left < right and 0 <= top < bottom):
        raise LookupError('The frame has no such tile.')
    width, height = -(-(right - left) >> level), -(-(bottom - top) >> level)
    # The browser stretches a smaller picture, so the tile is transparent outside the frame.
    tile = np.zeros((SIDE, SIDE, 4), np.uint8)
    tile[:height, :width, 3] = 255
    rgb = np.zeros((height, width, 3), np.uint8)
    for layer in layers:
        frame = find_frame(metadata, location, layer.channel)
        fixed = fix_layer(path, path.stat().st_mtime, frame, layer)
        pixels = read_region(path, frame, (left, top, right, bottom), (width, height))
        merge_channel(rgb[: pixels.shape[0], : pixels.shape[1]], pixels[:height, :width], fixed)
    tile[:height, :width, :3] = rgb[..., ::-1]
    done, png = cv2.imencode('.png', tile, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done
    return png.tobytes()
