"""Synthetic microscopy: blobs of many sizes, brightnesses and textures, alone, touching or in clumps, with labels."""

import numpy as np
from scipy import ndimage

SIDE = 512  # pixels


def _draw_blob(
    height: int, width: int, row: float, column: float, radius: float, rng
) -> np.ndarray:
    """A wobbly ellipse around (row, column), now and then a narrow bar like a dividing nucleus: (H, W) bool."""
    rows, columns = np.mgrid[0:height, 0:width]
    angle = rng.random() * np.pi
    bar = rng.random() < 0.04
    ratio = rng.uniform(0.25, 0.4) if bar else 1 - 0.5 * rng.random()
    u = (columns - column) * np.cos(angle) + (rows - row) * np.sin(angle)
    v = (-(columns - column) * np.sin(angle) + (rows - row) * np.cos(angle)) / ratio
    wobble = (
        0.125
        * rng.random()
        * np.sin(rng.integers(2, 6) * np.arctan2(v, u) + rng.random() * 2 * np.pi)
    )
    return np.hypot(u, v) < radius * (1 + wobble)


def _place_objects(rng) -> tuple[np.ndarray, list[tuple[slice, slice, float]]]:
    """Label image (SIDE, SIDE) int32, and of each object its window and its radius; label i + 1 is entry i."""
    labels = np.zeros((SIDE, SIDE), np.int32)
    objects: list[tuple[slice, slice, float]] = []
    base = np.exp(rng.uniform(np.log(11), np.log(45)))
    other = base * rng.uniform(0.35, 2.5)
    two_sizes, clumped, overlapping = rng.random() < 0.4, rng.random() < 0.45, rng.random() < 0.5
    last = None
    for _ in range(rng.integers(8, 30 + int(120 * min(1, (16 / base) ** 2)))):
        radius = np.clip(
            (other if two_sizes and rng.random() < 0.5 else base) * rng.uniform(0.7, 1.35), 4, 110
        )
        row, column = rng.uniform(0, SIDE, 2)
        if clumped and last is not None and rng.random() < 0.5:  # beside the last one
            direction, distance = (
                rng.random() * 2 * np.pi,
                (last[2] + radius) * rng.uniform(0.75, 1.0),
            )
            row, column = (
                last[0] + distance * np.sin(direction),
                last[1] + distance * np.cos(direction),
            )
        reach = int(radius * 1.6) + 2
        top, left = max(0, int(row) - reach), max(0, int(column) - reach)
        bottom, right = min(SIDE, int(row) + reach), min(SIDE, int(column) + reach)
        window = slice(top, max(top, bottom)), slice(left, max(left, right))
        taken = labels[window]
        if min(taken.shape) < 3:
            continue
        blob = _draw_blob(taken.shape[0], taken.shape[1], row - top, column - left, radius, rng)
        if not blob.any() or (taken[blob] > 0).mean() > (0.35 if overlapping else 0.02):
            continue
        if not overlapping or rng.random() < 0.5:  # behind the others
            blob &= taken == 0
        if blob.sum() < 30:
            continue
        objects.append((*window, radius))
        taken[blob] = len(objects)
        last = row, column, radius
    return labels, objects


def _paint(labels: np.ndarray, objects, rng) -> np.ndarray:
    """Intensities (SIDE, SIDE) float32 in [0, 1]: background, objects, blur, noise, contrast."""
    dark_objects = rng.random() < 0.15
    sign, background = (-1, rng.uniform(0.5, 0.9)) if dark_objects else (1, rng.uniform(0.02, 0.4))
    image = np.full(labels.shape, background, np.float32)
    image += rng.uniform(0, 0.12) * ndimage.zoom(rng.standard_normal((4, 4)), SIDE / 4, order=3)
    contrast, variation, texture = (
        rng.uniform(0.12, 0.8),
        rng.uniform(0.05, 0.7),
        rng.uniform(0, 0.35),
    )
    a_few_bright, ringed, edged = rng.random() < 0.4, rng.random() < 0.2, rng.random() < 0.4
    for label, (rows, columns, radius) in enumerate(objects, start=1):
        blob = labels[rows, columns] == label
        if not blob.any():  # another one lies over it
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
        grain = 1 + 3 * texture * ndimage.gaussian_filter(
            rng.standard_normal(blob.shape), rng.uniform(1, 4)
        )
        view = image[rows, columns]
        view[blob] = (background + sign * strength * profile * grain)[blob]
        if edged:
            view[blob & (depth <= 1.5)] += sign * strength * 0.25
    if rng.random() < 0.3:  # light from objects out of focus
        image += rng.uniform(0.1, 0.5) * (
            ndimage.gaussian_filter(image, rng.uniform(8, 30)) - background
        )
    image = ndimage.gaussian_filter(image, rng.uniform(0.4, 2.4))
    image += rng.standard_normal(image.shape) * rng.uniform(0.005, 0.09)
    if rng.random() < 0.4:  # as an enlarged picture looks
        image = ndimage.gaussian_filter(image, rng.uniform(0.6, 1.2))
    low, high = np.percentile(
        image, [rng.uniform(0, 2), rng.uniform(99.5 if a_few_bright else 98.5, 100)]
    )
    return np.clip((image - low) / (high - low + 1e-6), 0, 1) ** rng.uniform(0.6, 1.5)


def make_image(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One image and its labels.

    Returns
    -------
    rgb : (512, 512, 3) uint8, grey or of one random colour
    labels : (512, 512) int32, 0 is background
    """
    labels, objects = _place_objects(rng)
    grey = _paint(labels, objects, rng)
    colour = np.ones(3) if rng.random() < 0.65 else rng.uniform(0.05, 1, 3)
    return (grey[..., None] * colour / colour.max() * 255).astype(np.uint8), labels
