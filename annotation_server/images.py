"""The pixels: image files in a folder, read with large_image."""

import logging
import pickle
from pathlib import Path
from typing import Any

import large_image
import numpy as np
from large_image.constants import TILE_FORMAT_NUMPY
from large_image.exceptions import TileGeneralError

SUFFIXES = {'.tif', '.tiff', '.png', '.jpg', '.jpeg', '.yml', '.yaml'}
ENCODINGS = ('pickle:5', 'TIFF')

logger = logging.getLogger(__name__)


def find_images(folder: Path) -> dict[str, Path]:
    """Return the images that lie directly in a folder as {dataset name: file}, sorted by name.

    The name is the file's without its suffix. A file that large_image cannot open is left out with a logged warning.

    Raises
    ------
    ValueError
        If two files would make datasets of the same name.
    """
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        try:
            large_image.open(path)
        except TileGeneralError as error:
            logger.warning('%s is not served: %s', path, error)
            continue
        if path.stem in images:
            raise ValueError(
                f'{images[path.stem].name} and {path.name} in {folder} would both be dataset "{path.stem}": rename one.'
            )
        images[path.stem] = path
    return images


def read_metadata(path: Path) -> dict[str, Any]:
    """Return large_image's metadata: sizeX, sizeY, dtype and, if there are several planes, frames and IndexRange."""
    return large_image.open(path).getMetadata()


def read_region(
    path: Path, frame: int, box: dict[str, float], encoding: str, width: int | None = None, height: int | None = None
) -> tuple[bytes, str]:
    """Return a region of one frame as (bytes, MIME type).

    Parameters
    ----------
    frame : the frame's index; 0 for an image of a single plane.
    box : any of left, top, right, bottom, in pixels; the whole image where they are left out. What is outside the
        image is cut off, so that a region wholly outside gives an empty array or no bytes.
    encoding : 'pickle:5' for the exact array, (H, W, 1) or (H, W, 3); 'TIFF' for a file of (H, W) or (H, W, 3), in
        which large_image turns everything but one-band uint8 and uint16 into uint8.

    width, height : pixels that the answer has at most, proportions kept; what is smaller is enlarged

    Raises
    ------
    TileGeneralError
        If the image has no such frame.
    """
    source = large_image.open(path)
    region = {**box, 'units': 'base_pixels'}
    output = {name: size for name, size in (('maxWidth', width), ('maxHeight', height)) if size is not None}
    if encoding == 'TIFF':
        return source.getRegion(region=region, frame=frame, output=output, encoding='TIFF')
    pixels, _ = source.getRegion(region=region, frame=frame, output=output, format=TILE_FORMAT_NUMPY)
    return pickle.dumps(np.ascontiguousarray(pixels), protocol=5), 'application/octet-stream'
