"""A segmenter without a model, and a batch of twelve frames for it.

`python -m tests.end_to_end.stand_in` is the worker with this segmenter and takes its arguments. It
serves tests and benchmarks that are not about the model: a job takes a second.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from skimage import measure

import entrypoint
from fewshot.geometry import Box, CutMask
from fewshot.sam.candidates import Candidate, pack_mask
from fewshot.sam.checkpoints import VIT_MINI
from tests.datasets import make_layer, write_dataset

if TYPE_CHECKING:  # imports pytest, which the worker's process does not need
    from tests.conftest import Server

FRAMES = 12
SIDE = 48  # of a frame, pixels
# Row and column of the bright squares of a frame. They move from frame to frame.
CORNERS = [(4, 4), (4, 28), (26, 12)]
HEIGHT, WIDTH = 12, 9  # of a square
EXPECTED = Counter(
    (xy, column + xy // 4, row + xy % 4) for xy in range(FRAMES) for row, column in CORNERS
)
BRIGHT = 127


class BrightSegmenter:
    """A `fewshot.sam.segmenter.Segmenter`: bright areas are objects, and all objects are equal."""

    input_size = 1024
    uses_gpu = False

    def propose(self, rgb: np.ndarray, report: Callable[[float], None]) -> list[Candidate]:
        """Propose the bright areas of a frame."""
        labels = measure.label(rgb[..., 0] > BRIGHT)
        candidates = []
        for region in measure.regionprops(labels):
            mask = pack_mask(region.image)
            candidates.append(Candidate(Box(*region.bbox), mask, int(region.area), 0.9, 0.9))
        report(1.0)
        return candidates

    def describe(
        self,
        rgb: np.ndarray,
        objects: Sequence[CutMask | Candidate],
        report: Callable[[float], None],
    ) -> np.ndarray:
        """Return the same vector for each object."""
        report(1.0)
        return np.full((len(objects), VIT_MINI.channels), 0.5, np.float32)


def load_bright_segmenter(*_: Any) -> BrightSegmenter:
    """Return the segmenter, for the argument `load_segmenter` of the entrypoint's functions."""
    return BrightSegmenter()


def draw_frame(number: int) -> np.ndarray:
    """Return a frame of the batch, (SIDE, SIDE) uint8."""
    frame = np.zeros((SIDE, SIDE), np.uint8)
    for row, column in CORNERS:
        frame[row + number % 4 :, column + number // 4 :][:HEIGHT, :WIDTH] = 255
    return frame


def write_batch(folder: Path) -> None:
    """Write the frames as positions of a dataset named cells."""
    frames = np.stack([draw_frame(number) for number in range(FRAMES)])
    layers = [make_layer(0, mode='absolute', black=0, white=255)]
    write_dataset(folder, 'cells', frames[:, None, None, None], layers)


def outline_example(datasetId: str) -> dict[str, Any]:
    """Return an annotation around the first square of the first frame, with the tag example."""
    row, column = CORNERS[0]
    corners = [(0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)]
    return {
        'coordinates': [{'x': column + x, 'y': row + y} for x, y in corners],
        'tags': ['example'],
        'channel': 0,
        'location': {'XY': 0, 'Z': 0, 'Time': 0},
        'shape': 'polygon',
        'datasetId': datasetId,
    }


def place_objects(annotations: Iterable[Mapping]) -> Counter:
    """Return (XY, x, y of the first corner) of every annotation."""
    places: Counter = Counter()
    for annotation in annotations:
        left = min(point['x'] for point in annotation['coordinates'])
        top = min(point['y'] for point in annotation['coordinates'])
        places[annotation['location']['XY'], left, top] += 1
    return places


def list_scored(server: 'Server', dataset_id: str) -> set[str]:
    """Return the ids of the annotations of a dataset that have scores."""
    query = {'datasetId': dataset_id, 'limit': 0}
    values = server.client.get('annotation_property_values', parameters=query)
    return {one['annotationId'] for one in values}


def frames_of(places: Counter) -> set[int]:
    """Return the XY positions of objects."""
    return {xy for xy, *_ in places}


if __name__ == '__main__':
    entrypoint.main(load_segmenter=load_bright_segmenter)
