import numpy as np

from evaluation.candidates import Objects, Trial
from evaluation.thresholds import divide_trials


def make_objects(vectors: list[tuple[float, float]]) -> Objects:
    by_crop = np.array(vectors, np.float32)
    return Objects([], by_crop, by_crop)


def test_f1_counts_kept_and_missed_candidates():
    # Similarities 1, 0.8 and 0.6 to the example; the second is not wanted
    frame = make_objects([(1, 0), (0.8, 0.6), (0.6, 0.8)])
    trial = Trial(make_objects([(1, 0)]), [frame], [np.array([True, False, True])], 2)
    cells = divide_trials([trial])
    assert cells['0.5'] == '0.80'  # two right, one wrong
    assert cells['0.7'] == '0.50'  # one right, one wrong, one missed
    assert cells['0.9'] == '0.67'  # one right, one missed


def test_without_candidates_nothing_is_right():
    frame = Objects([], np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32))
    trial = Trial(make_objects([(1, 0)]), [frame], [np.zeros(0, bool)], 2)
    assert set(divide_trials([trial]).values()) == {'0.00'}
