"""The page as the user sees it, and the last line of the log."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fewshot import messages
from fewshot.errors import JobError
from fewshot.reporting.reporter import (
    MAX_HINT_CHARACTERS,
    MAX_LINE_CHARACTERS,
    MAX_LOST_FRAMES,
    MAX_TEXT_CHARACTERS,
    REPEAT_SECONDS,
    describe_error,
)
from tests.fewshot.samples import SAMPLES


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


class Rounds:
    """A wait that lets a thread go around so many times, at the clock's pace."""

    def __init__(self, clock: Clock, rounds: int) -> None:
        self.clock, self.left = clock, rounds
        self.done = threading.Event()

    def __call__(self, event: threading.Event, seconds: float) -> bool:
        assert seconds == REPEAT_SECONDS
        if not self.left:
            self.done.set()
            return event.wait()
        self.left -= 1
        self.clock.seconds += seconds
        return False


# Progress


def test_progress_is_limited_to_two_lines_per_second_and_the_end_is_shown(page):
    clock = Clock(100)
    reporter = page.reporter(clock)
    for tenth in range(21):
        clock.seconds = 100 + tenth / 10
        reporter.progress(tenth / 40, 'frame', 'info')
    reporter.finish('3 objects', 'All.')
    shares = [share for share, _, _ in page.progress]
    assert shares == [0, 5 / 40, 10 / 40, 15 / 40, 20 / 40, 1]


def test_first_progress_is_shown_at_any_time(page):
    page.reporter(Clock(0)).progress(0.123456, 'title', 'info')
    assert page.progress == [(0.1235, 'title', 'info')]


def test_line_is_as_long_as_the_page_shows(page):
    page.reporter().progress(0, 'x' * 20, 'y' * 100)
    ((_, title, info),) = page.progress
    assert len(f'{title} {info}') == MAX_LINE_CHARACTERS
    assert info.endswith('y…')


def test_line_is_repeated_every_second_during_a_long_step(page):
    clock = Clock()
    rounds = Rounds(clock, 4)
    reporter = page.reporter(clock, wait=rounds)
    reporter.progress(0, 'Loading the model', 'SAM')
    with reporter.repeating():
        rounds.done.wait()
    assert page.progress == 5 * [(0, 'Loading the model', 'SAM')]


def test_line_that_came_too_early_is_shown_by_the_repetition(page):
    clock = Clock()
    rounds = Rounds(clock, 2)
    reporter = page.reporter(clock, wait=rounds)
    reporter.progress(0, 'first', '')
    reporter.progress(0.1, 'second', '')
    with reporter.repeating():
        rounds.done.wait()
    assert [title for _, title, _ in page.progress] == ['first', 'second', 'second']


def test_nothing_is_repeated_before_the_first_line_or_right_after_a_line(page):
    clock = Clock()
    reporter = page.reporter(clock)
    reporter.repeat()
    assert page.progress == []
    reporter.progress(0, 'title', '')
    clock.seconds = 0.4
    reporter.repeat()
    assert len(page.progress) == 1


@pytest.mark.parametrize('error', [None, ValueError('odd')])
def test_repetition_ends_with_its_block(page, error):
    before = threading.active_count()

    def run() -> None:
        with page.reporter().repeating():
            assert threading.active_count() == before + 1
            if error:
                raise error

    if error:
        with pytest.raises(ValueError, match='odd'):
            run()
    else:
        run()
    assert threading.active_count() == before


def list_ends(reporter) -> Iterator:
    yield lambda: reporter.finish('1 object', 'All.')
    yield lambda: reporter.fail(JobError('It failed.'))


@pytest.mark.parametrize('number', [0, 1])
def test_nothing_is_sent_after_the_end(page, capsys, number):
    clock = Clock()
    rounds = Rounds(clock, 3)
    reporter = page.reporter(clock, wait=rounds)
    reporter.progress(0.5, 'title', '')
    ends = list(list_ends(reporter))
    ends[number]()
    sent = [*page.progress], [*page.shown], [*page.errors]
    last = capsys.readouterr().err
    with reporter.repeating():
        rounds.done.wait()
    reporter.progress(0.6, 'later', '')
    reporter.warn(messages.NO_GPU, model='SAM')
    reporter.warn(messages.FRAME_FAILED, location='XY 1', reason='odd')
    for end in ends:
        end()
    assert ([*page.progress], [*page.shown], [*page.errors]) == sent
    assert last in ('All.\n', 'It failed.\n')
    assert capsys.readouterr().err == ''


def test_threads_send_one_line_at_a_time(page):
    ticks, sending, overlaps = iter(range(10**6)), threading.Lock(), []
    reporter = page.reporter(lambda: next(ticks))

    def send(*_: object, **__: object) -> None:
        if not sending.acquire(blocking=False):
            overlaps.append(True)
            return
        time.sleep(0)  # lets another thread run
        sending.release()

    reporter.send_progress = reporter.send_warning = send
    with ThreadPoolExecutor(3) as threads:
        for _ in range(300):
            threads.submit(reporter.progress, 0, '', '')
            threads.submit(reporter.repeat)
            threads.submit(reporter.warn, messages.FRAME_FAILED, location='', reason='')
    assert overlaps == []


# Warnings


