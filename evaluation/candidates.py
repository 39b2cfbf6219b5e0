"""Every candidate of a group, with its vectors and the truth, computed once per picture.

The ways to score or to drop candidates are then compared without the model. The steps are those of
`fewshot.search.FrameSearch`, without its server, its threshold and its area limits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from segment_anything.modeling import Sam

from demo.dataset import BLACK, WHITE, Example, to_annotation
from evaluation.groups import Group
from fewshot.geometry import Box, CutMask
from fewshot.images.layers import Layer, fix_contrast, merge_channel
from fewshot.images.tiling import choose_tile, plan_tiles
from fewshot.polygons import cut_annotation
from fewshot.sam.candidates import Candidate
from fewshot.sam.checkpoints import Checkpoint
from fewshot.sam.cleaning import clean_mask, select_cleaned
from fewshot.sam.segmenter import SamSegmenter
from fewshot.search import DESCRIBED_MIN_AREA

LAYER = Layer(0, (1, 1, 1), True, BLACK, WHITE)  # that of the demo's dataset
OCCUPANCY = 0.20


@dataclass(frozen=True)
class View:
    """A picture of a group, or a tile of it, with its candidates.

    Attributes
    ----------
    position : int
        Number of the picture.
    tile : Box or None
        None for the whole picture.
    candidates : list of Candidate
        As they are described: small holes and islands are removed.
    by_crop, by_frame : (n, C) float32 ndarray
        Their vectors from object crops, and from the features of the whole picture or tile.
    """

    position: int
    tile: Box | None
    candidates: list[Candidate]
    by_crop: np.ndarray
    by_frame: np.ndarray


@dataclass(frozen=True)
class Shown:
    """Objects that the user outlined, with their vectors: (n, C) float32 ndarray each."""

    objects: list[CutMask]
    by_crop: np.ndarray
    by_frame: np.ndarray


class Describer:
    """Proposes candidates and describes objects in both ways.

    Parameters
    ----------
    model : Sam
    checkpoint : Checkpoint
    points : int
        Per side.
    """

    def __init__(self, model: Sam, checkpoint: Checkpoint, points: int):
        self.checkpoint = checkpoint
        self._crops, self._frames = (
            SamSegmenter(
                model,
                checkpoint,
                points_per_side=points,
                occupancy=OCCUPANCY,
                whole_frame=whole_frame,
            )
            for whole_frame in (False, True)
        )

    def view(self, rgb: np.ndarray, position: int, tile: Box | None) -> View:
        """Return a picture or tile (H, W, 3) with every candidate that has its smallest area."""
        proposed = self._frames.propose(rgb, ignore)
        cleaned = [clean_mask(one, rgb.shape, DESCRIBED_MIN_AREA) for one in proposed]
        kept = [
            cleaned[number]
            for number in select_cleaned(proposed, cleaned, self.checkpoint.box_nms_thresh)
            if cleaned[number].area >= DESCRIBED_MIN_AREA
        ]
        return View(position, tile, kept, *self.describe(rgb, kept))

    def describe(
        self, rgb: np.ndarray, objects: Sequence[CutMask | Candidate]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors of objects from crops, and from the whole picture or tile."""
        return (
            self._crops.describe(rgb, objects, ignore),
            self._frames.describe(rgb, objects, ignore),
        )


def ignore(share: float) -> None:
    """Ignore how much is done."""


def colour(image: np.ndarray) -> np.ndarray:
    """Return a picture as the worker sees it: (H, W) uint16 -> (H, W, 3) uint8."""
    rgb = np.zeros((*image.shape, 3), np.uint8)
    merge_channel(rgb, image, fix_contrast(image, LAYER))
    return rgb


def cut_views(group: Group, side: int) -> Iterator[tuple[int, Box | None]]:
    """Yield the pictures of a group, or their tiles, for objects with this longest side."""
    for position, image in enumerate(group.images):
        for tile in plan_tiles(image.shape, group.tile_size, side):
            yield position, tile


def search_group(group: Group, describer: Describer, side: int) -> list[View]:
    """Return every picture of a group, or each of its tiles, with its candidates.

    Parameters
    ----------
    group : Group
    describer : Describer
    side : int
        Longest side of an example, pixels. It decides how tiles overlap.
    """
    pictures = [colour(image) for image in group.images]
    return [
        describer.view(pictures[position][tile.slices if tile else ...], position, tile)
        for position, tile in cut_views(group, side)
    ]


def describe_shown(
    group: Group, describer: Describer, shown: Sequence[Example], side: int
) -> Shown:
    """Return objects that the user outlined, with their vectors."""
    cut: list[CutMask] = []
    by_crop, by_frame = [], []
    for one in shown:
        rgb = colour(group.images[one.position])
        annotation = to_annotation(one, '', '')
        tiles = plan_tiles(rgb.shape, group.tile_size, side)
        tile = choose_tile(cut_annotation(annotation, rgb.shape, None).box, tiles)
        cut.append(cut_annotation(annotation, rgb.shape, tile))
        crop, frame = describer.describe(rgb[tile.slices if tile else ...], [cut[-1]])
        by_crop.append(crop)
        by_frame.append(frame)
    return Shown(cut, np.concatenate(by_crop), np.concatenate(by_frame))
