"""What the small SAM is trained with: crops of drawings, points, and the masks they ask for."""

from typing import NamedTuple

import cv2
import numpy as np
import torch

from training.shapes import IGNORED, find_edges
from training.synthetic import Drawing

ON_BACKGROUND = 0.2  # share of the points
NEAR_OBJECTS = 0.5  # share of the points on the background that are close to an object
CLOSE = 10  # pixels
LEAST_AREA = 20  # pixels of an object in a crop; smaller ones get no points
LARGEST_CLUMP = 9  # objects; in larger ones, the third mask is the object as well
STEP = 2  # side of a pixel of SAM's low-resolution masks, pixels of a crop


class Crop(NamedTuple):
    """A square of a drawing.

    Attributes
    ----------
    rgb : (S, S, 3) ndarray of uint8
    labels : (S, S) ndarray of int32
        1 and more for objects, 0 for background, IGNORED for what is neither.
    parts : (S, S) ndarray of bool
        Where an object has a part.
    """

    rgb: np.ndarray
    labels: np.ndarray
    parts: np.ndarray


class Pixels(NamedTuple):
    """The truth about every second row and column of a crop: (S/2, S/2) float32 each.

    Attributes
    ----------
    is_object, is_known, edge : torch.Tensor
        0 to 1. `edge` is 1 on borders of objects.
    right, down : torch.Tensor
        From the pixel to the middle of its object, pixels of the crop.
    size : torch.Tensor
        Square root of the area of the object here, pixels.
    """

    is_object: torch.Tensor
    is_known: torch.Tensor
    edge: torch.Tensor
    right: torch.Tensor
    down: torch.Tensor
    size: torch.Tensor


class Points(NamedTuple):
    """Points of a crop and the masks that SAM should give.

    Attributes
    ----------
    places : (P, 2) float32 tensor
        x and y, pixels of the crop.
    masks : (P, 3, S/2, S/2) float32 tensor
        The object, its part at the point, and its clump; the object again where there is no part or
        clump. Share of each pixel, 0 to 1. Empty on the background.
    on_object : (P,) bool tensor
    """

    places: torch.Tensor
    masks: torch.Tensor
    on_object: torch.Tensor


def cut_crop(
    drawing: Drawing, side: int, zoom: tuple[float, float], rng: np.random.Generator
) -> Crop:
    """Cut a square out of a drawing, and zoom, turn and mirror it.

    Parameters
    ----------
    drawing : Drawing
    side : int
        Of the crop, pixels.
    zoom : tuple of float
        Smallest and largest magnification.
    rng : numpy.random.Generator
    """
    height = len(drawing.labels)
    magnification = np.exp(rng.uniform(*np.log(zoom)))
    length = min(height, round(side / magnification))
    row, column = rng.integers(0, height - length + 1, 2)
    window = slice(row, row + length), slice(column, column + length)
    rgb, labels, parts = (array[window] for array in drawing)
    if length != side:
        smooth = cv2.INTER_AREA if length > side else cv2.INTER_LINEAR
        rgb = cv2.resize(rgb, (side, side), interpolation=smooth)
        labels = cv2.resize(labels, (side, side), interpolation=cv2.INTER_NEAREST)
        parts = cv2.resize(parts.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
    turns = int(rng.integers(4))
    rgb, labels, parts = (np.rot90(array, turns) for array in (rgb, labels, parts))
    if rng.random() < 0.5:
        rgb, labels, parts = (array[:, ::-1] for array in (rgb, labels, parts))
    if rng.random() < 0.3:
        rgb = rgb[..., rng.permutation(3)]
    return Crop(np.ascontiguousarray(rgb), np.ascontiguousarray(labels, np.int32), parts > 0)


def describe_pixels(labels: np.ndarray) -> Pixels:
    """Describe every second row and column of a crop.

    Parameters
    ----------
    labels : (S, S) ndarray of int32
    """
    side = len(labels)
    numbers = np.maximum(labels, 0)
    areas = np.bincount(numbers.ravel()) + 1e-6
    rows, columns = np.mgrid[0:side, 0:side] + 0.5
    middle_row = np.bincount(numbers.ravel(), rows.ravel()) / areas
    middle_column = np.bincount(numbers.ravel(), columns.ravel()) / areas

    edges = find_edges(labels).astype(np.float32)
    every = slice(1, None, STEP)
    seen, number = labels[every, every], numbers[every, every]
    edge = cv2.resize(edges, seen.shape, interpolation=cv2.INTER_AREA)
    middles = np.arange(1, side, STEP)  # of the low-resolution pixels
    maps = (
        seen > 0,
        seen != IGNORED,
        np.minimum(2 * edge, 1),
        middle_column[number] - middles,
        middle_row[number] - middles[:, None],
        np.sqrt(areas)[number],
    )
    return Pixels(*(torch.as_tensor(one, dtype=torch.float32) for one in maps))


def choose_points(crop: Crop, count: int, rng: np.random.Generator) -> Points:
    """Choose points on objects and on the background.

    Every object has the same chance. A point can be anywhere on it, as a grid sets points.
    """
    labels = crop.labels
    areas = np.bincount(np.maximum(labels, 0).ravel())
    objects = np.flatnonzero(areas >= LEAST_AREA)
    objects = objects[objects > 0]
    is_background = labels == 0
    distance = cv2.distanceTransform((labels <= 0).astype(np.uint8), cv2.DIST_L2, 3)
    is_close = is_background & (distance < CLOSE)
    clumps = cv2.connectedComponents((labels > 0).astype(np.uint8), connectivity=4)[1]

    places, masks, on_object = [], [], []
    for _ in range(count):
        wants_background = rng.random() < ON_BACKGROUND and is_background.any()
        if wants_background or not len(objects):
            close = rng.random() < NEAR_OBJECTS and is_close.any()
            allowed = is_close if close else is_background
            if not allowed.any():  # nothing but fragments
                allowed = np.ones_like(allowed)
            row, column = choose_pixel(allowed, rng)
            whole = part = clump = np.zeros(labels.shape, bool)
        else:
            whole = labels == rng.choice(objects)
            row, column = choose_pixel(whole, rng)
            part = whole & crop.parts if crop.parts[row, column] else whole
            clump = clumps == clumps[row, column]
            if len(np.unique(labels[clump])) > LARGEST_CLUMP:
                clump = whole
        places.append((column + 0.5, row + 0.5))
        masks.append((whole, part, clump))
        on_object.append(bool(whole.any()))
    full = np.array(masks, np.float32)
    half = len(labels) // STEP
    small = full.reshape(count, 3, half, STEP, half, STEP).mean((3, 5))
    return Points(torch.tensor(places), torch.from_numpy(small), torch.tensor(on_object))


def choose_pixel(allowed: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Return the row and column of one of the pixels that are allowed."""
    rows, columns = np.nonzero(allowed)
    chosen = rng.integers(len(rows))
    return int(rows[chosen]), int(columns[chosen])
