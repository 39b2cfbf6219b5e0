"""The groups of pictures to measure on.

Groups of drawn pictures have one difficulty each. The last group is the demo's image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demo.__main__ import EXAMPLES
from demo.dataset import (
    Example,
    choose_examples,
    has_typical_area,
    list_whole,
    outline,
    read_image,
)
from evaluation.images import Kind, Scene, draw_image

SEED = 41_000  # of the first picture of the first group; training and its tests use 7 and 2026
SEEDS_APART = 10_000  # from a group to the same group with other pictures
EXAMPLES_PER_PICTURE = 4  # at most; more if the group has fewer than two pictures
CORNER = 1024  # side of the upper left square of a frame with the examples, pixels

PLAIN = Kind(radius=(13, 20), stretch=(1, 1.5), brightness=(0.4, 0.9), grain=0.12)
TOUCHING = Kind(radius=(14, 19), stretch=(1, 1.4), brightness=(0.3, 0.9), grain=0.12)
ROUND = Kind(radius=(13, 16), stretch=(1, 1.15), brightness=(0.7, 1), grain=0.05)
LONG = Kind(radius=(15, 18), stretch=(1.4, 1.8), brightness=(0.35, 0.6), grain=0.5)
DIM = Kind(radius=(13, 20), stretch=(1, 1.5), brightness=(0.01, 0.03), grain=0.12)
SMALL = Kind(radius=(9, 11), stretch=(1, 1.3), brightness=(0.4, 0.9), grain=0.12)
TINY = Kind(radius=(6, 10), stretch=(1, 1.3), brightness=(0.4, 0.9), grain=0.12)

SCENES = {  # scene and number of pictures; objects of the first kind are wanted
    'plain': (Scene(256, (PLAIN,), (16,), gap=6), 6),
    'crowded': (Scene(256, (TOUCHING,), (28,), gap=0, crowded=True), 6),
    'two kinds': (Scene(256, (ROUND, LONG), (9, 9), gap=5), 8),
    'low contrast': (Scene(256, (DIM,), (16,), gap=6), 6),
    'large frame': (Scene(4096, (SMALL,), (400,), gap=6), 1),
    'dense small': (Scene(512, (TINY,), (250,), gap=2, crowded=True), 2),
}
TILE_SIZES = {'large frame': 512}  # pixels
DEMO = "demo's image"
NAMES = [*SCENES, DEMO]


@dataclass(frozen=True)
class Group:
    """Pictures of one kind, with their objects.

    Attributes
    ----------
    name : str
    images : (N, side, side) ndarray of uint16
    labels : (N, side, side) ndarray
        The objects of each picture are numbered from 1. 0 is background.
    wanted : tuple of (labels,) ndarray of bool
        One array per picture: whether the label exists and the user wants the object.
    tile_size : int
        Pixels; 0 for small frames.
    examples : sequence of Example
        Outlined by the user.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    wanted: tuple[np.ndarray, ...]
    tile_size: int
    examples: Sequence[Example] = ()

    @property
    def has_others(self) -> bool:
        """Whether there are objects that the user does not want."""
        for labels, wanted in zip(self.labels, self.wanted, strict=True):
            unwanted = labels[~wanted[labels]]
            if (unwanted > 0).any():
                return True
        return False


def make_group(name: str, seed: int = 0) -> Group:
    """Return a group by its name, one of NAMES.

    It is the same each time. Another seed draws other pictures. The demo's image is always the
    same, so another seed only chooses other examples.
    """
    if name == DEMO:
        return show_nuclei(*read_image(), seed)
    scene, count = SCENES[name]
    return draw_group(name, scene, count, SEED + 100 * NAMES.index(name) + SEEDS_APART * seed)


def show_nuclei(image: np.ndarray, labels: np.ndarray, seed: int = 0) -> Group:
    """Return the demo's image (H, W) and its labels, or a part of both, as a group of one picture.

    All nuclei are wanted. With seed 0, the examples in the whole image are those of the demo.
    """
    wanted = np.isin(np.arange(labels.max() + 1), labels[labels > 0])
    examples = choose_examples(labels, EXAMPLES, seed)
    return Group(DEMO, image[None], labels[None], (wanted,), 0, examples)


def draw_group(name: str, scene: Scene, count: int, seed: int) -> Group:
    """Draw `count` pictures of a scene, with `seed` and the seeds that follow it.

    Objects of the first kind are wanted.
    """
    pictures = [draw_image(scene, seed + number) for number in range(count)]
    images, labels, kinds = zip(*pictures, strict=True)
    wanted = tuple(one == 0 for one in kinds)
    examples = outline_examples(labels, wanted)
    return Group(
        name, np.stack(images), np.stack(labels), wanted, TILE_SIZES.get(name, 0), examples
    )


def outline_examples(labels: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> list[Example]:
    """Return objects that a user would outline in drawn pictures.

    They are wanted, whole and of typical size, and lie in the first pictures.

    Parameters
    ----------
    labels : sequence of (side, side) ndarray
    wanted : sequence of (labels,) ndarray of bool
        See `Group`.
    """
    whole = []
    for position, (numbers, is_wanted) in enumerate(zip(labels, wanted, strict=True)):
        corner = numbers[:CORNER, :CORNER]
        masks = list_whole(np.where(is_wanted[corner], corner, 0))
        whole += [Example(int(mask.sum()), outline(mask), position) for mask in masks]
    areas = [one.area for one in whole]
    most = max(EXAMPLES_PER_PICTURE, EXAMPLES // len(labels))
    examples: list[Example] = []
    for one in whole:
        taken = sum(example.position == one.position for example in examples)
        has_room = taken < most and len(examples) < EXAMPLES
        if has_room and has_typical_area(one.area, areas):
            examples.append(one)
    return examples
