"""A batch of twelve frames and a worker without a model: `python -m tests.end_to_end.stand_in` takes its arguments.

The model is not what is tested where this serves. What is bright in a frame is found, and is like the examples.
"""
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from fewshot.duplicates import Found
from skimage import measure

import entrypoint
from fewshot.geometry import Box
from fewshot.sam.masks import pack_mask
from fewshot.sam.proposals import Candidate
from tests.datasets import make_layer, write_dataset

FRAMES = 12
SIDE = 48
CORNERS = [(4, 4), (4, 28), (26, 12)]  # of the bright squares in each frame, row and column; they move with the frame
EXPECTED = Counter((xy, column + xy // 4, row + xy % 4) for xy in range(FRAMES) for row, column in CORNERS)




def draw_frame(number: int) -> np.ndarray:
    frame = np.zeros((SIDE, SIDE), np.uint8)
    for row, column in CORNERS:
        frame[row + number % 4:, column + number // 4:][:12, :9] = 255
    return frame


def outline_bright(predictor, lesson, parameters, tally, frame, report) -> list[Found]:
    """The stand-in: what is bright is found, and is like the examples."""
    labels = measure.label(frame.rgb[..., 0] > 127)
    found = []
    for region in measure.regionprops(labels):
        top, left, bottom, right = region.bbox
        candidate = Candidate(Box(top, left, bottom, right), pack_mask(region.image), int(region.area), 0.9, 0.9)
        found.append(Found(candidate, 0.9))
    report(0.5, 'halfway')
    tally.candidates += len(found)
    tally.kept += len(found)
    return found


STAND_INS: dict[str, Any] = {  # for functions of the entrypoint
    'load_model': lambda *_: SimpleNamespace(),
    'describe': lambda frame, objects, *_: torch.ones(len(objects), 4),
    'find_objects': outline_bright,
}


def write_batch(folder: Path) -> None:
    """The frames as positions of a dataset named cells."""
    frames = np.stack([draw_frame(number) for number in range(FRAMES)])
    write_dataset(folder, 'cells', frames[:, None, None, None], [make_layer(0, mode='absolute', black=0, white=255)])


def outline_example(datasetId: str) -> dict:
    """An annotation around the first square of the first frame, with the tag example."""
    row, column = CORNERS[0]
    return {'coordinates': [{'x': column + x, 'y': row + y} for x, y in ((0, 0), (9, 0), (9, 12), (0, 12))],
            'tags': ['example'], 'channel': 0, 'location': {'XY': 0, 'Z': 0, 'Time': 0}, 'shape': 'polygon',
            'datasetId': datasetId}


def place_objects(annotations: Iterable[Mapping]) -> Counter:
    """(XY, x, y of the first corner) of every annotation."""
    return Counter((one['location']['XY'], min(point['x'] for point in one['coordinates']),
                    min(point['y'] for point in one['coordinates'])) for one in annotations)


def frames_of(places: Counter) -> set[int]:
    return {xy for xy, *_ in places}


if __name__ == '__main__':
    with patch.multiple(entrypoint, **STAND_INS):
        entrypoint.main()
