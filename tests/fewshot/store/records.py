"""Records of a small frame."""

import numpy as np

from fewshot.geometry import Box
from fewshot.sam.candidates import Candidate
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.store.record import Record, make_key
from tests.fewshot.sam.drawing import make_candidate

SHAPE = (20, 30, 3)
CHANNELS = 6
RGB = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
KEY = make_key(RGB, None, VIT_MINI, 16, 'float32')


def make_record(candidates: int = 3, vectors: int = 2, seed: int = 0) -> Record:
    """Return a record with random masks and vectors."""
    rng = np.random.default_rng(seed)
    made: list[Candidate] = []
    for _ in range(candidates):
        height, width = rng.integers(1, 12, 2)
        mask = rng.random((height, width)) < 0.7
        mask[0, 0] = True  # not empty
        top, left = rng.integers(0, SHAPE[0] - height), rng.integers(0, SHAPE[1] - width)
        one = make_candidate(mask, int(top), int(left))
        made.append(Candidate(one.box, one.bits, one.area, float(rng.random()), rng.random()))
    digests = [rng.bytes(16) for _ in range(vectors)]
    numbers = rng.standard_normal((vectors, CHANNELS)).astype(np.float32)
    return Record(made, dict(zip(digests, numbers, strict=True)))


def assert_equal(one: Record, other: Record) -> None:
    """Compare two records, bit for bit and in order."""
    assert (one.candidates is None) == (other.candidates is None)
    for before, after in zip(one.candidates or [], other.candidates or [], strict=True):
        assert isinstance(after.box, Box)
        assert before.box == after.box
        np.testing.assert_array_equal(before.bits, after.bits)
        assert before.area == after.area
        assert before.predicted_iou == after.predicted_iou
        assert before.stability_score == after.stability_score
    assert list(one.vectors) == list(other.vectors)
    for digest, vector in one.vectors.items():
        assert vector.tobytes() == other.vectors[digest].tobytes()
