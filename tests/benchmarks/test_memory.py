"""The memory of whole jobs, on frames that take no time."""

from functools import partial

import numpy as np

from benchmarks.frames import draw_frame
from benchmarks.memory import draw_batch, measure
from fewshot.settings import FASTEST


def test_the_workers_memory_is_read_after_each_frame():
    after = measure(partial(draw_batch, 2, 64), 64, 16, Speed=FASTEST)
    assert len(after) == 2
    assert after == sorted(after)
    assert after[0] > 0


def test_the_frames_of_a_batch_differ_and_the_first_is_the_one_with_the_examples():
    batch = draw_batch(4, 64)
    np.testing.assert_array_equal(batch[0], draw_frame(64))
    assert len(np.unique(batch, axis=0)) == 4
