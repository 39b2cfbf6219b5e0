import doctest
from unittest.mock import Mock

import pytest

from fewshot import forecast
from fewshot.forecast import Forecast, describe_seconds


@pytest.fixture
def clock(monkeypatch) -> Mock:
    """A clock that stands until the test sets it."""
    clock = Mock(return_value=500.0)
    monkeypatch.setattr(forecast.time, 'monotonic', clock)
    return clock


@pytest.mark.parametrize(('done', 'seconds', 'words'), [
    (0.9, 90, ''),  # the first frame says how long a frame takes
    (1, 100, ', about 5 min left'),
    (2.5, 260, ', about 3 min left'),
    (3, 3 * 11_430, ', about 3 h 10 min left'),
    (4, 400, ', about 1 s left'),
])
def test_the_time_left_is_told_from_the_first_frame_on(clock, done, seconds, words):
    pace = Forecast(4)
    clock.return_value += seconds
    assert pace.describe(done) == words


@pytest.mark.parametrize(('frames', 'jobs', 'wanted'), [(240, 1, None), (1000, 1, 5), (1000, 4, 20), (50_000, 1, 64)])
def test_a_batch_beyond_a_day_brings_a_number_of_jobs_that_would_do(clock, frames, jobs, wanted):
    pace = Forecast(frames)
    clock.return_value += 356  # a frame of 435 candidates on a slow GPU
    warning = pace.warn_of_limit(1, jobs)
    if wanted is None:
        assert warning is None
        return
    assert warning and f'Jobs {wanted} would take' in warning[1] and 'after 24 hours' in warning[0]
    if wanted < 64:
        assert frames * 356 * jobs / wanted <= forecast.PLANNED < frames * 356 * jobs / (wanted - 1)


@pytest.mark.parametrize(('seconds', 'words'), [
    (0.2, '1 s'), (45, '45 s'), (60, '1 min'), (3540, '59 min'), (3600, '1 h'), (4500, '1 h 15 min'),
    (11_430, '3 h 10 min'), (100_000, '27 h 50 min'), (400_000, '4.6 days')])
def test_times_are_told_as_people_tell_them(seconds, words):
    assert describe_seconds(seconds) == words


def test_the_example_in_the_docstring_is_true():
    assert doctest.testmod(forecast).failed == 0
