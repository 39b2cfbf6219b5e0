"""An object with its context: the part of a frame that SAM's encoder sees."""
import math

import numpy as np

from fewshot.geometry import Box, bound_mask


def place_crop(box: Box, area: int, image_shape: tuple[int, ...], occupancy: float) -> Box:
    """The square around `box` of which an object of `area` pixels fills the share `occupancy`.

    Never smaller than the box; at the image's border it is shifted, and it is cut only where the image itself is
    smaller than the square.
    """
    side = max(round(math.sqrt(area / occupancy)), box.bottom - box.top, box.right - box.left)
    height, width = min(side, image_shape[0]), min(side, image_shape[1])
    top = min(max((box.top + box.bottom - height) // 2, 0), image_shape[0] - height)
    left = min(max((box.left + box.right - width) // 2, 0), image_shape[1] - width)
    return Box(top, left, top + height, left + width)


def extract_crop(image: np.ndarray, box: Box, mask: np.ndarray, occupancy: float) -> tuple[np.ndarray, np.ndarray]:
    """The crop around an object whose mask is cut to its box.

    Parameters
    ----------
    image : (H, W, ...)
    mask : (box height, box width) bool

    Returns
    -------
    crop_image : (h, w, ...)
    crop_mask : (h, w) bool
    """
    crop = place_crop(box, int(mask.sum()), image.shape, occupancy)
    crop_mask = np.zeros((crop.bottom - crop.top, crop.right - crop.left), bool)
    crop_mask[box.top - crop.top:box.bottom - crop.top, box.left - crop.left:box.right - crop.left] = mask
    return image[crop.slices], crop_mask


def extract_crop_with_context(
        image: np.ndarray, mask: np.ndarray, target_occupancy: float = 0.20) -> tuple[np.ndarray, np.ndarray]:
    """The crop around the object under a full-size mask, of which the object fills about `target_occupancy`.

    Parameters
    ----------
    image : (H, W, ...)
    mask : (H, W), not zero on the object; an empty mask gives the whole image

    Returns
    -------
    crop_image : (h, w, ...)
    crop_mask : (h, w) bool
    """
    mask = np.asarray(mask) != 0
    box = bound_mask(mask)
    if box is None:
        return image, mask
    return extract_crop(image, box, mask[box.slices], target_occupancy)
