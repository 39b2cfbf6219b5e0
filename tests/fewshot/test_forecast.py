import doctest

import pytest

from fewshot import forecast
from fewshot.forecast import Forecast, describe_seconds


@pytest.mark.parametrize(('searched', 'done', 'words'), [
    ([], 0.9, ''),  # the first frame tells how long a frame takes
    ([100], 1, ', about 5 min left'),
    ([100, 100], 2.5, ', about 2 min left'),
    ([11_430] * 3, 3, ', about 3 h 10 min left'),
    ([100], 3, ', about 2 min left'),  # two frames failed and took no time
    ([100] * 4, 4, ', about 1 s left'),
])
def test_time_left_counts_searched_frames_only(searched, done, words):
    pace = Forecast(4)
    for seconds in searched:
        pace.note_frame(seconds)
    assert pace.describe(done) == words


@pytest.mark.parametrize(('frames', 'jobs', 'wanted'), [(240, 1, None), (1000, 1, 5), (1000, 4, 20), (50_000, 1, 64)])
def test_a_batch_beyond_a_day_brings_a_number_of_jobs_that_would_do(frames, jobs, wanted):
    pace = Forecast(frames)
    assert pace.warn_of_limit(jobs) is None  # before the first frame nobody knows
    pace.note_frame(356)  # a frame of 435 candidates on a slow GPU
    warning = pace.warn_of_limit(jobs)
    if wanted is None:
        assert warning is None
        return
    assert warning and f'Set Jobs to {wanted}:' in warning[1] and 'after 24 hours' in warning[0]
    if wanted < 64:
        assert frames * 356 * jobs / wanted <= forecast.PLANNED_SECONDS < frames * 356 * jobs / (wanted - 1)


@pytest.mark.parametrize(('seconds', 'words'), [
    (0.2, '1 s'), (45, '45 s'), (60, '1 min'), (3540, '59 min'), (3600, '1 h'), (4500, '1 h 15 min'),
    (11_430, '3 h 10 min'), (100_000, '27 h 50 min'), (400_000, '4.6 days')])
def test_times_are_told_as_people_tell_them(seconds, words):
    assert describe_seconds(seconds) == words


def test_the_example_in_the_docstring_is_true():
    assert doctest.testmod(forecast).failed == 0
