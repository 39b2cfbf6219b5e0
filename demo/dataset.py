"""The labelled image as a dataset of several positions, and nuclei that a user would outline."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from skimage.measure import find_contours

from fewshot.images.layers import Layer, merge_channel

DATA = Path(__file__).parents[1] / 'tests' / 'data'  # the tests need the image as well
NAME = 'nuclei'
SIDE = 128  # of a position, pixels: sixteen positions; 256 makes four
BLACK, WHITE = 1, 99.8  # contrast, percentiles


@dataclass(frozen=True)
class Example:
    """A nucleus that the user outlined.

    Attributes
    ----------
    position : int
        From 0.
    area : int
        Pixels.
    outline : (N, 2) ndarray
        x and y.
    """

    position: int
    area: int
    outline: np.ndarray


def read_image() -> tuple[np.ndarray, np.ndarray]:
    """Return the image and its labels, (512, 512) uint16 each. Label 0 is background."""
    return tifffile.imread(DATA / 'nuclei.tif'), tifffile.imread(DATA / 'nuclei_labels.tif')


def cut(image: np.ndarray, side: int) -> np.ndarray:
    """Cut an (H, W) image to its positions, row by row: (H / side * W / side, side, side)."""
    height, width = image.shape
    grid = image.reshape(height // side, side, width // side, side)
    return grid.swapaxes(1, 2).reshape(-1, side, side)


def write_dataset(folder: Path, positions: np.ndarray) -> None:
    """Write positions (N, side, side) as a dataset of the annotation server.

    There is one image file per position, a .yml file that joins them along XY, and a file with the
    layer and its contrast.
    """
    (folder / NAME).mkdir(parents=True)
    lines = ['sources:']
    for number, pixels in enumerate(positions):
        file = f'{NAME}/xy{number + 1:02}.tif'
        tifffile.imwrite(folder / file, pixels, tile=(64, 64))
        lines += [f'  - path: {file}', f'    xy: {number}']
    (folder / f'{NAME}.yml').write_text('\n'.join(lines) + '\n')
    layer = {
        'id': 'dna',
        'name': 'DNA',
        'channel': 0,
        'color': '#FFFFFF',
        'visible': True,
        'contrast': {'mode': 'percentile', 'blackPoint': BLACK, 'whitePoint': WHITE},
    }
    (folder / f'{NAME}.layers.json').write_text(json.dumps({'layers': [layer]}))


def color_picture(image: np.ndarray) -> np.ndarray:
    """Return a picture as the worker sees it: (H, W) uint16 -> (H, W, 3) uint8."""
    rgb = np.zeros((*image.shape, 3), np.uint8)
    merge_channel(rgb, image, Layer(0, (1, 1, 1), True, BLACK, WHITE))
    return rgb


def outline(mask: np.ndarray) -> np.ndarray:
    """Trace the largest part of a mask: (N, 2) as x and y, with pixel centres at +0.5.

    The outline is closed along the image's border. This is not the worker's own function. So if
    the worker's outlines are half a pixel off, they score worse, because the error is not repeated
    here.
    """
    contours = find_contours(np.pad(mask, 1).astype(float), 0.5)
    longest = max(contours, key=len)[:-1]  # the last point repeats the first
    return longest[:, ::-1] - 0.5  # one pixel of padding off, half a pixel on


def touches_border(mask: np.ndarray) -> bool:
    """Return whether an object touches the border of its position, and so may be cut."""
    return bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())


def choose_examples(labels: np.ndarray, count: int, per_position: int) -> list[Example]:
    """Choose nuclei of the first positions that are whole and of typical size.

    The area of a typical nucleus is half to twice the median of the whole ones.

    Parameters
    ----------
    labels : (positions, side, side) ndarray
    count : int
        Nuclei to choose.
    per_position : int
        Maximum per position, in the order of their labels.
    """
    whole = []
    for position, numbers in enumerate(labels):
        masks = [numbers == number for number in np.unique(numbers[numbers > 0])]
        whole += [(position, mask) for mask in masks if not touches_border(mask)]
    median = np.median([mask.sum() for _, mask in whole])
    examples: list[Example] = []
    for position, mask in whole:
        area = int(mask.sum())
        taken = sum(example.position == position for example in examples)
        has_room = taken < per_position and len(examples) < count
        if has_room and median / 2 <= area <= 2 * median:
            examples.append(Example(position, area, outline(mask)))
    return examples


def forget_examples(labels: np.ndarray, examples: list[Example]) -> np.ndarray:
    """Return the labels, (positions, side, side), without the examples.

    The worker is meant to find the other nuclei.
    """
    others = labels.copy()
    for example in examples:
        column, row = example.outline.mean(axis=0).astype(int)
        position = others[example.position]
        position[position == position[row, column]] = 0
    return others


def to_annotation(example: Example, dataset_id: str, tag: str) -> dict:
    """Return the example as an annotation for the server."""
    return {
        'datasetId': dataset_id,
        'shape': 'polygon',
        'tags': [tag],
        'channel': 0,
        'location': {'XY': example.position, 'Z': 0, 'Time': 0},
        'coordinates': [{'x': float(x), 'y': float(y)} for x, y in example.outline],
    }


def to_outline(annotation: dict) -> np.ndarray:
    """Return the outline of a polygon from the server, (N, 2) as x and y."""
    return np.array([(point['x'], point['y']) for point in annotation['coordinates']])
