"""The small model, loaded once for all tests, and pictures on which it finds something."""

import functools

import numpy as np
from scipy import ndimage
from segment_anything import SamPredictor

from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.model import load_model
from tests.worker import REPOSITORY

SIDE = 256  # of a picture of discs: in smaller ones, the model sees discs too large for it
CENTRES = [(30, 30), (34, 92), (94, 62)]  # of three discs, row and column
GRID = VIT_MINI.input_size // VIT_MINI.patch_size  # cells per side of the embedding
CHECKPOINT = REPOSITORY / 'models' / VIT_MINI.file


@functools.cache
def small_predictor() -> SamPredictor:
    """SAM with the weights that this repository carries."""
    return SamPredictor(load_model(VIT_MINI, str(CHECKPOINT)))


def draw_discs(
    centres: list[tuple[int, int]], radius: float, side: int = SIDE
) -> tuple[np.ndarray, np.ndarray]:
    """Draw bright discs on a dark ground with some noise: uint16, and labels counted from 1."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.int32)
    for number, (row, column) in enumerate(centres, start=1):
        labels[np.hypot(rows - row, columns - column) < radius] = number
    image = ndimage.gaussian_filter(400 + 3000.0 * (labels > 0), 1) + rng.normal(
        0, 60, labels.shape
    )
    return image.clip(0).astype(np.uint16), labels


def outline_disc(row: float, column: float, radius: float) -> list[dict[str, float]]:
    """Return a disc's outline as an annotation's coordinates."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return [
        {
            'x': float(column + 0.5 + radius * np.cos(angle)),
            'y': float(row + 0.5 + radius * np.sin(angle)),
        }
        for angle in angles
    ]
