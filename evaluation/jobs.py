"""Run the worker's jobs on a group of pictures over HTTP, one job per way."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

import entrypoint
from annotation_client.annotations import UPennContrastAnnotationClient
from demo.__main__ import EXAMPLE_TAG, SMALL_MODEL, choose_settings, describe_job
from demo.dataset import NAME, Example, to_annotation, to_outline, write_dataset
from demo.processes import ROOT, running_server
from evaluation.groups import Group
from evaluation.scoring import outline_wrong_kind
from fewshot.sam.checkpoints import KNOWN, VIT_H, VIT_MINI, Checkpoint
from fewshot.settings import FAST, KEEP

COUNTER_TAG = 'counter-example'
COUNTER_EXAMPLES = 3
POINTS = 32  # per side of a picture of POINTS_SIDE pixels; a larger one has more
POINTS_SIDE = 256
LARGE_POINTS = 32  # per side of a large picture, or of a tile of it, to save time

# the ways
SPECIFIED = 'as specified'
SKIPPED = 'as specified, duplicates skipped'
OWN_NMS = 'as specified, own box NMS'
DEFAULTS = 'defaults'
COUNTERED = 'counter-examples'
TILED = 'tiles'


class Lab(NamedTuple):
    """A server with the pictures of a group and their examples.

    Attributes
    ----------
    apiUrl, token, datasetId : str
    pictures : int
        Number of pictures.
    points : int
        Points per side.
    examples : sequence of Example
    compute : callable
        Runs a job.
    """

    apiUrl: str
    token: str
    datasetId: str
    pictures: int
    points: int
    examples: Sequence[Example]
    compute: Callable[..., None] = entrypoint.compute

    @property
    def smallest(self) -> int:
        """Min Mask Area in pixels, as the guide recommends."""
        return min(one.area for one in self.examples) // 2

    @property
    def store(self) -> UPennContrastAnnotationClient:
        """The annotations on the server."""
        return UPennContrastAnnotationClient(self.apiUrl, self.token)

    def upload(self, objects: Sequence[Example], tag: str) -> None:
        """Upload outlines with a tag, as a user would."""
        self.store.createMultipleAnnotations(
            [to_annotation(one, self.datasetId, tag) for one in objects]
        )

    def run(
        self, way: str, checkpoint: Checkpoint = VIT_MINI, /, **changes: Any
    ) -> list[list[np.ndarray]]:
        """Run a job on all pictures.

        Parameters
        ----------
        way : str
            The tag of the outlines that it uploads.
        checkpoint : Checkpoint
            Its thresholds replace those of the model.
        **changes
            Values of the form.

        Returns
        -------
        list of list of (N, 2) ndarray
            The outlines in each picture as x and y.
        """
        settings = {
            **choose_settings(self.examples, SMALL_MODEL),
            'Batch XY': 'all',
            'Points per side': self.points,
            'Speed': FAST,  # as in the demo
            **changes,
        }
        job = {**describe_job(self.datasetId, settings), 'tags': [way]}
        with (
            patch.dict(os.environ, SAM_CHECKPOINT_DIR=str(ROOT / 'models')),
            patch.dict(KNOWN, {checkpoint.name: checkpoint}),
            contextlib.redirect_stdout(io.StringIO()),  # it gets the messages for the page
        ):
            self.compute(self.datasetId, self.apiUrl, self.token, job)
        return [[to_outline(one) for one in here] for here in self.polygons(way)]

    def polygons(self, tag: str) -> list[list[dict]]:
        """Return the polygons with a tag per picture, as the server has them."""
        found: list[list[dict]] = [[] for _ in range(self.pictures)]
        polygons = self.store.getAnnotationsByDatasetId(self.datasetId, shape='polygon', tags=[tag])
        for one in polygons:
            found[one['location']['XY']].append(one)
        return found


def choose_points(group: Group, points: int) -> int:
    """Return the points per side for a group. `points` are those of a small picture."""
    if group.tile_size:
        return LARGE_POINTS
    return points * max(1, group.images.shape[-1] // POINTS_SIDE)


@contextlib.contextmanager
def running_lab(
    folder: Path,
    group: Group,
    compute: Callable[..., None] = entrypoint.compute,
    points: int = POINTS,
) -> Iterator[Lab]:
    """Serve the pictures of a group with their examples.

    Parameters
    ----------
    folder : Path
        Gets the pictures and the server's log.
    group : Group
    compute : callable
        Runs the jobs.
    points : int
        Points per side of a small picture, see `choose_points`.
    """
    write_dataset(folder / 'data', group.images)
    with running_server(folder / 'data', folder / 'server.log') as server:
        lab = Lab(
            server['apiUrl'],
            server['token'],
            server['datasets'][NAME],
            pictures=len(group.images),
            points=choose_points(group, points),
            examples=group.examples,
            compute=compute,
        )
        lab.upload(lab.examples, EXAMPLE_TAG)
        yield lab


def run_ways(lab: Lab, group: Group) -> Iterator[tuple[str, list[list[np.ndarray]], list[Example]]]:
    """Run each way that fits a group.

    The worker runs the method as specified, keeping all outlines. `make bench` shows
    that this gives the same masks, and it saves hours on a large frame.

    The method as specified uses the box NMS of SAM's generator and of ViT-H. The box NMS of the
    small model is stricter, because this model proposes objects and their parts. So there are two
    measures against duplicates. Each is a way of its own, and the defaults have both.

    Yields
    ------
    way : str
    outlines : list of list of (N, 2) ndarray
        The outlines found in each picture.
    counter_examples : list of Example
        The counter-examples that the job used.
    """
    plain = {'Existing Outlines': KEEP}
    loose = replace(VIT_MINI, box_nms_thresh=VIT_H.box_nms_thresh)
    for way, changes in ((SPECIFIED, plain), (SKIPPED, {})):
        yield way, lab.run(way, loose, **changes), []
    yield OWN_NMS, lab.run(OWN_NMS, **plain), []
    found = lab.run(DEFAULTS)
    yield DEFAULTS, found, []
    if group.has_others:
        wrong = outline_wrong_kind(group, found, COUNTER_EXAMPLES)
        lab.upload(wrong, COUNTER_TAG)
        yield COUNTERED, lab.run(COUNTERED, **{'Negative Tag': [COUNTER_TAG]}), wrong
    if group.tile_size:
        yield TILED, lab.run(TILED, **{'Tile Size': group.tile_size}), []
