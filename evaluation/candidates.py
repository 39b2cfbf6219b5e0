"""Every candidate of a group, with its vectors and the truth, computed once per picture.

Ways to score or to drop candidates are then compared without the model. The steps are those of
`fewshot.search.FrameSearch`, without its server and its threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from segment_anything.modeling import Sam

from demo.dataset import Example, color_picture, to_annotation
from demo.scoring import IOU
from evaluation.groups import Group
from evaluation.scoring import find_ignored, forget_shown
from fewshot.geometry import Box, CutMask, has_allowed_area
from fewshot.images.tiling import choose_tile, plan_tiles, touches_inner_border
from fewshot.polygons import cut_annotation
from fewshot.sam.candidates import Candidate
from fewshot.sam.checkpoints import Checkpoint
from fewshot.sam.cleaning import clean_mask, select_cleaned
from fewshot.sam.segmenter import SamSegmenter
from fewshot.search import DESCRIBED_MIN_AREA

OCCUPANCY = 0.20  # the default of Target Occupancy


@dataclass(frozen=True)
class Objects:
    """Objects of a frame or tile, with two vectors each.

    Attributes
    ----------
    objects : sequence of CutMask or Candidate
    by_crop, by_frame : (n, C) float32 ndarray
        From object crops, and from the features of the whole frame or tile.
    """

    objects: Sequence[CutMask | Candidate]
    by_crop: np.ndarray
    by_frame: np.ndarray


@dataclass(frozen=True)
class Trial:
    """A group with its examples and its candidates.

    Attributes
    ----------
    examples : Objects
    candidates : list of Objects
        Those of each frame or tile that count: they are no examples, and the area limits are those
        of the guide.
    wanted : list of (n,) ndarray of bool
        For each frame or tile, which candidates show a wanted object.
    cells : float
        Longer side of the smallest example in cells of the whole frame or tile.
    """

    examples: Objects
    candidates: list[Objects]
    wanted: list[np.ndarray]
    cells: float


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
        self._box_nms_thresh = checkpoint.box_nms_thresh
        self.cells = model.prompt_encoder.image_embedding_size[0]  # per side of a frame
        self._by_crop, self._by_frame = (
            SamSegmenter(
                model,
                checkpoint,
                points_per_side=points,
                occupancy=OCCUPANCY,
                whole_frame=whole_frame,
            )
            for whole_frame in (False, True)
        )

    def propose(self, rgb: np.ndarray) -> list[Candidate]:
        """Return the candidates of a frame or tile, (H, W, 3), as they are described."""
        proposed = self._by_frame.propose(rgb, lambda share: None)
        cleaned = [clean_mask(one, rgb.shape, DESCRIBED_MIN_AREA) for one in proposed]
        distinct = select_cleaned(proposed, cleaned, self._box_nms_thresh)
        return [cleaned[number] for number in distinct]

    def describe(self, rgb: np.ndarray, objects: Sequence[CutMask | Candidate]) -> Objects:
        """Describe objects of a frame or tile in both ways."""
        return Objects(
            objects,
            self._by_crop.describe(rgb, objects, lambda share: None),
            self._by_frame.describe(rgb, objects, lambda share: None),
        )


def try_group(group: Group, describer: Describer) -> Trial:
    """Propose and describe every candidate of a group, and describe its examples."""
    shown = group.examples
    areas = [one.area for one in shown]
    limits = min(areas) // 2, 2 * max(areas)
    side = int(max(np.ptp(one.outline, axis=0).max() for one in shown))
    unseen = forget_shown(group, shown)
    candidates, wanted = [], []
    examples: list[Objects] = []
    for position, image in enumerate(group.images):
        rgb = color_picture(image)
        labels = group.labels[position]
        ignored = find_ignored(labels, unseen[position], group.wanted[position], limits[0])
        tiles = plan_tiles(image.shape, group.tile_size, side)
        for tile in tiles:
            pixels = rgb[tile.slices] if tile else rgb
            here = [one for one in shown if one.position == position]
            cut = cut_examples(here, tile, tiles, image.shape)
            if cut:
                examples.append(describer.describe(pixels, cut))
            found = [
                one
                for one in describer.propose(pixels)
                if has_allowed_area(one.area, *limits)
                and not (tile and touches_inner_border(one.box, tile, image.shape))
            ]
            counts, is_wanted = judge(found, tile, labels, group.wanted[position], ignored)
            counted = [one for one, count in zip(found, counts, strict=True) if count]
            candidates.append(describer.describe(pixels, counted))
            wanted.append(is_wanted[counts])
    joined = Objects(
        [one for some in examples for one in some.objects],
        np.concatenate([some.by_crop for some in examples]),
        np.concatenate([some.by_frame for some in examples]),
    )
    longest = group.tile_size or max(group.images.shape[1:])
    smallest = min(max(one.box.height, one.box.width) for one in joined.objects)
    return Trial(joined, candidates, wanted, describer.cells * smallest / longest)


def cut_examples(
    shown: Sequence[Example], tile: Box | None, tiles: Sequence[Box | None], shape: tuple[int, ...]
) -> list[CutMask]:
    """Cut those examples of a picture that the worker describes in this tile."""
    cut = []
    for one in shown:
        annotation = to_annotation(one, '', '')
        if choose_tile(cut_annotation(annotation, shape, None).box, tiles) == tile:
            size = (tile.height, tile.width) if tile else shape
            cut.append(cut_annotation(annotation, size, tile))
    return cut


def judge(
    found: Sequence[Candidate],
    tile: Box | None,
    labels: np.ndarray,
    wanted: np.ndarray,
    ignored: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Compare candidates with the objects of their picture.

    Parameters
    ----------
    found : sequence of Candidate
    tile : Box or None
    labels : (H, W) ndarray
        Of the picture.
    wanted, ignored : (objects,) ndarray of bool
        For each label, whether the user wants the object, and whether it does not count.

    Returns
    -------
    counts : (n,) ndarray of bool
        Whether the candidate counts, because not more than half of it lies on ignored objects.
    is_wanted : (n,) ndarray of bool
        Whether its IoU with a wanted object that counts is 0.5 or more.
    """
    areas = np.bincount(labels.ravel(), minlength=len(wanted))
    part = labels[tile.slices] if tile else labels
    counts, is_wanted = np.zeros(len(found), bool), np.zeros(len(found), bool)
    for row, one in enumerate(found):
        shared = np.bincount(part[one.box.slices][one.mask], minlength=len(wanted))
        iou = shared / (areas + one.area - shared)
        counts[row] = shared[ignored].sum() <= 0.5 * one.area
        is_wanted[row] = (iou[wanted & ~ignored] >= IOU).any()
    return counts, is_wanted
