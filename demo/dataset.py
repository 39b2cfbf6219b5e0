"""The labelled image as a dataset, and nuclei that a user would outline."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from skimage.measure import find_contours

from fewshot.images.layers import Layer, merge_channel

DATA = Path(__file__).parents[1] / 'tests' / 'data'  # the tests need the image as well
NAME = 'nuclei'
BLACK, WHITE = 1, 99.8  # contrast, percentiles
REGIONS = 2, 4  # rows and columns, of an image of which a user outlines objects all over it


@dataclass(frozen=True)
class Example:
    """An object that the user outlined.

    Attributes
    ----------
    area : int
        Pixels.
    outline : (N, 2) ndarray
        x and y.
    position : int
        Number of the frame, from 0.
    """

    area: int
    outline: np.ndarray
    position: int = 0


def read_image() -> tuple[np.ndarray, np.ndarray]:
    """Return the image and its labels, (512, 512) uint16 each. Label 0 is background."""
    return tifffile.imread(DATA / 'nuclei.tif'), tifffile.imread(DATA / 'nuclei_labels.tif')


def write_dataset(folder: Path, frames: np.ndarray) -> None:
    """Write frames (N, H, W) as a dataset of the annotation server.

    There is one image file per frame, a .yml file that joins them along XY, and a file with the
    layer and its contrast.
    """
    (folder / NAME).mkdir(parents=True)
    lines = ['sources:']
    for number, pixels in enumerate(frames):
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
    """Return whether an object touches the border of its frame, and so may be cut."""
    return bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())


def list_whole(labels: np.ndarray) -> list[np.ndarray]:
    """Return the mask of each object that does not touch the border, in the order of the labels."""
    masks = [labels == number for number in np.unique(labels[labels > 0])]
    return [mask for mask in masks if not touches_border(mask)]


def has_typical_area(area: int, areas: list[int]) -> bool:
    """Return whether an area is half to twice the median of some areas."""
    median = np.median(areas)
    return bool(median / 2 <= area <= 2 * median)


def choose_examples(labels: np.ndarray, count: int, seed: int = 0) -> list[Example]:
    """Choose objects as a user would: whole, of typical size, and from all over the image.

    The image has REGIONS. They are visited in turn, and an object is drawn by lot in each.

    Parameters
    ----------
    labels : (H, W) ndarray
    count : int
        Objects to choose.
    seed : int
        Another seed chooses others.
    """
    whole = list_whole(labels)
    areas = [int(mask.sum()) for mask in whole]
    typical = [mask for mask in whole if has_typical_area(int(mask.sum()), areas)]
    ranked = []
    drawn: Counter[tuple[int, ...]] = Counter()  # objects per region
    for number in np.random.default_rng(seed).permutation(len(typical)):
        middle = np.argwhere(typical[number]).mean(axis=0)
        region = tuple((middle * REGIONS / labels.shape).astype(int).tolist())
        ranked.append((drawn[region], region, number))
        drawn[region] += 1
    chosen = [typical[number] for _, _, number in sorted(ranked)[:count]]
    return [Example(int(mask.sum()), outline(mask)) for mask in chosen]


def forget_examples(labels: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
    """Return the labels, (H, W), without the examples: the worker is to find the other objects."""
    others = labels.copy()
    for example in examples:
        column, row = example.outline.mean(axis=0).astype(int)
        others[others == others[row, column]] = 0
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
