"""Shapes of synthetic objects, and where they lie: labels without any picture.

An outline is a radius by angle, a sum of waves around an ellipse. Objects lie apart, touch,
overlap, form clumps or fill the picture like a tissue. Some contain a part, like the nucleus of a
cell.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import find_objects

SIDE = 512  # of a drawing, pixels
IGNORED = -1  # label of pixels that belong to no clear object: fragments behind others
SMALLEST = 30  # pixels; a smaller object is a fragment
VISIBLE = 0.5  # share of an object that must be visible
TURN = 2 * np.pi
TISSUE_SHARE = 0.12  # of the drawings
KINDS = {'round': 0.4, 'elongated': 0.25, 'bar': 0.03, 'budding': 0.12, 'irregular': 0.2}


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
    layers : (SIDE, SIDE) ndarray of uint8
        Objects at each pixel, one behind the other.
    """

    labels: np.ndarray
    parts: np.ndarray
    boxes: list[tuple[slice, slice]]
    layers: np.ndarray


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
        bud = np.hypot(columns - distance * np.cos(direction), rows - distance * np.sin(direction))
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


@dataclass(frozen=True)
class Plan:
    """How the objects of a drawing differ and how close they are.

    Attributes
    ----------
    radii : tuple of float
        Typical radius of two kinds of objects, pixels.
    kinds : tuple of str
        Shapes of the two kinds, see `draw_shape`.
    has_second_kind : bool
    spread : float
        Standard deviation of the logarithm of the radius.
    clumping : float
        Share of the objects that are placed beside another one.
    overlap : float
        Share of an object that may lie on or behind others.
    gap : int
        Least distance of two objects, pixels.
    has_parts : bool
        Whether objects contain a part.
    count : int
        Objects to place.
    """

    radii: tuple[float, float]
    kinds: tuple[str, str]
    has_second_kind: bool
    spread: float
    clumping: float
    overlap: float
    gap: int
    has_parts: bool
    count: int


def draw_layout(rng: np.random.Generator) -> Layout:
    """Draw where the objects of a drawing lie."""
    if rng.random() < TISSUE_SHARE:
        return draw_tissue(rng)
    return place_objects(choose_plan(rng), rng)


