"""Shapes of synthetic objects, and where they lie: labels without any picture.

An outline is a radius by angle, a sum of waves around an ellipse. Objects lie apart, touch, overlap,
form clumps or fill the picture like a tissue. Some contain a part, like the nucleus of a cell.
"""

from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 512  # of a drawing, pixels
IGNORED = -1  # label of pixels that belong to no clear object: fragments behind others
SMALLEST = 30  # pixels; a smaller object is a fragment
VISIBLE = 0.5  # share of an object that must be visible
TURN = 2 * np.pi


@dataclass(frozen=True)
class Layout:
    """Objects of a drawing.

    Attributes
    ----------
    labels : (SIDE, SIDE) ndarray of int32
        1 and more for objects, 0 for background, IGNORED for fragments.
    parts : (SIDE, SIDE) ndarray of int32
        The label of the object whose part is here; 0 elsewhere.
    boxes : list of tuple of slice
        Rows and columns of label 1, 2 and so on.
    """

    labels: np.ndarray
    parts: np.ndarray
    boxes: list[tuple[slice, slice]]


def draw_shape(radius: float, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Draw the mask of one object.

    Parameters
    ----------
    radius : float
        Of a disc of about the same area, pixels.
    kind : {'round', 'elongated', 'bar', 'budding', 'irregular'}
    rng : numpy.random.Generator

    Returns
    -------
    (n, n) ndarray of bool
        The object is near the middle.
    """
    stretch = {
        'round': rng.uniform(1, 1.35),
        'elongated': rng.uniform(1.3, 2.4),
        'bar': rng.uniform(2.5, 4.5),
        'budding': rng.uniform(1, 1.3),
        'irregular': rng.uniform(1, 1.8),
    }[kind]
    reach = int(radius * np.sqrt(stretch) * 1.7) + 3
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    rows += rng.uniform(-0.5, 0.5)
    columns += rng.uniform(-0.5, 0.5)
    angle = rng.uniform(0, TURN)
    along = (columns * np.cos(angle) + rows * np.sin(angle)) / np.sqrt(stretch)
    across = (rows * np.cos(angle) - columns * np.sin(angle)) * np.sqrt(stretch)
    mask = np.hypot(along, across) < radius * draw_waves(np.arctan2(across, along), kind, rng)
    if kind == 'budding':  # a smaller disc beside the larger one
        share = rng.uniform(0.35, 0.8)
        distance = radius * rng.uniform(0.8, 0.95 + 0.4 * share)
        direction = rng.uniform(0, TURN)
        bud = np.hypot(
            columns - distance * np.cos(direction), rows - distance * np.sin(direction)
        )
        mask |= bud < radius * share
    return mask


def draw_waves(angle: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return the radius at each angle, 1 on average."""
    strength = rng.uniform(0.08, 0.22) if kind == 'irregular' else rng.uniform(0, 0.07)
    table_angle = np.linspace(-np.pi, np.pi, 181)
    table = np.ones_like(table_angle)
    for wave in range(2, 7):
        height = strength * rng.standard_normal() / (wave - 1) ** 0.7
        table += height * np.cos(wave * table_angle + rng.uniform(0, TURN))
    return np.interp(angle, table_angle, np.clip(table, 0.45, 1.7)).astype(np.float32)


def draw_layout(rng: np.random.Generator) -> Layout:
    """Place objects in a drawing."""
    if rng.random() < 0.12:
        return draw_tissue(rng)
    labels = np.zeros((SIDE, SIDE), np.int32)
    parts = np.zeros((SIDE, SIDE), np.int32)
    boxes: list[tuple[slice, slice]] = []
    areas: list[int] = []
    # Small objects are as frequent as large ones: 12 to 200 pixels wide
    base = np.exp(rng.uniform(np.log(6), np.log(70 if rng.random() < 0.85 else 100)))
    other = base * rng.uniform(0.4, 2)
    kinds = rng.choice(
        ['round', 'elongated', 'bar', 'budding', 'irregular'], 2, p=[0.4, 0.25, 0.03, 0.12, 0.2]
    )
    has_two_sizes = rng.random() < 0.35
    spread = rng.uniform(0.05, 0.4)
    clumping = rng.choice([0, 0.3, 0.6, 0.85], p=[0.3, 0.25, 0.25, 0.2])
    overlap = rng.choice([0.0, 0.05, 0.3], p=[0.45, 0.25, 0.3])  # share of an object
    gap = rng.integers(0, 4) if rng.random() < 0.4 else 0
    has_parts = rng.random() < 0.25 and base > 12
    most = int(min(260, 0.75 * SIDE**2 / (np.pi * base**2)))
    wanted = int(rng.integers(max(2, most // 10), max(4, most)))
    placed: list[tuple[float, float, float]] = []  # row, column, radius

    for _ in range(wanted * 2):
        if len(boxes) >= wanted:
            break
        which = int(has_two_sizes and rng.random() < 0.5)
        radius = (other if which else base) * np.exp(spread * rng.standard_normal())
        radius = float(np.clip(radius, 5, 105))
        kind = str(kinds[which]) if rng.random() < 0.9 else 'round'
        if rng.random() < 0.03:
            kind = 'bar'  # like a dividing nucleus
        row, column = rng.uniform(-0.02 * SIDE, 1.02 * SIDE, 2)
        if placed and rng.random() < clumping:  # beside another object, often the last one
            recent = placed[-1] if rng.random() < 0.6 else placed[rng.integers(len(placed))]
            direction = rng.uniform(0, TURN)
            distance = (recent[2] + radius) * rng.uniform(0.75, 1.1) + gap
            row = recent[0] + distance * np.sin(direction)
            column = recent[1] + distance * np.cos(direction)
        mask = draw_shape(radius, kind, rng)
        window, inner = cut_window(row, column, mask.shape[0])
        mask = mask[inner]
        if min(mask.shape) < 3 or mask.sum() < SMALLEST:
            continue
        taken = labels[window]
        blocked = taken > 0
        if gap:
            blocked = cv2.dilate(blocked.astype(np.uint8), np.ones((2 * gap + 1,) * 2)) > 0
        if (blocked & mask).sum() > overlap * mask.sum():
            continue
        if rng.random() < 0.5 or gap:  # behind the others
            mask = mask & (taken == 0)
        boxes.append(window)
        areas.append(int(mask.sum()))
        taken[mask] = len(boxes)
        parts[window][mask] = 0
        placed.append((row, column, radius))
        if has_parts:
            draw_part(parts[window], mask, radius, len(boxes), rng)
    drop_fragments(labels, boxes, areas)
    parts[parts != labels] = 0
    return Layout(labels, parts, boxes)


def cut_window(row: float, column: float, side: int) -> tuple[tuple, tuple]:
    """Place a square around a point and cut it at the border of the drawing.

    Returns
    -------
    window : tuple of slice
        In the drawing.
    inner : tuple of slice
        What is left of the square.
    """
    window, inner = [], []
    for middle in (row, column):
        first = round(middle) - side // 2
        start, stop = min(max(first, 0), SIDE), max(min(first + side, SIDE), 0)
        window.append(slice(start, max(stop, start)))
        inner.append(slice(start - first, max(stop, start) - first))
    return tuple(window), tuple(inner)


def draw_part(
    parts: np.ndarray, mask: np.ndarray, radius: float, label: int, rng: np.random.Generator
) -> None:
    """Draw a part inside an object, like a nucleus in a cell. `parts` is changed in place."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    size = min(float(depth.max()) * rng.uniform(0.45, 0.75), 0.8 * radius)
    if size < 4:
        return
    part = draw_shape(size, 'round', rng)
    reach = part.shape[0] // 2
    canvas = np.zeros(np.add(mask.shape, 2 * reach + 2), bool)
    canvas[row : row + part.shape[0], column : column + part.shape[1]] = part
    canvas = canvas[reach : reach + mask.shape[0], reach : reach + mask.shape[1]]
    parts[canvas & mask] = label


def drop_fragments(
    labels: np.ndarray, boxes: list[tuple[slice, slice]], areas: list[int]
) -> None:
    """Mark what is left of objects that others cover mostly. `labels` is changed in place."""
    for label, (window, area) in enumerate(zip(boxes, areas, strict=True), start=1):
        view = labels[window]
        mask = view == label
        left = int(mask.sum())
        if left == 0:
            continue
        count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        if count > 2:  # keep the largest piece
            largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
            view[mask & (pieces != largest)] = IGNORED
            left = int(stats[largest, cv2.CC_STAT_AREA])
        if left < SMALLEST or left < VISIBLE * area:
            view[view == label] = IGNORED


def draw_tissue(rng: np.random.Generator) -> Layout:
    """Fill a drawing with cells that touch on all sides: a Voronoi diagram of scattered points."""
    size = np.exp(rng.uniform(np.log(16), np.log(80)))
    margin = int(2 * size)
    points = []
    steps = np.arange(-margin, SIDE + margin, size)
    for row in steps:
        for column in steps:
            points.append(rng.normal((row, column), 0.28 * size))
    # The nearest point of each pixel, by the labels of a distance transform
    side = SIDE + 2 * margin
    seeds = np.ones((side, side), np.uint8)
    for row, column in points:
        place = int(row) + margin, int(column) + margin
        if 0 <= place[0] < side and 0 <= place[1] < side:
            seeds[place] = 0
    _, nearest = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # Waves along the borders
    shift_rows = smooth_noise((side, side), 0.7 * size, rng) * 0.18 * size
    shift_columns = smooth_noise((side, side), 0.7 * size, rng) * 0.18 * size
    rows, columns = np.mgrid[0:side, 0:side]
    rows = np.clip(np.rint(rows + shift_rows), 0, side - 1).astype(int)
    columns = np.clip(np.rint(columns + shift_columns), 0, side - 1).astype(int)
    nearest = nearest[rows, columns]
    nearest = nearest[margin : margin + SIDE, margin : margin + SIDE]
    _, labels = np.unique(nearest, return_inverse=True)
    labels = labels.reshape(SIDE, SIDE).astype(np.int32) + 1
    share = rng.choice([1.0, rng.uniform(0.4, 0.95)])
    kept = rng.random(labels.max() + 1) < share
    gap = int(rng.integers(0, 3))
    edges = (cv2.erode(labels.astype(np.float32), np.ones((3, 3))) != labels) | (
        cv2.dilate(labels.astype(np.float32), np.ones((3, 3))) != labels
    )
    if gap:
        edges = cv2.dilate(edges.astype(np.uint8), np.ones((2 * gap - 1,) * 2)) > 0
        labels[edges] = 0
    labels[~kept[labels]] = 0
    boxes, parts, areas = [], np.zeros_like(labels), []
    has_parts = rng.random() < 0.4
    ordered = np.zeros_like(labels)
    for label in np.unique(labels[labels > 0]):
        where = np.nonzero(labels == label)
        window = (
            slice(where[0].min(), where[0].max() + 1),
            slice(where[1].min(), where[1].max() + 1),
        )
        mask = labels[window] == label
        if mask.sum() < SMALLEST:
            continue
        boxes.append(window)
        areas.append(int(mask.sum()))
        ordered[window][mask] = len(boxes)
        if has_parts:
            draw_part(parts[window], mask, size / 2, len(boxes), rng)
    drop_fragments(ordered, boxes, areas)
    parts[parts != ordered] = 0
    return Layout(ordered, parts, boxes)


def smooth_noise(
    shape: tuple[int, int], scale: float, rng: np.random.Generator
) -> np.ndarray:
    """Return noise that varies over `scale` pixels, with mean 0 and standard deviation 1."""
    small = [max(3, int(np.ceil(length / scale)) + 2) for length in shape]
    noise = rng.standard_normal(small).astype(np.float32)
    noise = cv2.resize(noise, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return (noise - noise.mean()) / (noise.std() + 1e-6)
