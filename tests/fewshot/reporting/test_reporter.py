"""The page as the user sees it."""

import pytest

from fewshot import messages
from fewshot.errors import JobError
from fewshot.reporting.reporter import MAX_STATE_CHARACTERS, MAX_WARNINGS, describe_error


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


def test_progress_is_limited_to_four_per_second_and_the_end_is_shown(page):
    clock = Clock(100)
    reporter = page.reporter(clock)
    for tenth in range(21):
        clock.seconds = 100 + tenth / 10
        reporter.progress(tenth / 40, 'frame', 'info')
    reporter.progress(1.0, 'Done', 'info')
    shares = [share for share, _, _ in page.progress]
    assert shares == [0, 3 / 40, 6 / 40, 9 / 40, 12 / 40, 15 / 40, 18 / 40, 1]


def test_first_progress_is_shown_at_any_time(page):
    page.reporter(Clock(0)).progress(0.123456, 'title', 'info')
    assert page.progress == [(0.1235, 'title', 'info')]


def test_warning_is_shown_and_logged(page, caplog):
    page.reporter().warn(messages.OBJECT_REFUSED, location='XY 1', reason='It is too large.')
    text = 'The server refused an object at XY 1. It is too large.'
    assert page.warnings == [(text, 'The other objects are uploaded.')]
    assert text in caplog.text


@pytest.mark.parametrize(('count', 'hidden'), [(1, 0), (MAX_WARNINGS, 0), (MAX_WARNINGS + 7, 7)])
def test_warnings_are_limited_and_the_others_counted(page, caplog, count, hidden):
    reporter = page.reporter()
    for number in range(count):
        reporter.warn(messages.NO_GPU, model=f'number {number}')
    reporter.close()
    shown = [
        messages.NO_GPU.fill(model=f'number {number}') for number in range(min(count, MAX_WARNINGS))
    ]
    more = [messages.MORE_WARNINGS.fill(count=hidden)] if hidden else []
    assert page.warnings == [*shown, *more]
    assert f'number {count - 1}' in caplog.text


def test_step_that_must_be_shown_is_not_dropped(page):
    reporter = page.reporter(Clock(0))
    reporter.progress(0.1, 'title', 'first')
    reporter.progress(0.2, 'title', 'dropped')
    assert reporter.share == 0.1
    reporter.progress(0.3, 'title', 'shown', is_shown=True)
    assert [info for _, _, info in page.progress] == ['first', 'shown']
    assert reporter.share == 0.3


def test_state_is_part_of_progress_and_error(page):
    reporter = page.reporter()
    assert reporter.state_line == ''
    reporter.note_state('On the server: 3 objects.')
    assert reporter.state_line == 'On the server: 3 objects.'
    reporter.fail(JobError('It failed.', 'Try again.'))
    assert page.errors == [('It failed.', 'Try again. On the server: 3 objects.')]


def test_long_state_is_left_to_the_log(page):
    reporter = page.reporter()
    reporter.note_state('x' * MAX_STATE_CHARACTERS)
    assert reporter.state_line == 'x' * MAX_STATE_CHARACTERS
    reporter.note_state('x' * (MAX_STATE_CHARACTERS + 1))
    assert reporter.state_line == 'The log of the job lists what remains.'


def test_state_is_logged(page, caplog):
    caplog.set_level('INFO')
    page.reporter().note_state('On the server: 3 objects.')
    assert 'On the server: 3 objects.' in caplog.text


@pytest.mark.parametrize(
    ('error', 'text', 'hint'),
    [
        (JobError('It failed.', 'Try again.'), 'It failed.', 'Try again.'),
        (ValueError('odd'), 'odd', 'ValueError: the log of the job has the details.'),
        (MemoryError(), 'MemoryError', 'MemoryError: the log of the job has the details.'),
    ],
)
def test_any_error_is_described(page, error, text, hint):
    assert describe_error(error) == (text, hint)
    page.reporter().fail(error)
    assert page.errors == [(text, hint)]
