"""The groups of pictures to measure on.

Groups of drawn pictures have one difficulty each. The last group is the demo's image.
"""

from dataclasses import dataclass, replace

import numpy as np

from demo.dataset import SIDE, Example, choose_examples, cut, read_image
from evaluation.images import Kind, Scene, draw_image

SEED = 41_000  # of the first picture of the first group; training and its tests use 7 and 2026
SEEDS_APART = 10_000  # from a group to the same group with other pictures
EXAMPLES = 8  # outlined by the user
EXAMPLES_PER_PICTURE = 4  # at most; more if the group has fewer than two pictures
CORNER = 1024  # side of the upper left square of a frame with the examples, pixels

PLAIN = Kind(radius=(13, 20), stretch=(1, 1.5), brightness=(0.4, 0.9), grain=0.12)
TOUCHING = Kind(radius=(14, 19), stretch=(1, 1.4), brightness=(0.3, 0.9), grain=0.12)
ROUND = Kind(radius=(13, 16), stretch=(1, 1.15), brightness=(0.7, 1), grain=0.05)
LONG = Kind(radius=(15, 18), stretch=(1.4, 1.8), brightness=(0.35, 0.6), grain=0.5)
DIM = Kind(radius=(13, 20), stretch=(1, 1.5), brightness=(0.01, 0.03), grain=0.12)
SMALL = Kind(radius=(9, 11), stretch=(1, 1.3), brightness=(0.4, 0.9), grain=0.12)

SCENES = {  # scene and number of pictures; objects of the first kind are wanted
    'plain': (Scene(256, (PLAIN,), (16,), gap=6), 6),
    'crowded': (Scene(256, (TOUCHING,), (28,), gap=0, crowded=True), 6),
    'two kinds': (Scene(256, (ROUND, LONG), (9, 9), gap=5), 8),
    'low contrast': (Scene(256, (DIM,), (16,), gap=6), 6),
    'large frame': (Scene(4096, (SMALL,), (400,), gap=6), 1),
}
TILE_SIZES = {'large frame': 256}  # pixels
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
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    wanted: tuple[np.ndarray, ...]
    tile_size: int

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
    same, so another seed shuffles its positions: the examples are then others.
    """
    if name == DEMO:
        group = cut_group(*read_image())
        return shuffle_group(group, seed) if seed else group
    scene, count = SCENES[name]
    return draw_group(name, scene, count, SEED + 100 * NAMES.index(name) + SEEDS_APART * seed)


def shuffle_group(group: Group, seed: int) -> Group:
    """Return a group with its pictures in another order."""
    order = np.random.default_rng(seed).permutation(len(group.images))
    wanted = tuple(group.wanted[number] for number in order)
    return replace(group, images=group.images[order], labels=group.labels[order], wanted=wanted)


def cut_group(image: np.ndarray, labels: np.ndarray) -> Group:
    """Cut the demo's image (H, W) and its labels, or a part of both, to a group of positions.

    All nuclei are wanted.
    """
    positions = cut(labels, SIDE)
    wanted = []
    for numbers in positions:
        present = numbers[numbers > 0]
        wanted.append(np.isin(np.arange(numbers.max() + 1), present))
    return Group(DEMO, cut(image, SIDE), positions, tuple(wanted), 0)


def draw_group(name: str, scene: Scene, count: int, seed: int) -> Group:
    """Draw `count` pictures of a scene, with `seed` and the seeds that follow it.

    Objects of the first kind are wanted.
    """
    pictures = [draw_image(scene, seed + number) for number in range(count)]
    images, labels, kinds = zip(*pictures, strict=True)
    wanted = tuple(one == 0 for one in kinds)
    return Group(name, np.stack(images), np.stack(labels), wanted, TILE_SIZES.get(name, 0))


def outline_examples(group: Group) -> list[Example]:
    """Return objects that a user would outline.

    They are wanted, whole and of typical size, and lie in the first pictures of the group.
    """
    corners = group.labels[:, :CORNER, :CORNER]
    wanted_labels = []
    for numbers, wanted in zip(corners, group.wanted, strict=True):
        wanted_labels.append(np.where(wanted[numbers], numbers, 0))
    per_picture = max(EXAMPLES_PER_PICTURE, EXAMPLES // len(corners))
    return choose_examples(np.stack(wanted_labels), EXAMPLES, per_picture)
