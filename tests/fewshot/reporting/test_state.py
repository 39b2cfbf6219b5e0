"""The counts of a job, the outcome of each frame, and the texts that are made from them."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from girder_client import HttpError

from fewshot import messages
from fewshot.errors import BatchEndedError, JobError
from fewshot.geometry import Location
from fewshot.reporting.state import Counts, JobState, Range, Stopwatch, count
from tests.fewshot.conftest import http_error

FRAMES = [Location(number, 0, 0) for number in range(8)]


def make_state(frames: int = 8, **options) -> JobState:
    return JobState(FRAMES[:frames], Stopwatch(lambda: 0.0), **options)


def fail(state: JobState, number: int, error: Exception | None = None) -> None:
    state.note_failure(FRAMES[number], error or ValueError(f'frame {number} is corrupt'))


# Failures


def test_third_equal_failure_in_a_row_ends_the_batch():
    state = make_state()
    fail(state, 2)
    fail(state, 4)
    state.raise_if_ended()
    fail(state, 3)  # the last, between its neighbours
    with pytest.raises(BatchEndedError, match='frame 3 is corrupt') as caught:
        state.raise_if_ended()
    assert isinstance(caught.value.__cause__, ValueError)
    assert '3 frames in a row failed' in caught.value.hint


@pytest.mark.parametrize(
    'failures',
    [
        [(0, ValueError()), (1, ValueError()), (3, ValueError()), (4, ValueError())],
        [(0, ValueError()), (1, KeyError()), (2, ValueError()), (3, KeyError())],
        [(0, http_error(500)), (1, http_error(403)), (2, http_error(500))],
    ],
    ids=['not in a row', 'other types', 'other statuses'],
)
def test_other_failures_do_not_end_the_batch(failures):
    state = make_state()
    for number, error in failures:
        fail(state, number, error)
    state.raise_if_ended()
    assert set(state.failures) == {FRAMES[number] for number, _ in failures}


def test_complete_frame_between_failures_lets_the_batch_go_on():
    state = make_state()
    fail(state, 0)
    state.note_complete(FRAMES[1])
    fail(state, 2)
    fail(state, 3)
    state.raise_if_ended()


def test_expired_login_ends_the_batch_at_once():
    state = make_state()
    error = http_error(401)
    fail(state, 0, error)
    with pytest.raises(BatchEndedError) as caught:
        state.raise_if_ended()
    assert caught.value.__cause__ is error
    assert 'in a row' not in caught.value.hint


@pytest.mark.parametrize('frames', [1, 2])
def test_short_batch_ends_with_its_last_failure(frames):
    state = make_state(frames)
    for number in range(frames):
        state.raise_if_ended()
        fail(state, number)
    with pytest.raises(BatchEndedError, match=f'frame {frames - 1} is corrupt') as caught:
        state.raise_if_ended()
    assert 'in a row' not in caught.value.hint


def test_hint_of_the_failure_is_kept():
    state = make_state(1)
    fail(state, 0, JobError('It failed.', 'Try again.'))
    with pytest.raises(BatchEndedError) as caught:
        state.raise_if_ended()
    assert (caught.value.message, caught.value.hint) == ('It failed.', 'Try again.')


def test_failures_are_raised_at_the_end():
    state = make_state()
    for frame in FRAMES[1:]:
        state.note_complete(frame)
    state.raise_failures()
    fail(state, 0)
    with pytest.raises(JobError) as caught:
        state.raise_failures()
    assert caught.value.message == messages.FRAMES_FAILED.fill(failed=1, frames='8 frames')[0]


# What remains


def test_frames_that_are_not_complete_remain():
    state = make_state()
    for number in (0, 1, 3):
        state.note_complete(FRAMES[number])
    fail(state, 2)
    assert state.remaining == [FRAMES[2], *FRAMES[4:]]
    state.note_uploaded(Counts(uploaded=1), [0.9])
    assert state.describe() == (
        'On the server: 1 object; 3 frames complete. To do: 5 frames. Start the job again with '
        'Batch XY: 3, 5-8, Batch Z: 1, Batch Time: 1.'
    )


def test_complete_batch_has_nothing_to_do():
    state = make_state(1)
    state.note_complete(FRAMES[0])
    assert state.describe() == 'On the server: 0 objects; 1 frame complete.'


# Counts


def test_counts_and_similarities_add_up():
    state = make_state()
    state.note_searched(Counts(candidates=5, in_area=3, kept=2), [0.5, 0.7, 0.9])
    state.note_searched(Counts(candidates=2), [])
    state.note_searched(Counts(candidates=1, in_area=1, below_threshold=1), [0.1])
    state.note_uploaded(Counts(duplicates=1, known=2, uploaded=3), [0.9, 0.7])
    state.note_complete(FRAMES[0])
    assert state.counts == Counts(
        candidates=8,
        in_area=4,
        below_threshold=1,
        kept=2,
        duplicates=1,
        known=2,
        uploaded=3,
        frames=1,
    )
    assert state.similarities == Range(0.1, 0.9)
    assert state.uploaded_similarities == Range(0.7, 0.9)


def test_objects_are_counted_for_each_threshold():
    state = make_state(thresholds=[0.45, 0.5, 0.55])
    assert state.found_at == {0.45: 0, 0.5: 0, 0.55: 0}
    state.note_found([0.47, 0.5, 0.9])
    state.note_found([0.45, 0.44])
    state.note_found([])
    assert state.found_at == {0.45: 4, 0.5: 2, 0.55: 1}


def test_areas_are_counted():
    state = make_state()
    state.note_uploaded(Counts(), [], [30, 30, 70])
    state.note_uploaded(Counts(), [], [70])
    assert state.uploaded_areas == {30: 2, 70: 2}


def test_threads_lose_no_count():
    state = make_state()
    with ThreadPoolExecutor(8) as threads:
        for _ in range(4_000):
            threads.submit(state.note_uploaded, Counts(uploaded=1, known=1), [0.5])
    assert (state.counts.uploaded, state.counts.known) == (4_000, 4_000)


@pytest.mark.parametrize(
    ('parts', 'expected'),
    [
        ([], Range(None, None)),
        ([[], [0.0]], Range(0.0, 0.0)),
        ([[0.5], [0.7, 0.2], []], Range(0.2, 0.7)),
    ],
)
def test_range_widens(parts, expected):
    found = Range()
    for values in parts:
        found.add(values)
    assert found == expected


# Texts


def test_result_is_described():
    state = make_state()
    state.note_searched(Counts(like_counter_examples=4), [])
    state.note_uploaded(Counts(duplicates=3, known=2, uploaded=2), [0.912, 0.87])
    state.note_uploaded(Counts(), [])
    state.note_uploaded(Counts(uploaded=1), [0.95])
    state.note_complete(FRAMES[0])
    state.note_complete(FRAMES[1])
    assert state.describe_result([0.9, 0.96]) == (
        '3 objects in 2 frames, similarity 0.87 to 0.95; the examples among themselves 0.90 to '
        '0.96. Ignored: 4 more like a counter-example, 3 found twice, 2 already there.'
    )


def test_result_has_the_numbers_at_neighbouring_thresholds():
    state = make_state(1, thresholds=[0.8, 0.85, 0.9])
    state.note_found([0.81, 0.86, 0.95])
    assert state.describe_result([]) == (
        '0 objects in 0 frames. Objects by Similarity Threshold: at 0.80: 3, 0.85: 2, 0.90: 1.'
    )


def test_short_result_is_described():
    state = make_state(1)
    state.note_complete(FRAMES[0])
    assert state.describe_result([]) == '0 objects in 1 frame.'


def test_result_says_what_was_removed():
    state = make_state(1)
    state.note_complete(FRAMES[0])
    state.note_uploaded(Counts(removed=27), [])
    assert state.describe_result([]) == '0 objects in 1 frame. Removed: 27 earlier results.'


def test_result_names_the_other_jobs():
    text = make_state(other_jobs=['My cells (2 of 2)']).describe_result([])
    assert 'rest of the batch: My cells (2 of 2).' in text


@pytest.mark.parametrize(
    ('counts', 'similarities', 'text'),
    [
        (
            Counts(candidates=20, in_area=12, below_threshold=7, like_counter_examples=5),
            [0.8765],
            '20 candidates: 8 outside the area limits, 7 less similar than 0.9, 5 like a '
            'counter-example. Highest similarity: 0.88. Change the area limits.',
        ),
        (
            Counts(candidates=20, in_area=20, below_threshold=15, like_counter_examples=5),
            [0.85],
            '20 candidates: 15 less similar than 0.9, 5 like a counter-example. Highest '
            'similarity: 0.85. Lower Similarity Threshold.',
        ),
        (
            Counts(candidates=1, in_area=1, like_counter_examples=1),
            [0.95],
            '1 candidate: 1 like a counter-example. Highest similarity: 0.95. Check the '
            'counter-examples.',
        ),
        (
            Counts(candidates=3),
            [],
            '3 candidates: 3 outside the area limits. Change the area limits.',
        ),
        (
            Counts(),
            [],
            'SAM proposed no outlines. Raise Points per side, or set a Tile Size.',
        ),
    ],
)
def test_empty_result_is_explained(counts, similarities, text):
    state = make_state()
    state.note_searched(counts, similarities)
    assert state.explain_nothing(0.9) == text


def test_summary_is_one_line_of_json(caplog):
    caplog.set_level('INFO')
    state = make_state(thresholds=[0.8, 0.85, 0.9])
    state.note_searched(Counts(candidates=5), [0.5])
    state.stopwatch.seconds['load'] = 1.23456
    state.examples = 3
    with pytest.raises(ValueError, match='odd'), state.logging_summary():
        raise ValueError('odd')
    (line,) = caplog.messages
    summary = json.loads(line.removeprefix('job summary '))
    assert summary == {
        'examples': 3,
        **vars(Counts(candidates=5)),
        'highest_similarity': 0.5,
        'lowest_uploaded': None,
        'highest_uploaded': None,
        'found_at': {'0.8': 0, '0.85': 0, '0.9': 0},
        'seconds': {'load': 1.23},
    }


@pytest.mark.parametrize(('number', 'text'), [(0, '0 frames'), (1, '1 frame'), (2, '2 frames')])
def test_things_are_counted(number, text):
    assert count(number, 'frame') == text


# Seconds


def test_stopwatch_adds_the_seconds_of_a_step():
    times = iter([0, 2, 10, 15, 20, 21])
    stopwatch = Stopwatch(lambda: next(times))
    for step in ('load', 'propose', 'load'):
        with stopwatch.time(step):
            pass
    assert stopwatch.seconds == {'load': 3, 'propose': 5}


def test_stopwatch_counts_a_step_that_fails():
    times = iter([0, 2])
    stopwatch = Stopwatch(lambda: next(times))
    with pytest.raises(HttpError), stopwatch.time('download'):
        raise http_error(500)
    assert stopwatch.seconds == {'download': 2}
