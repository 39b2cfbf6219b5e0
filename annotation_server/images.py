"""Image files in a folder, read with large_image."""

import logging
import pickle
from pathlib import Path
from typing import Any

import large_image
import numpy as np
from large_image.constants import TILE_FORMAT_NUMPY
from large_image.exceptions import TileGeneralError

SUFFIXES = {'.tif', '.tiff', '.png', '.jpg', '.jpeg', '.yml', '.yaml'}
JOINING_SUFFIXES = {'.json', '.yml', '.yaml'}
SUBFOLDER_SUFFIX = '.dataset'

# By default, large_image opens no PNG and no JPEG with a longer side than 4096 pixels.
large_image.config.setConfig('max_small_image_size', 2**14)

logger = logging.getLogger(__name__)


def find_datasets(folder: Path) -> dict[str, list[Path]]:
    """Return the datasets of a folder as {dataset name: its files}, sorted by name.

    Each image in the folder is a dataset. Each subfolder NAME.dataset is a dataset too, with all of
    its files. It may be empty. The first file is the image that the dataset shows. If a JSON or
    YAML file joins the others, it comes first. The name of the dataset is that of the image or of
    the subfolder, without its suffix. A file in the folder that large_image cannot open is ignored
    with a warning in the log.

    Raises
    ------
    ValueError
        Two datasets would have the same name.
    """
    datasets: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.suffix == SUBFOLDER_SUFFIX:
            files = sorted(
                path.iterdir(),
                key=lambda file: (file.suffix.lower() not in JOINING_SUFFIXES, file.name),
            )
        elif path.is_file() and path.suffix.lower() in SUFFIXES and can_open(path):
            files = [path]
        else:
            continue
        if path.stem in datasets:
            other = (
                datasets[path.stem][0].name
                if datasets[path.stem]
                else f'{path.stem}{SUBFOLDER_SUFFIX}'
            )
            raise ValueError(
                f'{other} and {path.name} in {folder} would both be dataset "{path.stem}". '
                'Rename one of them.'
            )
        datasets[path.stem] = files
    return datasets


def can_open(path: Path) -> bool:
    """Return whether large_image can open a file. If not, log the reason."""
    try:
        large_image.open(path)
    except TileGeneralError as error:
        logger.warning('%s is not served: %s', path, error)
        return False
    return True


def read_metadata(path: Path) -> dict[str, Any]:
    """Return large_image's metadata: sizeX, sizeY and dtype, for several planes also frames."""
    return large_image.open(path).getMetadata()


def read_region(
    path: Path,
    frame: int,
    box: dict[str, float],
    width: int | None = None,
    height: int | None = None,
) -> bytes:
    """Return a region of one frame as a pickled array, (H, W, 1) or (H, W, 3).

    Parameters
    ----------
    path : Path
        The image file.
    frame : int
        Index of the frame, 0 for an image of a single plane.
    box : dict
        Any of left, top, right and bottom, in pixels. By default the region is the whole image.
        Parts outside the image are cut off, so a region outside the image gives an empty array.
    width, height : int, optional
        Largest size of the answer, pixels. The region is scaled to it and keeps its proportions.

    Raises
    ------
    TileGeneralError
        The image does not have this frame.
    """
    region = {**box, 'units': 'base_pixels'}
    output = {
        name: size
        for name, size in (('maxWidth', width), ('maxHeight', height))
        if size is not None
    }
    source = large_image.open(path)
    pixels, _ = source.getRegion(
        region=region, frame=frame, output=output, format=TILE_FORMAT_NUMPY
    )
    return pickle.dumps(np.ascontiguousarray(pixels), protocol=5)
