"""The masks that SAM proposes, as values. This module needs numpy, but neither torch nor SAM."""

from dataclasses import dataclass

import numpy as np

from fewshot.geometry import Box


@dataclass(frozen=True)
class Candidate:
    """A mask that SAM proposes."""

    box: Box  # the smallest around the mask, in its frame
    bits: np.ndarray  # the mask within its box, as from `pack_mask`
    area: int  # pixels
    predicted_iou: float  # SAM's own estimate of the mask's quality
    stability_score: float  # IoU of the masks at a higher and a lower threshold

    @property
    def mask(self) -> np.ndarray:
        """(box height, box width) bool ndarray, unpacked at each access."""
        return unpack_mask(self.bits, self.box.width)


def pack_mask(mask: np.ndarray) -> np.ndarray:
    """Pack eight pixels of a row into each byte.

    Parameters
    ----------
    mask : (h, w) bool ndarray

    Returns
    -------
    (h, ceil(w / 8)) uint8 ndarray

    Examples
    --------
    >>> bits = pack_mask(np.ones((3, 10), bool))
    >>> bits.shape
    (3, 2)
    >>> bool(unpack_mask(bits, width=10).all())
    True
    """
    return np.packbits(mask, axis=1)


def unpack_mask(bits: np.ndarray, width: int) -> np.ndarray:
    """Unpack what `pack_mask` packed.

    Parameters
    ----------
    bits : (h, ceil(width / 8)) uint8 ndarray
    width : int

    Returns
    -------
    (h, width) bool ndarray
    """
    return np.unpackbits(bits, axis=1, count=width).view(bool)