def warn_of_everything(reporter) -> None:
    names = {message: name for name, message in vars(messages).items() if name in SAMPLES}
    for message in reversed(messages.PRIORITY):
        reporter.warn(message, **SAMPLES[names[message]])


def test_warning_is_logged_and_shown_at_the_end(page, caplog):
    reporter = page.reporter()
    reporter.warn(messages.OBJECT_REFUSED, location='XY 1', reason='It is too large.')
    text = 'The server refused an object of XY 1. The others are saved.'
    assert f'{text} It is too large.' in caplog.text
    assert page.shown == []
    reporter.finish('', '')
    assert page.shown == [(text, 'It is too large.')]


@pytest.mark.parametrize('message', messages.AT_ONCE)
def test_warning_that_is_a_reason_to_cancel_is_shown_at_once(page, message):
    reporter = page.reporter()
    values = {'model': 'SAM', 'jobs': 2, 'first': 'a', 'whole': '2 days', 'each': '1 h'}
    reporter.warn(message, **values)
    assert page.shown == [message.fill(**values)]


def test_two_most_important_warnings_are_shown(page, caplog):
    reporter = page.reporter()
    for name in ('NO_VIEW', 'THRESHOLD_LOW', 'NOTHING_FOUND'):
        message = getattr(messages, name)
        reporter.warn(
            message, threshold=0, proposed=0.5, lowest=0, highest=1, frames='1', explanation='So.'
        )
    reporter.finish('', '')
    texts = [text for text, _ in page.shown]
    assert texts == [
        'No object was found in 1.',
        'Similarity Threshold 0 let every candidate pass.',
    ]
    assert f'Not shown: {messages.NO_VIEW.text}' in caplog.text


def test_one_warning_is_shown_before_a_long_batch_and_one_after(page):
    reporter = page.reporter()
    reporter.warn(messages.NO_VIEW)
    reporter.warn(messages.OBJECTS_SMALL, width=9, size=512)
    reporter.show_warnings(1)
    small = messages.OBJECTS_SMALL.fill(width=9, size=512)
    assert page.shown == [small]
    reporter.warn(messages.NOTHING_FOUND, frames='1 frame', explanation='So.')
    reporter.fail(JobError('It failed.'))
    assert page.shown == [small, ('No object was found in 1 frame.', 'So.')]


def test_no_job_shows_more_than_two_warnings_besides_lost_frames(page):
    reporter = page.reporter()
    warn_of_everything(reporter)
    reporter.show_warnings(1)
    warn_of_everything(reporter)
    reporter.finish('', '')
    assert len(page.shown) == 2
    assert len(page.warnings) == 2 * len(messages.PRIORITY)


def test_warnings_of_one_kind_are_one(page):
    reporter = page.reporter()
    for number in range(1, 4):
        reporter.warn(messages.SCORES_LOST, location=f'XY {number}', reason='Odd.')
    reporter.finish('', '')
    assert page.shown == [
        ('The outlines of XY 1 are saved, but not their scores. And 2 more.', 'Odd.')
    ]


def test_lost_frames_are_shown_at_once_and_besides_the_others(page, caplog):
    reporter = page.reporter()
    for number in range(MAX_LOST_FRAMES + 3):
        reporter.warn(messages.FRAME_FAILED, location=f'XY {number}', reason='Odd.')
    assert page.shown == [
        (f'XY {number} failed. The batch goes on.', 'Odd.') for number in range(MAX_LOST_FRAMES)
    ]
    warn_of_everything(reporter)
    reporter.finish('', '')
    assert len(page.shown) == MAX_LOST_FRAMES + 2
    assert f'XY {MAX_LOST_FRAMES + 2} failed' in caplog.text


def test_long_reason_is_cut_on_the_page_and_complete_in_the_log(page, caplog):
    reporter = page.reporter()
    reporter.warn(messages.SCORES_LOST, location='x' * 200, reason='y' * 300)
    reporter.finish('', '')
    ((text, hint),) = page.shown
    assert (len(text), len(hint)) == (MAX_TEXT_CHARACTERS, MAX_HINT_CHARACTERS)
    assert hint == 'y' * (MAX_HINT_CHARACTERS - 1) + '…'
    assert 'y' * 300 in caplog.text


# The state and the end


def test_state_is_logged_and_part_of_the_error(page, caplog):
    caplog.set_level('INFO')
    reporter = page.reporter()
    reporter.note_state('On the server: 3 objects.')
    assert 'On the server: 3 objects.' in caplog.text
    reporter.fail(JobError('It failed.', 'Try again.'))
    assert page.errors == [('It failed.', 'Try again. On the server: 3 objects.')]


def test_last_line_of_the_log_is_the_result(page, capsys):
    page.reporter().finish('85 objects in 1 frame', '85 objects in 1 frame, similarity 0.9.')
    assert page.progress == [(1, 'Done', '85 objects in 1 frame. Press Log for details.')]
    assert capsys.readouterr().err == '85 objects in 1 frame, similarity 0.9.\n'


def test_last_line_of_the_log_is_the_error_and_the_state(page, capsys):
    reporter = page.reporter()
    reporter.note_state('To do: 2 frames.')
    reporter.fail(JobError('It failed.', 'Try again.'))
    assert capsys.readouterr().err.endswith('It failed. Try again. To do: 2 frames.\n')


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
