"""The worker's jobs on a group of pictures, over HTTP, one for each way."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import numpy as np

import entrypoint
from annotation_client.annotations import UPennContrastAnnotationClient
from demo.__main__ import EXAMPLE_TAG, SMALL_MODEL, choose_settings, describe_job, download_polygons
from demo.dataset import NAME, Example, to_annotation, to_outline, write_dataset
from demo.processes import ROOT, running_server
from evaluation.groups import Group, outline_examples
from evaluation.scoring import outline_wrong_kind
from fewshot.reporting.reporter import Reporter
from fewshot.sam.checkpoints import VIT_H, VIT_MINI, Checkpoint
from fewshot.settings import Settings

if TYPE_CHECKING:
    from fewshot.sam.segmenter import Segmenter

COUNTER_TAG = 'counter-example'
COUNTER_EXAMPLES = 3
POINTS, LARGE_POINTS = (
    32,
    16,
)  # per side of a picture; of a large one, or of a tile of it, for the sake of time
SPECIFIED, SKIPPED, OWN_NMS = (
    'as specified',
    'as specified, duplicates skipped',
    'as specified, own box NMS',
)
DEFAULTS, COUNTERED, TILED = 'defaults', 'counter-examples', 'tiles'


class Lab(NamedTuple):
    """A server with the pictures of a group on it, and their examples."""

    apiUrl: str
    token: str
    datasetId: str
    pictures: int
    points: int  # per side
    examples: list[Example]
    compute: Callable[..., None] = entrypoint.compute

    @property
    def smallest(self) -> int:
        """Min Mask Area as the README recommends it, pixels."""
        return min(one.area for one in self.examples) // 2

    @property
    def store(self) -> UPennContrastAnnotationClient:
        """The annotations on the server."""
        return UPennContrastAnnotationClient(self.apiUrl, self.token)

    def upload(self, objects: list[Example], tag: str) -> None:
        """Give the server outlines with a tag, as a user would."""
        self.store.createMultipleAnnotations(
            [to_annotation(one, self.datasetId, tag) for one in objects]
        )

    def run(
        self, way: str, checkpoint: Checkpoint = VIT_MINI, /, **changes: Any
    ) -> list[list[np.ndarray]]:
        """Run a job on all pictures and return the outlines that it uploaded for each, (N, 2) as x, y.

        Parameters
        ----------
        way : str
            The tag of what is found.
        checkpoint : Checkpoint
            Replaces the thresholds of the model's own.
        changes
            Values of the form.
        """
        settings = {
            **choose_settings(self.examples, SMALL_MODEL),
            'Min Mask Area': self.smallest,
            'Points per side': self.points,
            **changes,
        }
        job = {**describe_job(self.datasetId, settings), 'tags': [way]}
        with (
            patch.dict(os.environ, SAM_CHECKPOINT_DIR=str(ROOT / 'models')),
            contextlib.redirect_stdout(io.StringIO()),
        ):  # where the messages for the page go
            self.compute(
                self.datasetId,
                self.apiUrl,
                self.token,
                job,
                load_segmenter=partial(load_with_thresholds, checkpoint),
            )
        return [[to_outline(one) for one in here] for here in self.polygons(way)]

    def polygons(self, tag: str) -> list[list[dict]]:
        """Of each picture the polygons that carry a tag, as the server has them."""
        return download_polygons(self.store, self.datasetId, tag, self.pictures)


def load_with_thresholds(
    checkpoint: Checkpoint, settings: Settings, reporter: Reporter
) -> 'Segmenter':
    """Load the model of the settings with the thresholds of another checkpoint of the same file."""
    return entrypoint.load_segmenter(replace(settings, checkpoint=checkpoint), reporter)


@contextlib.contextmanager
def running_lab(
    folder: Path,
    group: Group,
    compute: Callable[..., None] = entrypoint.compute,
    points: int = POINTS,
) -> Iterator[Lab]:
    """Serve the pictures of a group, with examples outlined, from a new folder. Jobs are run by `compute`."""
    write_dataset(folder / 'data', group.images)
    with running_server(folder / 'data', folder / 'server.log') as server:
        lab = Lab(
            server['apiUrl'],
            server['token'],
            server['datasets'][NAME],
            len(group.images),
            LARGE_POINTS if group.tile_size else points,
            outline_examples(group),
            compute,
        )
        lab.upload(lab.examples, EXAMPLE_TAG)
        yield lab


def run_ways(lab: Lab, group: Group) -> Iterator[tuple[str, list[list[np.ndarray]], list[Example]]]:
    """Each way that fits a group: its name, the outlines it found in each picture, the counter-examples it was shown.

    The method as specified is run by the worker with Duplicates at keep and without scores: `make bench` shows that
    this gives its masks one by one, and it spares a large frame the hours of the specification's own code. Its box NMS
    is that of SAM's generator and of ViT-H. The small model's own is stricter, because it proposes parts and wholes. So either
    measure against duplicates is a way of its own, and the defaults have both.
    """
    plain = {'Duplicates': 'keep', 'Save Scores': False}
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
