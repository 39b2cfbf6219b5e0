"""Pictures with known objects, drawn in another way than those that the small model was trained on.

An outline is a sum of waves around an ellipse, objects are put where there is room, and the noise is that of counted
light under a lamp that is brighter in the middle; training draws ellipses with one wave, in clumps, with noise of one
width everywhere.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

GROUND, LIGHT = 200, 2000  # counts of the background, and what an object of brightness 1 adds
WAVES = np.arange(2, 7)  # around an outline
TRIES = 60  # to find a place for an object


@dataclass(frozen=True)
class Kind:
    """Objects that look alike; pairs are the lowest and the highest value."""

    radius: tuple[float, float]  # pixels, of a disc of about the same area
    stretch: tuple[float, float]  # length by width
    brightness: tuple[float, float]  # 1: LIGHT counts above the background
    grain: float  # standard deviation of the texture, by the brightness


@dataclass(frozen=True)
class Scene:
    """What a picture shows."""

    side: int  # of the picture, pixels
    kinds: tuple[Kind, ...]
    counts: tuple[int, ...]  # objects of each kind, as far as there is room
    gap: int  # pixels between two objects, at least, counted along rows and columns
    crowded: bool = False  # each object is pushed as close to another as the gap allows


def draw_image(scene: Scene, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One picture of a scene; the same seed gives the same picture.

    Returns
    -------
    image : (side, side) uint16
    labels : (side, side) int32, 0 is background
    kinds : (objects + 1,) int, the kind of each label, -1 for the background
    """
    rng = np.random.default_rng(seed)
    labels = np.zeros((scene.side, scene.side), np.int32)
    light = np.zeros(labels.shape, np.float32)
    kinds = [-1]
    for kind in rng.permutation(np.repeat(np.arange(len(scene.kinds)), scene.counts)):
        shape = draw_shape(scene.kinds[kind], rng)
        place = find_place(labels, shape, scene, rng)
        if place is not None:
            window = slices_at(place, shape.shape)
            labels[window][shape] = len(kinds)
            light[window][shape] = paint(shape, scene.kinds[kind], rng)[shape]
            kinds.append(int(kind))
    return expose(light, rng), labels, np.array(kinds)


def draw_shape(kind: Kind, rng: np.random.Generator) -> np.ndarray:
    """The mask of one object, cut to its box: (h, w) bool."""
    radius, root = rng.uniform(*kind.radius), rng.uniform(*kind.stretch) ** 0.5
    reach = int(radius * root * 1.5) + 2
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    angle = rng.uniform(0, np.pi)
    along = (columns * np.cos(angle) + rows * np.sin(angle)) / root
    across = (rows * np.cos(angle) - columns * np.sin(angle)) * root
    heights = 0.04 * rng.standard_normal(len(WAVES)) / WAVES**0.5
    phases = rng.uniform(0, 2 * np.pi, len(WAVES))
    wave = (heights * np.cos(WAVES * np.arctan2(across, along)[..., None] + phases)).sum(-1)
    mask = np.hypot(along, across) < radius * (1 + wave)
    return mask[np.ix_(mask.any(1), mask.any(0))]


def find_place(
    labels: np.ndarray, shape: np.ndarray, scene: Scene, rng: np.random.Generator
) -> np.ndarray | None:
    """The upper left corner, row and column, at which an object fits with its gap; None where none was found."""
    grown = (
        ndimage.binary_dilation(np.pad(shape, scene.gap), iterations=scene.gap)
        if scene.gap
        else shape
    )
    size = np.array(shape.shape)
    taken = np.argwhere(labels) if scene.crowded else np.empty((0, 2), int)
    for _ in range(TRIES):
        if len(taken):
            place = (
                push_out(
                    labels, grown, taken[rng.integers(len(taken))] - size // 2 - scene.gap, rng
                )
                + scene.gap
            )
        else:
            place = rng.integers(0, scene.side - size + 1)
        if (
            (place >= 0).all()
            and (place + size <= scene.side).all()
            and is_free(labels, grown, place - scene.gap)
        ):
            return place
    return None


def push_out(
    labels: np.ndarray, shape: np.ndarray, place: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """From a corner where a shape lies on an object, in some direction, to the first where it lies on none."""
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.sin(angle), np.cos(angle)])
    steps = (
        np.rint(place + length * direction).astype(int) for length in range(2 * max(labels.shape))
    )
    return next(corner for corner in steps if is_free(labels, shape, corner))


def is_free(labels: np.ndarray, shape: np.ndarray, place: np.ndarray) -> bool:
    """Whether a shape (h, w) bool with its upper left corner at `place` lies on no object. It may reach out."""
    start, end = np.maximum(place, 0), np.minimum(place + shape.shape, labels.shape)
    if (start >= end).any():
        return True
    return not labels[slices_at(start, end - start)][
        shape[slices_at(start - place, end - start)]
    ].any()


def slices_at(corner: np.ndarray, size: np.ndarray | tuple[int, ...]) -> tuple[slice, ...]:
    """To index an image with: the window of a size (height, width) at its upper left corner (row, column)."""
    return tuple(slice(first, first + length) for first, length in zip(corner, size, strict=True))


def paint(shape: np.ndarray, kind: Kind, rng: np.random.Generator) -> np.ndarray:
    """Brightness of an object: domed, with a grain a few pixels wide. (h, w) float32."""
    depth = ndimage.distance_transform_edt(np.pad(shape, 1))[1:-1, 1:-1]
    grain = ndimage.gaussian_filter(rng.standard_normal(shape.shape), 1.5)
    grain = np.clip(1 + kind.grain * grain / grain.std(), 0.1, None)
    return (
        rng.uniform(*kind.brightness) * (0.6 + 0.4 * np.sqrt(depth / depth.max())) * grain
    ).astype(np.float32)


def expose(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a camera makes of it: blur, light that fades towards the corners, noise. (H, W) uint16."""
    counts = GROUND + LIGHT * ndimage.gaussian_filter(light, 0.8)
    rows, columns = (np.linspace(-1, 1, length, dtype=np.float32) for length in light.shape)
    counts *= 1 - 0.1 * (rows[:, None] ** 2 + columns**2)
    # with so many counts a normal distribution is that of Poisson
    counts += np.sqrt(counts) * rng.standard_normal(counts.shape, np.float32)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
