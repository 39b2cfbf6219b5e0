"""The time that a batch will take."""

import pytest

from fewshot.reporting.forecast import MAX_JOBS, PLANNED_SECONDS, Forecast, describe_seconds


def searched(frames: int, *seconds: float) -> Forecast:
    found = Forecast(frames)
    for one in seconds:
        found.note_frame(one)
    return found


@pytest.mark.parametrize(
    ('seconds', 'done', 'words'),
    [
        ([], 0.9, ''),  # unknown before the first frame was searched
        ([100], 1, ', 5 min left'),
        ([100, 100], 2.5, ', 2 min left'),
        ([11_430] * 3, 3, ', 3 h left'),
        ([100], 3, ', 2 min left'),  # two frames failed and took no time
        ([20] * 4, 3.5, ', 10 s left'),
        ([20] * 4, 3.51, ''),  # not worth a word
        ([100] * 4, 4, ''),
    ],
)
def test_time_left_counts_searched_frames(seconds, done, words):
    assert searched(4, *seconds).describe_left(done) == words


SLOW = 356  # seconds for a frame of 435 candidates on a slow GPU


@pytest.mark.parametrize(('frames', 'exceeds'), [(1, False), (240, False), (243, True)])
def test_batch_of_more_than_a_day_exceeds_the_limit(frames, exceeds):
    assert not Forecast(frames).exceeds_limit()
    assert searched(frames, SLOW).exceeds_limit() == exceeds


@pytest.mark.parametrize(
    ('frames', 'jobs', 'wanted'), [(1000, 1, 5), (1000, 4, 20), (50_000, 1, MAX_JOBS)]
)
def test_enough_jobs_are_proposed(frames, jobs, wanted):
    proposed, seconds = searched(frames, SLOW).propose_jobs(jobs)
    whole = frames * SLOW * jobs
    assert proposed == wanted
    assert seconds == whole / wanted
    if wanted < MAX_JOBS:
        assert whole / wanted <= PLANNED_SECONDS < whole / (wanted - 1)


@pytest.mark.parametrize(
    ('seconds', 'words'),
    [
        (0.2, '1 s'),
        (45, '45 s'),
        (60, '1 min'),
        (7100, '118 min'),
        (7200, '2 h'),
        (11_430, '3 h'),
        (100_000, '28 h'),
        (172_000, '2 days'),
        (400_000, '5 days'),
    ],
)
def test_seconds_are_described(seconds, words):
    assert describe_seconds(seconds) == words
