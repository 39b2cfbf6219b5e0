"""The frames to measure on: nuclei of the demo's image, enlarged to any size.

An annotation server serves the frames and has examples for the first one.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from annotation_client.annotations import UPennContrastAnnotationClient
from demo.__main__ import EXAMPLE_TAG, EXAMPLES, SMALL_MODEL, choose_settings, describe_job
from demo.dataset import NAME, Example, choose_examples, read_image, to_annotation, to_outline
from demo.processes import running_server
from fewshot.settings import FIELDS, KEEP, NumberField

SMALLEST = 30  # Min Mask Area: the default, below which the worker and the method clean alike
PART = 384  # pixels of the image that fill a frame; they show 76 nuclei


class Lab(NamedTuple):
    """A server with frames and examples on it."""

    apiUrl: str
    token: str
    datasetId: str
    settings: dict  # of the form, for these examples

    @property
    def store(self) -> UPennContrastAnnotationClient:
        """The annotations on the server."""
        return UPennContrastAnnotationClient(self.apiUrl, self.token)

    def describe_job(self, points: int, tag: str, **changes: Any) -> dict:
        """Return the parameters of a job on the first frame.

        Parameters
        ----------
        points : int
            Points per side.
        tag : str
            The tag of the polygons that the job uploads.
        **changes
            Values of the form.
        """
        settings = {
            **self.settings,
            'Points per side': points,
            'Existing Outlines': KEEP,  # as the method is specified
            **changes,
        }
        return {**describe_job(self.datasetId, settings), 'tags': [tag]}

    def read_outlines(self, tag: str) -> list[np.ndarray]:
        """Return the polygons with a tag, oldest first: (N, 2) each, x and y."""
        polygons = self.store.getAnnotationsByDatasetId(self.datasetId, shape='polygon', tags=[tag])
        return [to_outline(polygon) for polygon in polygons]


def draw_frame(side: int) -> np.ndarray:
    """Return the same nuclei at any size: (side, side) uint16."""
    image, _ = read_image()
    return cv2.resize(image[:PART, :PART], (side, side), interpolation=cv2.INTER_LINEAR)


def outline_examples(side: int) -> list[Example]:
    """Return nuclei that a user would outline in `draw_frame(side)`."""
    scale = side / PART
    _, labels = read_image()
    chosen = choose_examples(labels[:PART, :PART], EXAMPLES)
    return [Example(round(one.area * scale**2), one.outline * scale) for one in chosen]


@contextlib.contextmanager
def running_lab(data: Path, side: int) -> Iterator[Lab]:
    """Serve the frames that `write_dataset` wrote to a folder, with examples in the first frame.

    Parameters
    ----------
    data : Path
        The folder. The server's log is written beside it.
    side : int
        Pixels. The upper left square of the first frame with this side is `draw_frame(side)`.
    """
    examples = outline_examples(side)
    settings = {**choose_settings(examples, SMALL_MODEL), 'Min Mask Area': SMALLEST}
    largest = next(field for field in FIELDS if field.name == 'Max Mask Area')
    assert isinstance(largest, NumberField)
    if settings['Max Mask Area'] > largest.high:
        settings['Max Mask Area'] = 0  # the form has no limit for objects of this size
    with running_server(data, data.parent / 'server.log') as server:
        lab = Lab(server['apiUrl'], server['token'], server['datasets'][NAME], settings)
        lab.store.createMultipleAnnotations(
            [to_annotation(one, lab.datasetId, EXAMPLE_TAG) for one in examples]
        )
        yield lab
