"""Draw synthetic microscopy with labels, in the looks of several kinds of microscopy.

Fluorescence, several channels in colour, membranes, phase contrast, bright field and stained
tissue; with uneven light, objects out of focus, debris, noise, blur and compression.
"""

from typing import NamedTuple

import cv2
import numpy as np

from training.shapes import IGNORED, SIDE, Layout, depths_in, draw_layout, find_edges, smooth_noise

LOOKS = {
    'fluorescence': 0.40,
    'channels': 0.12,
    'membrane': 0.12,
    'phase contrast': 0.12,
    'bright field': 0.12,
    'stained tissue': 0.12,
}


class Drawing(NamedTuple):
    """A picture with known objects.

    Attributes
    ----------
    rgb : (SIDE, SIDE, 3) ndarray of uint8
    labels : (SIDE, SIDE) ndarray of int32
        1 and more for objects, 0 for background, IGNORED for what is neither.
    parts : (SIDE, SIDE) ndarray of int32
        The label of the object whose part is here; 0 elsewhere.
    """

    rgb: np.ndarray
    labels: np.ndarray
    parts: np.ndarray


def make_image(rng: np.random.Generator, look: str | None = None) -> Drawing:
    """Draw one picture.

    Parameters
    ----------
    rng : numpy.random.Generator
    look : str, optional
        One of LOOKS; drawn by default.
    """
    layout = draw_layout(rng)
    look = look or str(rng.choice(list(LOOKS), p=list(LOOKS.values())))
    if look == 'fluorescence':
        image = to_grey_or_tint(paint_fluorescence(layout, rng), rng)
    elif look == 'channels':
        image = paint_channels(layout, rng)
    elif look == 'membrane':
        image = to_grey_or_tint(paint_membranes(layout, rng), rng)
    elif look == 'phase contrast':
        image = to_grey_or_tint(paint_phase(layout, rng), rng)
    elif look == 'bright field':
        image = to_grey_or_tint(paint_bright_field(layout, rng), rng)
    else:
        image = paint_tissue(layout, rng)
    return Drawing(record(image, rng), layout.labels, layout.parts)


# What one object looks like


