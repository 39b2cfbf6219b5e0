"""Every candidate of a group, with its vectors and the truth, computed once per picture.

Ways to score or to drop candidates are then compared without the model. The steps are those of
`fewshot.search.FrameSearch`, without its server and its threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from demo.dataset import BLACK, WHITE, Example, forget_examples, to_annotation
from demo.scoring import IOU
from evaluation.groups import Group, outline_examples
from evaluation.scoring import find_fragments
from fewshot.geometry import Box, CutMask, has_allowed_area
from fewshot.images.layers import Layer, fix_contrast, merge_channel
from fewshot.images.tiling import choose_tile, plan_tiles, touches_inner_border
from fewshot.polygons import cut_annotation
from fewshot.sam.candidates import Candidate
from fewshot.sam.checkpoints import Checkpoint
from fewshot.sam.cleaning import clean_mask, select_cleaned
from fewshot.sam.features import describe_objects, encode_image_with_sam1, pool_objects
from fewshot.sam.proposals import propose_candidates
from fewshot.search import DESCRIBED_MIN_AREA

LAYER = Layer(0, (1, 1, 1), True, BLACK, WHITE)  # that of the demo's dataset
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
        self._model, self._checkpoint, self._points = model, checkpoint, points
        self._predictor = SamPredictor(model)

    @property
    def cells(self) -> int:
        """Cells per side of a frame."""
        return self._model.prompt_encoder.image_embedding_size[0]

    def propose(self, rgb: np.ndarray) -> list[Candidate]:
        """Return the candidates of a frame or tile, (H, W, 3), as they are described."""
        proposed = propose_candidates(
            self._model,
            encode_image_with_sam1(self._predictor, rgb),
            rgb.shape,
            self._checkpoint,
            points_per_side=self._points,
            report=lambda share: None,
        )
        cleaned = [clean_mask(one, rgb.shape, DESCRIBED_MIN_AREA) for one in proposed]
        distinct = select_cleaned(proposed, cleaned, self._checkpoint.box_nms_thresh)
        return [cleaned[number] for number in distinct]

    def describe(self, rgb: np.ndarray, objects: Sequence[CutMask | Candidate]) -> Objects:
        """Describe objects of a frame or tile in both ways."""
        features = encode_image_with_sam1(self._predictor, rgb)
        return Objects(
            objects,
            describe_objects(self._model, rgb, objects, OCCUPANCY, lambda share: None).numpy(),
            pool_objects(features, rgb.shape, objects).numpy(),
        )


def try_group(group: Group, describer: Describer) -> Trial:
    """Propose and describe every candidate of a group, and describe its examples."""
    shown = outline_examples(group)
    areas = [one.area for one in shown]
    limits = min(areas) // 2, 2 * max(areas)
    side = int(max(np.ptp(one.outline, axis=0).max() for one in shown))
    unseen = forget_examples(group.labels, shown)
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


def color_picture(image: np.ndarray) -> np.ndarray:
    """Return a picture as the worker sees it: (H, W) uint16 -> (H, W, 3) uint8."""
    rgb = np.zeros((*image.shape, 3), np.uint8)
    merge_channel(rgb, image, fix_contrast(image, LAYER))
    return rgb


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


def find_ignored(
    labels: np.ndarray, unseen: np.ndarray, wanted: np.ndarray, smallest: int
) -> np.ndarray:
    """Return which objects of a picture do not count, as in `scoring.score_group`.

    Parameters
    ----------
    labels, unseen : (H, W) ndarray
        The objects of the picture, with and without the examples.
    wanted : (objects,) ndarray of bool
    smallest : int
        Pixels. A smaller wanted object at the border is a fragment.

    Returns
    -------
    (objects,) ndarray of bool
    """
    was_shown = ~np.isin(np.arange(len(wanted)), unseen)
    return was_shown | (wanted & find_fragments(labels, smallest))


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