def choose_plan(rng: np.random.Generator) -> Plan:
    """Choose how the objects of a drawing differ and how close they are."""
    # Small objects are as frequent as large ones: 12 to 200 pixels wide
    radius = float(np.exp(rng.uniform(np.log(6), np.log(70 if rng.random() < 0.85 else 100))))
    first, second = rng.choice(list(KINDS), 2, p=list(KINDS.values()))
    most = int(min(260, 0.75 * SIDE**2 / (np.pi * radius**2)))
    return Plan(
        radii=(radius, radius * rng.uniform(0.4, 2)),
        kinds=(str(first), str(second)),
        has_second_kind=rng.random() < 0.35,
        spread=rng.uniform(0.05, 0.4),
        clumping=float(rng.choice([0, 0.3, 0.6, 0.85], p=[0.3, 0.25, 0.25, 0.2])),
        overlap=float(rng.choice([0.0, 0.05, 0.3], p=[0.45, 0.25, 0.3])),
        gap=int(rng.integers(0, 4)) if rng.random() < 0.4 else 0,
        has_parts=rng.random() < 0.25 and radius > 12,
        count=int(rng.integers(max(2, most // 10), max(4, most))),
    )


def place_objects(plan: Plan, rng: np.random.Generator) -> Layout:
    """Place objects one by one, where the plan allows it."""
    labels = np.zeros((SIDE, SIDE), np.int32)
    parts = np.zeros((SIDE, SIDE), np.int32)
    layers = np.zeros((SIDE, SIDE), np.uint8)
    boxes: list[tuple[slice, slice]] = []
    areas: list[int] = []
    placed: list[tuple[float, float, float]] = []  # row, column, radius
    for _ in range(2 * plan.count):
        if len(boxes) == plan.count:
            break
        radius, kind = choose_object(plan, rng)
        row, column = choose_place(plan, radius, placed, rng)
        mask = draw_shape(radius, kind, rng)
        window, inner = cut_window(row, column, len(mask))
        mask = mask[inner]
        if min(mask.shape) < 3 or mask.sum() < SMALLEST:
            continue
        taken = labels[window]
        blocked = taken > 0
        if plan.gap:
            around = np.ones((2 * plan.gap + 1,) * 2, np.uint8)
            blocked = cv2.dilate(blocked.astype(np.uint8), around) > 0
        if (blocked & mask).sum() > plan.overlap * mask.sum():
            continue
        layers[window] += mask
        if plan.gap or rng.random() < 0.5:  # behind the others
            mask = mask & (taken == 0)
        boxes.append(window)
        areas.append(int(mask.sum()))
        placed.append((row, column, radius))
        taken[mask] = len(boxes)
        parts[window][mask] = 0
        if plan.has_parts:
            draw_part(parts[window], mask, radius, len(boxes), rng)
    drop_fragments(labels, boxes, areas)
    parts[parts != labels] = 0
    return Layout(labels, parts, boxes, layers)


def choose_object(plan: Plan, rng: np.random.Generator) -> tuple[float, str]:
    """Return the radius and the kind of shape of the next object."""
    which = int(plan.has_second_kind and rng.random() < 0.5)
    radius = plan.radii[which] * np.exp(plan.spread * rng.standard_normal())
    kind = plan.kinds[which]
    if rng.random() < 0.03:
        kind = 'bar'  # like a dividing nucleus
    return float(np.clip(radius, 5, 105)), kind


def choose_place(
    plan: Plan,
    radius: float,
    placed: list[tuple[float, float, float]],
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Return the row and column of the next object: anywhere, or beside another object."""
    row, column = rng.uniform(-0.02 * SIDE, 1.02 * SIDE, 2)
    if placed and rng.random() < plan.clumping:
        is_last = rng.random() < 0.6
        other = placed[-1] if is_last else placed[rng.integers(len(placed))]
        direction = rng.uniform(0, TURN)
        distance = (other[2] + radius) * rng.uniform(0.75, 1.1) + plan.gap
        row = other[0] + distance * np.sin(direction)
        column = other[1] + distance * np.cos(direction)
    return float(row), float(column)


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
    depth = depths_in(mask)
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


def drop_fragments(labels: np.ndarray, boxes: list[tuple[slice, slice]], areas: list[int]) -> None:
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
    """Fill a drawing with cells that touch on all sides, or most of it."""
    size = float(np.exp(rng.uniform(np.log(16), np.log(80))))
    cells = divide_plane(size, rng)
    gap = int(rng.integers(0, 3))
    if gap:
        edges = find_edges(cells).astype(np.uint8)
        cells[cv2.dilate(edges, np.ones((2 * gap - 1,) * 2, np.uint8)) > 0] = 0
    share = 1 if rng.random() < 0.5 else rng.uniform(0.4, 0.95)
    is_kept = rng.random(cells.max() + 1) < share
    has_parts = rng.random() < 0.4

    labels, parts = np.zeros_like(cells), np.zeros_like(cells)
    boxes: list[tuple[slice, slice]] = []
    areas: list[int] = []
    for number, window in enumerate(find_objects(cells), start=1):
        if window is None or not is_kept[number]:
            continue
        mask = cells[window] == number
        if mask.sum() >= SMALLEST:
            boxes.append(window)
            areas.append(int(mask.sum()))
            labels[window][mask] = len(boxes)
            if has_parts:
                draw_part(parts[window], mask, size / 2, len(boxes), rng)
    drop_fragments(labels, boxes, areas)
    parts[parts != labels] = 0
    return Layout(labels, parts, boxes, (labels != 0).astype(np.uint8))


def divide_plane(size: float, rng: np.random.Generator) -> np.ndarray:
    """Divide a drawing into cells about `size` pixels wide: a Voronoi diagram with wavy borders.

    Returns
    -------
    (SIDE, SIDE) ndarray of int32
        1 and more.
    """
    margin = int(2 * size)
    side = SIDE + 2 * margin
    grid = np.arange(0, side, size)
    points = np.stack(np.meshgrid(grid, grid, indexing='ij'), axis=-1).reshape(-1, 2)
    rows, columns = np.rint(rng.normal(points, 0.28 * size)).astype(int).T
    is_inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
    is_free = np.ones((side, side), np.uint8)
    is_free[rows[is_inside], columns[is_inside]] = 0
    # The number of the nearest point, from the labels of a distance transform
    _, nearest = cv2.distanceTransformWithLabels(
        is_free, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, columns = np.mgrid[0:side, 0:side]
    waves = [0.18 * size * smooth_noise((side, side), 0.7 * size, rng) for _ in range(2)]
    rows = np.clip(np.rint(rows + waves[0]), 0, side - 1).astype(int)
    columns = np.clip(np.rint(columns + waves[1]), 0, side - 1).astype(int)
    return np.array(nearest[rows, columns][margin:-margin, margin:-margin], np.int32)


def depths_in(mask: np.ndarray) -> np.ndarray:
    """Return the distance of each pixel of a mask from its border, pixels."""
    padded = np.pad(mask, 1).astype(np.uint8)
    return cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]


def find_edges(labels: np.ndarray) -> np.ndarray:
    """Return where a label touches another one: (H, W) bool."""
    values = labels.astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.dilate(values, kernel) != cv2.erode(values, kernel))


def smooth_noise(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Return noise that varies over `scale` pixels, with mean 0 and standard deviation 1."""
    small = [max(3, int(np.ceil(length / scale)) + 2) for length in shape]
    coarse = rng.standard_normal(small).astype(np.float32)
    noise = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-6))