def paint_profiles(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Return the brightness of filled objects: (SIDE, SIDE) float32, 1 for a typical object."""
    light = np.zeros((SIDE, SIDE), np.float32)
    variation = rng.uniform(0.05, 0.9)
    texture = rng.uniform(0, 0.5) if rng.random() < 0.7 else 0
    grain = smooth_noise((SIDE, SIDE), np.exp(rng.uniform(np.log(1.5), np.log(8))), rng)
    style = rng.choice(['flat', 'dome', 'rim', 'hollow'], p=[0.35, 0.4, 0.15, 0.1])
    spotted = rng.random() < 0.2
    bright = rng.choice([0, 0.04, 0.1], p=[0.6, 0.25, 0.15])
    softness = rng.uniform(0.3, 1)
    for label, window in enumerate(layout.boxes, start=1):
        mask = layout.labels[window] == label
        if not mask.any():
            continue
        strength = np.exp(-variation * rng.random())
        if rng.random() < bright:
            strength *= rng.uniform(2, 6)
        depth = depths_in(mask)
        deepest = depth.max()
        if style == 'flat':
            profile = np.ones_like(depth)
        elif style == 'dome':
            profile = 0.4 + 0.6 * np.clip(depth / (softness * deepest), 0, 1)
        elif style == 'rim':
            profile = 0.75 + rng.uniform(0.2, 0.6) * (depth < max(1.5, 0.15 * deepest))
        else:
            profile = 0.3 + 0.7 * (depth < max(2, rng.uniform(0.2, 0.4) * deepest))
        profile = profile * (1 + texture * grain[window])
        if spotted and deepest > 5:
            profile = profile + paint_spots(mask, deepest, rng)
        light[window][mask] = (strength * np.clip(profile, 0.1, None))[mask]
    return light


def paint_spots(mask: np.ndarray, deepest: float, rng: np.random.Generator) -> np.ndarray:
    """Return a few brighter or darker spots inside a mask, like nucleoli."""
    spots = np.zeros(mask.shape, np.float32)
    rows, columns = np.nonzero(mask)
    sign = rng.choice([-0.5, 0.7])
    for _ in range(rng.integers(1, 5)):
        chosen = rng.integers(len(rows))
        radius = max(1, round(deepest * rng.uniform(0.1, 0.25)))
        centre = int(columns[chosen]), int(rows[chosen])
        cv2.circle(spots, centre, radius, float(sign), -1)
    return cv2.GaussianBlur(spots, (0, 0), 0.8)


def paint_fragments(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Return the brightness of fragments, which have no label: (SIDE, SIDE) float32."""
    return (layout.labels == IGNORED) * np.float32(rng.uniform(0.4, 1))


def paint_rims(labels: np.ndarray, width: float) -> np.ndarray:
    """Return 1 on the borders of objects, falling off over `width` pixels."""
    rim = cv2.GaussianBlur(find_edges(labels).astype(np.float32), (0, 0), max(0.5, width / 2))
    return np.clip(rim / (rim.max() + 1e-6) * 1.3, 0, 1)


# What a picture looks like


def paint_clutter(rng: np.random.Generator) -> np.ndarray:
    """Return the light of things that are no objects: uneven light, blurred things, debris."""
    clutter = np.zeros((SIDE, SIDE), np.float32)
    if rng.random() < 0.6:  # uneven light
        clutter += rng.uniform(0.02, 0.3) * smooth_noise((SIDE, SIDE), rng.uniform(120, 400), rng)
    if rng.random() < 0.35:  # objects far out of focus
        blobs = np.zeros_like(clutter)
        for _ in range(rng.integers(2, 25)):
            radius = int(rng.uniform(8, 60))
            centre = tuple(int(one) for one in rng.integers(0, SIDE, 2))
            cv2.circle(blobs, centre, radius, float(rng.uniform(0.1, 0.5)), -1)
        clutter += cv2.GaussianBlur(blobs, (0, 0), rng.uniform(8, 25))
    if rng.random() < 0.35:  # specks
        for _ in range(rng.integers(3, 60)):
            centre = tuple(int(one) for one in rng.integers(0, SIDE, 2))
            cv2.circle(clutter, centre, int(rng.integers(0, 3)), float(rng.uniform(0.2, 1.2)), -1)
    if rng.random() < 0.12:  # fibres
        for _ in range(rng.integers(1, 6)):
            steps = rng.normal(0, 40, (12, 2)) + rng.normal(0, 25, 2)
            path = rng.integers(-50, SIDE + 50, 2) + np.cumsum(steps, axis=0)
            level = float(rng.uniform(0.2, 0.8))
            width = int(rng.integers(1, 4))
            cv2.polylines(clutter, [path.astype(np.int32)], False, level, width, cv2.LINE_AA)
    if rng.random() < 0.4:  # texture of the background
        clutter += rng.uniform(0.01, 0.1) * smooth_noise((SIDE, SIDE), rng.uniform(2, 20), rng)
    return clutter


def paint_fluorescence(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Return filled objects that shine on a dark background; a few pictures are inverted."""
    light = paint_profiles(layout, rng) + paint_fragments(layout, rng)
    if rng.random() < 0.5:  # the light of objects that lie on each other adds up
        light = light * (1 + rng.uniform(0.2, 1) * np.maximum(layout.layers.astype(int) - 1, 0))
    if rng.random() < 0.3:
        light = light + rng.uniform(0.2, 1) * paint_rims(layout.labels, rng.uniform(1, 3))
    if rng.random() < 0.3:
        has_part = layout.parts > 0
        light[has_part] *= rng.choice([rng.uniform(0.2, 0.7), rng.uniform(1.3, 2.5)])
    light = light + rng.uniform(0.2, 1.2) * paint_clutter(rng)
    if rng.random() < 0.35:  # light scattered around the objects
        light = light + rng.uniform(0.1, 0.5) * cv2.GaussianBlur(light, (0, 0), rng.uniform(6, 30))
    return -light if rng.random() < 0.08 else light


def paint_membranes(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Return objects of which only the borders shine, or are dark."""
    light = paint_rims(layout.labels, rng.uniform(1, 4))
    breaks = smooth_noise((SIDE, SIDE), rng.uniform(6, 40), rng)
    light *= np.clip(1 + rng.uniform(0, 0.6) * breaks, 0.15, 2)
    light += rng.uniform(0, 0.25) * (layout.labels > 0)
    if rng.random() < 0.5:
        light += rng.uniform(0.2, 1.2) * (layout.parts > 0)
    light += rng.uniform(0.05, 0.5) * paint_clutter(rng)
    return -light if rng.random() < 0.25 else light


def paint_phase(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Return phase contrast: textured objects with bright halos."""
    inside = paint_profiles(layout, rng)
    has_object = (layout.labels != 0).astype(np.float32)
    width = rng.uniform(2, 8)
    halo = cv2.GaussianBlur(has_object, (0, 0), width) * (1 - has_object)
    darkness = rng.uniform(0.1, 0.9)
    image = 1.6 * rng.uniform(0.3, 1.3) * halo - darkness * np.clip(inside, 0, 1.5)
    image += rng.uniform(-0.2, 0.6) * paint_rims(layout.labels, rng.uniform(1, 3))
    image -= rng.uniform(0, 0.5) * (layout.parts > 0)
    grain = smooth_noise((SIDE, SIDE), rng.uniform(1.5, 5), rng)
    image += rng.uniform(0, 0.15) * grain * has_object
    return image + rng.uniform(0.1, 0.5) * paint_clutter(rng)


def paint_bright_field(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Return bright field: dark rims, or the relief of differential interference contrast."""
    height = np.zeros((SIDE, SIDE), np.float32)
    for label, window in enumerate(layout.boxes, start=1):
        mask = layout.labels[window] == label
        if mask.any():
            depth = depths_in(mask)
            height[window][mask] = np.sqrt(depth / depth.max())[mask]
    grain = smooth_noise((SIDE, SIDE), rng.uniform(1.5, 6), rng)
    height += rng.uniform(0, 0.15) * grain * (height > 0)
    height += rng.uniform(0, 0.4) * (layout.parts > 0)
    if rng.random() < 0.4:  # relief: the slope in one direction
        smooth = cv2.GaussianBlur(height, (0, 0), rng.uniform(1, 2))
        angle = rng.uniform(0, 2 * np.pi)
        slope_rows, slope_columns = np.gradient(smooth)
        image = 4 * (np.cos(angle) * slope_rows + np.sin(angle) * slope_columns)
    else:
        image = -rng.uniform(0.3, 1) * paint_rims(layout.labels, rng.uniform(1, 4))
        image += rng.uniform(-0.5, 0.4) * height
        if rng.random() < 0.5:  # a bright line beside the dark one
            outside = cv2.GaussianBlur((layout.labels != 0).astype(np.float32), (0, 0), 2)
            image += rng.uniform(0.2, 0.8) * outside * (layout.labels == 0)
    return image + rng.uniform(0.1, 0.6) * paint_clutter(rng)


def paint_channels(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Return several channels in colour: bodies, parts and a channel of other things."""
    image = np.zeros((SIDE, SIDE, 3), np.float32)
    paints = [paint_profiles(layout, rng) + paint_fragments(layout, rng)]
    if (layout.parts > 0).any():
        grain = 1 + 0.3 * smooth_noise((SIDE, SIDE), 4, rng)
        paints.append((layout.parts > 0) * np.clip(grain, 0.2, 2))
    if rng.random() < 0.5:
        paints.append(paint_rims(layout.labels, rng.uniform(1, 3)))
    if rng.random() < 0.4:
        paints.append(np.clip(smooth_noise((SIDE, SIDE), rng.uniform(4, 40), rng), 0, 2) * 0.3)
    for light in paints:
        colour = rng.dirichlet((0.5, 0.5, 0.5))
        image += (light * rng.uniform(0.3, 1))[..., None] * (colour / colour.max())
    clutter = paint_clutter(rng) * rng.uniform(0.1, 0.7)
    return image + clutter[..., None] * rng.uniform(0, 1, 3)


def paint_tissue(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Return stained tissue: dark objects in colour on a lighter, uneven background."""
    absorbed = np.zeros((SIDE, SIDE, 3), np.float32)
    stain = np.array(rng.choice([(0.65, 0.70, 0.29), (0.45, 0.75, 0.35), (0.27, 0.57, 0.78)]))
    stain = np.clip(stain + rng.normal(0, 0.06, 3), 0.05, 1)
    other = np.clip(np.array((0.07, 0.85, 0.4)) + rng.normal(0, 0.1, 3), 0.02, 1)
    body = paint_profiles(layout, rng) + paint_fragments(layout, rng)
    absorbed += np.clip(body, 0, 2.2)[..., None] * stain * rng.uniform(0.5, 1.6)
    absorbed += ((layout.parts > 0) * rng.uniform(0.2, 0.8))[..., None] * stain
    stroma = sum(smooth_noise((SIDE, SIDE), scale, rng) for scale in (3, 12, 50)) * rng.uniform(
        0.03, 0.15
    )
    stroma = np.clip(rng.uniform(0.1, 0.6) + stroma, 0, None) * (1 - 0.6 * (layout.labels > 0))
    absorbed += stroma[..., None] * other
    absorbed += (rng.uniform(0.05, 0.4) * np.abs(paint_clutter(rng)))[..., None] * other
    return np.exp(-absorbed)


def to_grey_or_tint(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return grey as (SIDE, SIDE, 1), or in a colour of one channel as (SIDE, SIDE, 3)."""
    if rng.random() < 0.75:
        return light[..., None]
    low, high = np.percentile(light, (1, 99.8))
    colour = rng.uniform(0, 1, 3)
    return np.clip((light - low) / (high - low + 1e-6), 0, 1)[..., None] * colour / colour.max()


def record(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, add noise, choose the contrast and compress: (H, W, 1 or 3) -> (H, W, 3) uint8."""
    image = image.astype(np.float32)
    blur = rng.uniform(0.3, 2.2)
    image = cv2.GaussianBlur(image, (0, 0), blur).reshape(image.shape)
    low, high = np.percentile(image, (rng.uniform(0, 2), rng.choice([100, 99.9, 99.5, 98])))
    image = (image - low) / (high - low + 1e-6)
    # Less contrast than the range of the display
    image = rng.uniform(0, 0.15) + image * rng.uniform(0.35, 1)
    noise = np.exp(rng.uniform(np.log(0.005), np.log(0.15)))
    if rng.random() < 0.5:  # photon noise: more in bright places
        image += rng.standard_normal(image.shape) * noise * np.sqrt(np.clip(image, 0.02, 1) + 0.1)
    else:
        image += rng.standard_normal(image.shape) * noise * 0.7
    if rng.random() < 0.4:  # like an enlarged picture
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.2)).reshape(image.shape)
    if rng.random() < 0.5:  # the contrast that a user sets, by percentiles
        low, high = np.percentile(image, (rng.uniform(0, 3), rng.uniform(99, 100)))
        image = (image - low) / (high - low + 1e-6)
    image = np.clip(image, 0, 1) ** rng.uniform(0.6, 1.6)
    pixels = np.array(np.broadcast_to(image * 255, (SIDE, SIDE, 3)), np.uint8)
    if rng.random() < 0.15:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))]
        pixels = np.asarray(
            cv2.imdecode(cv2.imencode('.jpg', pixels, quality)[1], cv2.IMREAD_COLOR)
        )
    return pixels
