"""Candidates from masks, and masks from candidates."""

import numpy as np

from fewshot.geometry import bound_mask
from fewshot.sam.candidates import Candidate, pack_mask


def make_candidate(mask: np.ndarray, top: int = 0, left: int = 0) -> Candidate:
    """Make a candidate whose mask begins at a pixel of its frame."""
    inner = bound_mask(mask)
    assert inner is not None
    box = inner.shift(top, left)
    return Candidate(box, pack_mask(mask[inner.slices]), int(mask.sum()), 0.9, 0.9)


def place(candidate: Candidate, shape: tuple[int, ...]) -> np.ndarray:
    """Draw a candidate's mask into a frame: (H, W) bool."""
    mask = np.zeros(shape[:2], bool)
    mask[candidate.box.slices] = candidate.mask
    return mask
