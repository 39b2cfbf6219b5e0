"""Draw synthetic microscopy with labels.

The objects are blobs of many sizes, brightnesses and textures, alone, touching or in clumps.
"""

import numpy as np
from scipy import ndimage

SIDE = 512  # pixels


def _draw_blob(
    height: int, width: int, row: float, column: float, radius: float, rng
) -> np.ndarray:
    """Draw an ellipse with a wave around (row, column): (H, W) bool.

    A few are narrow bars, like dividing nuclei.
    """
    rows, columns = np.mgrid[0:height, 0:width]
    angle = rng.random() * np.pi
    bar = rng.random() < 0.04
    ratio = rng.uniform(0.25, 0.4) if bar else 1 - 0.5 * rng.random()
    u = (columns - column) * np.cos(angle) + (rows - row) * np.sin(angle)
    v = (-(columns - column) * np.sin(angle) + (rows - row) * np.cos(angle)) / ratio
    height_of_wave = 0.125 * rng.random()
    phase_of_wave = rng.integers(2, 6) * np.arctan2(v, u) + rng.random() * 2 * np.pi
    return np.hypot(u, v) < radius * (1 + height_of_wave * np.sin(phase_of_wave))


def _place_objects(rng) -> tuple[np.ndarray, list[tuple[slice, slice, float]]]:
    """Place objects in an image.

    Returns
    -------
    labels : (SIDE, SIDE) ndarray of int32
        0 is background.
    objects : list of tuple
        (rows, columns, radius) of label 1, 2 and so on.
    """
    labels = np.zeros((SIDE, SIDE), np.int32)
    objects: list[tuple[slice, slice, float]] = []
    base = np.exp(rng.uniform(np.log(11), np.log(45)))
    other = base * rng.uniform(0.35, 2.5)
    two_sizes, clumped, overlapping = rng.random() < 0.4, rng.random() < 0.45, rng.random() < 0.5
    last = None
    most = 30 + int(120 * min(1, (16 / base) ** 2))
    for _ in range(rng.integers(8, most)):
        size = other if two_sizes and rng.random() < 0.5 else base
        radius = np.clip(size * rng.uniform(0.7, 1.35), 4, 110)
        row, column = rng.uniform(0, SIDE, 2)
        if clumped and last is not None and rng.random() < 0.5:  # beside the last object
            last_row, last_column, last_radius = last
            direction = rng.random() * 2 * np.pi
            distance = (last_radius + radius) * rng.uniform(0.75, 1.0)
            row = last_row + distance * np.sin(direction)
            column = last_column + distance * np.cos(direction)
        reach = int(radius * 1.6) + 2
        top, left = max(0, int(row) - reach), max(0, int(column) - reach)
        bottom, right = min(SIDE, int(row) + reach), min(SIDE, int(column) + reach)
        window = slice(top, max(top, bottom)), slice(left, max(left, right))
        taken = labels[window]
        if min(taken.shape) < 3:
            continue
        blob = _draw_blob(taken.shape[0], taken.shape[1], row - top, column - left, radius, rng)
        most_overlap = 0.35 if overlapping else 0.02
        if not blob.any() or (taken[blob] > 0).mean() > most_overlap:
            continue
        if not overlapping or rng.random() < 0.5:  # behind the other objects
            blob &= taken == 0
        if blob.sum() < 30:
            continue
        objects.append((*window, radius))
        taken[blob] = len(objects)
        last = row, column, radius
    return labels, objects


def _paint(labels: np.ndarray, objects, rng) -> np.ndarray:
    """Return intensities (SIDE, SIDE) in [0, 1]: background, objects, blur, noise, contrast."""
    dark_objects = rng.random() < 0.15
    sign = -1 if dark_objects else 1
    background = rng.uniform(0.5, 0.9) if dark_objects else rng.uniform(0.02, 0.4)
    image = np.full(labels.shape, background, np.float32)
    image += rng.uniform(0, 0.12) * ndimage.zoom(rng.standard_normal((4, 4)), SIDE / 4, order=3)
    contrast = rng.uniform(0.12, 0.8)
    variation = rng.uniform(0.05, 0.7)
    texture = rng.uniform(0, 0.35)
    a_few_bright, ringed, edged = rng.random() < 0.4, rng.random() < 0.2, rng.random() < 0.4
    for label, (rows, columns, radius) in enumerate(objects, start=1):
        blob = labels[rows, columns] == label
        if not blob.any():  # another object covers it
            continue
        strength = contrast * (1 - variation * rng.random())
        if a_few_bright and rng.random() < 0.06:
            strength *= rng.uniform(2.5, 5)
        depth = ndimage.distance_transform_edt(blob)
        if ringed:
            profile = 0.35 + 0.65 * (depth < max(2, 0.25 * radius))
        elif rng.random() < 0.6:
            profile = 0.5 + 0.5 * np.clip(depth / (0.6 * radius), 0, 1)
        else:
            profile = np.ones_like(depth)
        noise = ndimage.gaussian_filter(rng.standard_normal(blob.shape), rng.uniform(1, 4))
        grain = 1 + 3 * texture * noise
        view = image[rows, columns]
        view[blob] = (background + sign * strength * profile * grain)[blob]
        if edged:
            view[blob & (depth <= 1.5)] += sign * strength * 0.25
    if rng.random() < 0.3:  # light from objects out of focus
        share = rng.uniform(0.1, 0.5)
        image += share * (ndimage.gaussian_filter(image, rng.uniform(8, 30)) - background)
    image = ndimage.gaussian_filter(image, rng.uniform(0.4, 2.4))
    image += rng.standard_normal(image.shape) * rng.uniform(0.005, 0.09)
    if rng.random() < 0.4:  # like an enlarged picture
        image = ndimage.gaussian_filter(image, rng.uniform(0.6, 1.2))
    black = rng.uniform(0, 2)
    white = rng.uniform(99.5 if a_few_bright else 98.5, 100)
    low, high = np.percentile(image, [black, white])
    return np.clip((image - low) / (high - low + 1e-6), 0, 1) ** rng.uniform(0.6, 1.5)


def make_image(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image and its labels.

    Returns
    -------
    rgb : (512, 512, 3) ndarray of uint8
        Grey, or of one random colour.
    labels : (512, 512) ndarray of int32
        0 is background.
    """
    labels, objects = _place_objects(rng)
    grey = _paint(labels, objects, rng)
    colour = np.ones(3) if rng.random() < 0.65 else rng.uniform(0.05, 1, 3)
    return (grey[..., None] * colour / colour.max() * 255).astype(np.uint8), labels
