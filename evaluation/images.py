"""Draw pictures with known objects, in another way than the pictures of the training.

An outline here is a sum of waves around an ellipse. Objects are placed where there is room. The
noise is that of photon counts under uneven illumination. The training draws ellipses with one wave,
in clumps, with noise of one width everywhere.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

BACKGROUND = 200  # counts
LIGHT = 2000  # counts that an object of brightness 1 adds
WAVES = np.arange(2, 7)  # around an outline
TRIES = 60  # to find a place for an object


@dataclass(frozen=True)
class Kind:
    """Objects that look alike. Pairs are the lowest and the highest value.

    Attributes
    ----------
    radius : tuple of float
        Of a disc of about the same area, pixels.
    stretch : tuple of float
        Length divided by width.
    brightness : tuple of float
        1 is LIGHT counts above the background.
    grain : float
        Standard deviation of the texture, divided by the brightness.
    """

    radius: tuple[float, float]
    stretch: tuple[float, float]
    brightness: tuple[float, float]
    grain: float


@dataclass(frozen=True)
class Scene:
    """The content of a picture.

    Attributes
    ----------
    side : int
        Of the picture, pixels.
    kinds : tuple of Kind
    counts : tuple of int
        Objects of each kind; fewer if there is no room.
    gap : int
        Minimum distance of two objects in pixels, along rows and columns.
    crowded : bool
        Whether each object is as close to another as the gap allows.
    """

    side: int
    kinds: tuple[Kind, ...]
    counts: tuple[int, ...]
    gap: int
    crowded: bool = False


def draw_image(scene: Scene, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one picture of a scene. The same seed gives the same picture.

    Returns
    -------
    image : (side, side) ndarray of uint16
    labels : (side, side) ndarray of int32
        0 is background.
    kinds : (objects + 1,) ndarray of int
        The kind of each label; -1 for the background.
    """
    rng = np.random.default_rng(seed)
    labels = np.zeros((scene.side, scene.side), np.int32)
    light = np.zeros(labels.shape, np.float32)
    kinds = [-1]
    planned = np.repeat(np.arange(len(scene.kinds)), scene.counts)
    for kind in rng.permutation(planned):
        shape = draw_shape(scene.kinds[kind], rng)
        place = find_place(labels, shape, scene, rng)
        if place is not None:
            window = slices_at(place, shape.shape)
            labels[window][shape] = len(kinds)
            light[window][shape] = paint(shape, scene.kinds[kind], rng)[shape]
            kinds.append(int(kind))
    return expose(light, rng), labels, np.array(kinds)


def draw_shape(kind: Kind, rng: np.random.Generator) -> np.ndarray:
    """Draw the mask of one object, cut to its box: (h, w) bool."""
    radius = rng.uniform(*kind.radius)
    root = rng.uniform(*kind.stretch) ** 0.5
    reach = int(radius * root * 1.5) + 2
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    angle = rng.uniform(0, np.pi)
    along = (columns * np.cos(angle) + rows * np.sin(angle)) / root
    across = (rows * np.cos(angle) - columns * np.sin(angle)) * root
    heights = 0.04 * rng.standard_normal(len(WAVES)) / WAVES**0.5
    phases = rng.uniform(0, 2 * np.pi, len(WAVES))
    angles = np.arctan2(across, along)[..., None]
    wave = (heights * np.cos(WAVES * angles + phases)).sum(-1)
    mask = np.hypot(along, across) < radius * (1 + wave)
    return mask[np.ix_(mask.any(1), mask.any(0))]


def find_place(
    labels: np.ndarray, shape: np.ndarray, scene: Scene, rng: np.random.Generator
) -> np.ndarray | None:
    """Find a place where an object fits with its gap.

    Returns
    -------
    (2,) ndarray of int or None
        The upper left corner, row and column. None if all tries failed.
    """
    gap = scene.gap
    grown = shape
    if gap:
        grown = ndimage.binary_dilation(np.pad(shape, gap), iterations=gap)
    size = np.array(shape.shape)
    taken = np.argwhere(labels) if scene.crowded else np.empty((0, 2), int)
    for _ in range(TRIES):
        if len(taken):
            start = taken[rng.integers(len(taken))] - size // 2 - gap
            place = push_out(labels, grown, start, rng) + gap
        else:
            place = rng.integers(0, scene.side - size + 1)
        inside = (place >= 0).all() and (place + size <= scene.side).all()
        if inside and is_free(labels, grown, place - gap):
            return place
    return None


def push_out(
    labels: np.ndarray, shape: np.ndarray, place: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Move a shape in a random direction until it lies on no object, and return its corner.

    Parameters
    ----------
    labels : (side, side) ndarray
    shape : (h, w) ndarray of bool
    place : (2,) ndarray of int
        The upper left corner, row and column, from which the shape starts.
    rng : numpy.random.Generator
    """
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.sin(angle), np.cos(angle)])
    corner, length = place, 0
    while not is_free(labels, shape, corner):  # at the latest, it is free outside the picture
        length += 1
        corner = np.rint(place + length * direction).astype(int)
    return corner


def is_free(labels: np.ndarray, shape: np.ndarray, place: np.ndarray) -> bool:
    """Return whether a shape (h, w) with its upper left corner at `place` lies on no object.

    The part of the shape outside the picture is ignored.
    """
    start, end = np.maximum(place, 0), np.minimum(place + shape.shape, labels.shape)
    if (start >= end).any():
        return True
    part = labels[slices_at(start, end - start)]
    inside = shape[slices_at(start - place, end - start)]
    return not part[inside].any()


def slices_at(corner: np.ndarray, size: np.ndarray | tuple[int, ...]) -> tuple[slice, ...]:
    """Return the slices of a window with a corner (row, column) and a size (height, width)."""
    return tuple(slice(first, first + length) for first, length in zip(corner, size, strict=True))


def paint(shape: np.ndarray, kind: Kind, rng: np.random.Generator) -> np.ndarray:
    """Return the brightness of an object as (h, w) float32.

    It is highest in the middle, with a grain that is a few pixels wide.
    """
    depth = ndimage.distance_transform_edt(np.pad(shape, 1))[1:-1, 1:-1]
    grain = ndimage.gaussian_filter(rng.standard_normal(shape.shape), 1.5)
    grain = np.clip(1 + kind.grain * grain / grain.std(), 0.1, None)
    profile = 0.6 + 0.4 * np.sqrt(depth / depth.max())
    brightness = rng.uniform(*kind.brightness) * profile * grain
    return brightness.astype(np.float32)


def expose(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the picture that a camera takes of it: (H, W) uint16.

    It adds blur, light that fades towards the corners, and noise.
    """
    counts = BACKGROUND + LIGHT * ndimage.gaussian_filter(light, 0.8)
    rows, columns = (np.linspace(-1, 1, length, dtype=np.float32) for length in light.shape)
    counts *= 1 - 0.1 * (rows[:, None] ** 2 + columns**2)
    # for counts as high as these, a normal distribution is close to a Poisson distribution
    counts += np.sqrt(counts) * rng.standard_normal(counts.shape, np.float32)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
