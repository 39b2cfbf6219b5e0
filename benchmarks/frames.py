"""The frames to measure on: nuclei of the demo's image at any size, and their examples, on an annotation server."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from annotation_client.annotations import UPennContrastAnnotationClient
from demo.__main__ import EXAMPLE_TAG, SMALL_MODEL, choose_settings, describe_job
from demo.dataset import NAME, Example, choose_examples, read_image, to_annotation, to_outline
from demo.processes import running_server
from fewshot.settings import FIELDS, NumberField

PART = 384  # pixels of the image that fill a frame: 76 nuclei, large enough for the small model to see 41
EXAMPLES = 8


class Lab(NamedTuple):
    """A server with frames and examples on it."""

    apiUrl: str
    token: str
    datasetId: str
    settings: dict  # of the form, for these examples

    def describe_job(self, points: int, tag: str, **changes: Any) -> dict:
        """The parameters of a job on the first frame that gives a tag to what it finds; `changes` go into the form."""
        # the method as specified knows neither of the two
        settings = {
            **self.settings,
            'Batch XY': '',
            'Points per side': points,
            'Duplicates': 'keep',
            'Save Scores': False,
            **changes,
        }
        return {**describe_job(self.datasetId, settings), 'tags': [tag]}

    def read_outlines(self, tag: str) -> list[np.ndarray]:
        """The polygons with a tag, oldest first: (N, 2) each, x and y."""
        store = UPennContrastAnnotationClient(self.apiUrl, self.token)
        return [
            to_outline(annotation)
            for annotation in store.getAnnotationsByDatasetId(
                self.datasetId, shape='polygon', tags=[tag]
            )
        ]


def draw_frame(side: int) -> np.ndarray:
    """The same nuclei at any size: (side, side) uint16."""
    return cv2.resize(read_image()[0][:PART, :PART], (side, side), interpolation=cv2.INTER_LINEAR)


def outline_examples(side: int) -> list[Example]:
    """Nuclei that a user would outline in `draw_frame(side)`."""
    scale = side / PART
    chosen = choose_examples(read_image()[1][None, :PART, :PART], EXAMPLES, EXAMPLES)
    return [Example(0, round(one.area * scale**2), one.outline * scale) for one in chosen]


@contextlib.contextmanager
def running_lab(data: Path, side: int) -> Iterator[Lab]:
    """Serve the frames that `write_dataset` wrote to a folder, with examples in the first. The log lies beside it.

    The upper left corner of that one, `side` pixels wide, or all of it, is `draw_frame(side)`.
    """
    examples = outline_examples(side)
    settings = choose_settings(examples, SMALL_MODEL)
    largest = next(field for field in FIELDS if field.name == 'Max Mask Area')
    assert isinstance(largest, NumberField)
    if settings['Max Mask Area'] > largest.high:
        settings['Max Mask Area'] = 0  # the form has no limit for objects of this size
    with running_server(data, data.parent / 'server.log') as server:
        lab = Lab(server['apiUrl'], server['token'], server['datasets'][NAME], settings)
        store = UPennContrastAnnotationClient(lab.apiUrl, lab.token)
        store.createMultipleAnnotations(
            [to_annotation(one, lab.datasetId, EXAMPLE_TAG) for one in examples]
        )
        yield lab
