"""The labelled image as a dataset of several positions, and the nuclei that a user would outline in it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from skimage.measure import find_contours

DATA = Path(__file__).parents[1] / 'tests' / 'data'  # the tests need the image as well
NAME = 'nuclei'
SIDE = 128  # of a position, pixels: sixteen positions; 256 makes four
BLACK, WHITE = 1, 99.8  # contrast, percentiles


@dataclass(frozen=True)
class Example:
    """A nucleus that the user outlined: its position (0-based), its area in pixels, its (N, 2) outline as x, y."""

    position: int
    area: int
    outline: np.ndarray


def read_image() -> tuple[np.ndarray, np.ndarray]:
    """The image, (512, 512) uint16, and its labels, (512, 512) uint16 with 0 for background."""
    return tifffile.imread(DATA / 'nuclei.tif'), tifffile.imread(DATA / 'nuclei_labels.tif')


def cut(image: np.ndarray, side: int) -> np.ndarray:
    """An (H, W) image as its positions, row by row: (H / side * W / side, side, side)."""
    height, width = image.shape
    return (
        image.reshape(height // side, side, width // side, side)
        .swapaxes(1, 2)
        .reshape(-1, side, side)
    )


def write_dataset(folder: Path, positions: np.ndarray) -> None:
    """Write one file a position, the .yml that joins them along XY, and the layer through which a user sees them."""
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


def outline(mask: np.ndarray) -> np.ndarray:
    """The outline of a mask's largest part, (N, 2) as x, y, pixel centres at +0.5, closed along the image's border.

    Not the worker's own function, so that a worker that is half a pixel off scores worse and is not matched by the
    same error here.
    """
    contours = find_contours(np.pad(mask, 1).astype(float), 0.5)
    longest = max(contours, key=len)[:-1]  # the last point repeats the first
    return longest[:, ::-1] - 0.5  # one pixel of padding off, half a pixel on


def touches_border(mask: np.ndarray) -> bool:
    """Whether an object reaches the border of its position, and so may be only a part of one."""
    return bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())


def choose_examples(labels: np.ndarray, count: int, per_position: int) -> list[Example]:
    """Nuclei of the first positions that are whole and of typical size: half to twice the median of the whole ones.

    labels: (positions, side, side). At most `per_position` of each position, in the order of their numbers.
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
        if median / 2 <= area <= 2 * median and taken < per_position and len(examples) < count:
            examples.append(Example(position, area, outline(mask)))
    return examples


def forget_examples(labels: np.ndarray, examples: list[Example]) -> np.ndarray:
    """The labels, (positions, side, side), without the nuclei that were shown to the worker: it is to find others."""
    others = labels.copy()
    for example in examples:
        column, row = example.outline.mean(axis=0).astype(int)
        position = others[example.position]
        position[position == position[row, column]] = 0
    return others


def to_annotation(example: Example, dataset_id: str, tag: str) -> dict:
    """The example as the server takes it."""
    return {
        'datasetId': dataset_id,
        'shape': 'polygon',
        'tags': [tag],
        'channel': 0,
        'location': {'XY': example.position, 'Z': 0, 'Time': 0},
        'coordinates': [{'x': float(x), 'y': float(y)} for x, y in example.outline],
    }


def to_outline(annotation: dict) -> np.ndarray:
    """The outline of a polygon as the server gives it, (N, 2) as x, y."""
    return np.array([(point['x'], point['y']) for point in annotation['coordinates']])
