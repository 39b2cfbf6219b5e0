"""An object with its surroundings: the part of a frame that SAM's image encoder gets."""

import math
from collections.abc import Sequence

import numpy as np

from fewshot.geometry import Box, bound_mask


def place_crop(box: Box, area: int, image_shape: Sequence[int], occupancy: float) -> Box:
    """Find the square around an object of which the object fills a given share.

    The square is not smaller than the box. At the border of the image it is shifted. It is cut only
    if the image itself is smaller than the square.

    Parameters
    ----------
    box : Box
        The smallest around the object.
    area : int
        Of the object, pixels.
    image_shape : sequence of int
        (H, W, ...).
    occupancy : float
        Share of the square's area that the object fills, greater than 0.

    Returns
    -------
    Box

    Examples
    --------
    An object of 100 pixels that shall fill a quarter of its crop:

    >>> place_crop(Box(50, 50, 60, 60), 100, (200, 200), occupancy=0.25)
    Box(top=45, left=45, bottom=65, right=65)

    The same at the corner of the image:

    >>> place_crop(Box(0, 190, 10, 200), 100, (200, 200), occupancy=0.25)
    Box(top=0, left=180, bottom=20, right=200)
    """
    side = max(round(math.sqrt(area / occupancy)), box.height, box.width)
    height, width = min(side, image_shape[0]), min(side, image_shape[1])
    centred_top = (box.top + box.bottom - height) // 2
    centred_left = (box.left + box.right - width) // 2
    top = min(max(centred_top, 0), image_shape[0] - height)
    left = min(max(centred_left, 0), image_shape[1] - width)
    return Box(top, left, top + height, left + width)


def extract_crop_with_context(
    image: np.ndarray, mask: np.ndarray, target_occupancy: float = 0.20
) -> tuple[np.ndarray, np.ndarray]:
    """Cut out the square around an object of which the object fills a given share.

    Parameters
    ----------
    image : (H, W, ...) ndarray
    mask : (H, W) ndarray
        Not zero on the object. An empty mask gives the whole image.
    target_occupancy : float
        Share of the crop's area that the object fills, see `place_crop`.

    Returns
    -------
    crop_image : (h, w, ...) ndarray
    crop_mask : (h, w) bool ndarray

    Examples
    --------
    >>> image, mask = np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100), bool)
    >>> mask[40:50, 40:50] = True
    >>> crop_image, crop_mask = extract_crop_with_context(image, mask, target_occupancy=0.25)
    >>> crop_image.shape, float(crop_mask.mean())
    ((20, 20, 3), 0.25)
    """
    mask = np.asarray(mask) != 0
    box = bound_mask(mask)
    if box is None:
        return image, mask
    crop = place_crop(box, int(mask.sum()), image.shape, target_occupancy)
    return image[crop.slices], mask[crop.slices]
