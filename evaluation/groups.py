"""The groups of pictures that are measured: drawn ones, each with a difficulty of its own, and the demo's image."""

from dataclasses import dataclass

import numpy as np

from demo.dataset import SIDE, Example, choose_examples, cut, read_image
from evaluation.images import Kind, Scene, draw_image

SEED = 41_000  # of the first picture of the first group; training and its measures use 7 and 2026
EXAMPLES, A_PICTURE = 8, 4  # outlined by the user, in all and in each of the first pictures
CORNER = 1024  # pixels of a frame, down and to the right, in which the user outlines examples

PLAIN = Kind(radius=(13, 20), stretch=(1, 1.5), brightness=(0.4, 0.9), grain=0.12)
TOUCHING = Kind(radius=(14, 19), stretch=(1, 1.4), brightness=(0.3, 0.9), grain=0.12)
ROUND = Kind(radius=(13, 16), stretch=(1, 1.15), brightness=(0.7, 1), grain=0.05)
LONG = Kind(radius=(15, 18), stretch=(1.4, 1.8), brightness=(0.35, 0.6), grain=0.5)
DIM = Kind(radius=(13, 20), stretch=(1, 1.5), brightness=(0.01, 0.03), grain=0.12)
SMALL = Kind(radius=(9, 11), stretch=(1, 1.3), brightness=(0.4, 0.9), grain=0.12)

SCENES = {  # what is drawn, and how many pictures of it; the first kind is the wanted one
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
    """Pictures that show the same, and what is in them."""

    name: str
    images: np.ndarray  # (n, side, side) uint16
    labels: np.ndarray  # (n, side, side), each object counted from 1, 0 for background
    wanted: tuple[
        np.ndarray, ...
    ]  # of each picture, by label: whether it is there and the user wants it, bool
    tile_size: int  # pixels, 0 where the frame is small

    @property
    def has_others(self) -> bool:
        """Whether there are objects that the user does not want."""
        return any(
            (labels[~wanted[labels]] > 0).any()
            for labels, wanted in zip(self.labels, self.wanted, strict=True)
        )


def make_group(name: str) -> Group:
    """A group by its name, one of NAMES; the same each time."""
    if name == DEMO:
        return cut_group(*read_image())
    scene, count = SCENES[name]
    return draw_group(name, scene, count, SEED + 100 * NAMES.index(name))


def cut_group(image: np.ndarray, labels: np.ndarray) -> Group:
    """The demo's image (H, W) with its labels, or a part of both, as positions. All nuclei are wanted."""
    positions = cut(labels, SIDE)
    wanted = tuple(np.isin(np.arange(one.max() + 1), one[one > 0]) for one in positions)
    return Group(DEMO, cut(image, SIDE), positions, wanted, 0)


def draw_group(name: str, scene: Scene, count: int, seed: int) -> Group:
    """So many pictures of a scene, of which the first kind is wanted, from a seed and those that follow it."""
    images, labels, kinds = zip(
        *(draw_image(scene, seed + number) for number in range(count)), strict=True
    )
    return Group(
        name,
        np.stack(images),
        np.stack(labels),
        tuple(one == 0 for one in kinds),
        TILE_SIZES.get(name, 0),
    )


def outline_examples(group: Group) -> list[Example]:
    """Wanted objects that a user would outline: whole ones of typical size in the first pictures of a group."""
    part = group.labels[:, :CORNER, :CORNER]
    wanted = np.stack(
        [
            np.where(mine[numbers], numbers, 0)
            for mine, numbers in zip(group.wanted, part, strict=True)
        ]
    )
    return choose_examples(wanted, EXAMPLES, max(A_PICTURE, EXAMPLES // len(part)))
