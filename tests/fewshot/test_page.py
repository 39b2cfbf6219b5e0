from concurrent.futures import Future
from unittest.mock import Mock

import pytest

from fewshot import page
from fewshot.forecast import Forecast
from fewshot.page import MOST_WARNINGS, Page, make_reporter
from fewshot.parameters import Location


@pytest.fixture
def clock(monkeypatch) -> Mock:
    """A clock that stands until the test sets it."""
    clock = Mock(return_value=100.0)
    monkeypatch.setattr(page.time, 'monotonic', clock)
    return clock


def test_progress_is_shown_at_most_four_times_a_second_and_the_end_always(clock):
    sent = Mock()
    shown = Page(sent, Mock())
    for tenth in range(21):
        clock.return_value = 100 + tenth / 10
        shown.show(tenth / 40, 'frame', 'info')
    shown.show(1.0, 'Done', 'info')
    assert [call.args[0] for call in sent.call_args_list] == [0, 3 / 40, 6 / 40, 9 / 40, 12 / 40, 15 / 40, 18 / 40, 1]


def test_warnings_beyond_the_twentieth_go_to_the_log_and_are_counted(caplog):
    warned = Mock()
    shown = Page(Mock(), warned)
    for number in range(MOST_WARNINGS + 7):
        shown.warn(f'warning {number}', 'Title', 'what to do')
    shown.close()
    assert [call.args[0] for call in warned.call_args_list] == [
        *(f'warning {number}' for number in range(MOST_WARNINGS)), '7 more warnings']
    assert 'warning 26. what to do' in caplog.text


def test_few_warnings_are_not_counted():
    warned = Mock()
    shown = Page(Mock(), warned)
    shown.warn('one', 'Title', 'info')
    shown.close()
    warned.assert_called_once_with('one', title='Title', info='info')


def test_progress_runs_from_the_examples_share_to_one_over_all_frames():
    shown = Mock(state='')
    pace = Forecast(3)
    for number in range(3):
        if number:
            pace.note_frame(0.5)
        report = make_reporter(shown, pace, Location(number, 0, 4), number, 1, None, 0)
        report(0, 'a')
        report(1, 'b')
    calls = [call.args for call in shown.show.call_args_list]
    shares = [call[0] for call in calls]
    assert shares == sorted(shares) and shares[0] == page.EXAMPLES_SHARE and shares[-1] == 1
    assert calls[0][1:] == ('XY 1, Z 1, Time 5 (1 of 3)', 'a')
    assert calls[2][1:] == ('XY 2, Z 1, Time 5 (2 of 3, about 1 s left)', 'a')


def test_progress_of_a_batch_ends_with_what_remains():
    shown = Mock(state='To do: 2 frames.')
    make_reporter(shown, Forecast(3), Location(1, 0, 0), 1, 1, None, 0)(0.5, 'Proposing outlines: 50%')
    assert shown.show.call_args.args[2] == 'Proposing outlines: 50%. To do: 2 frames.'


def test_progress_counts_tiles():
    shown = Mock(state='')
    for tile in range(4):
        make_reporter(shown, Forecast(2), Location(1, 0, 0), 1, 4, None, tile)(0.5, 'Proposing')
    calls = [call.args for call in shown.show.call_args_list]
    assert [call[2] for call in calls] == [f'Tile {tile} of 4. Proposing' for tile in (1, 2, 3, 4)]
    assert [call[0] for call in calls] == sorted(call[0] for call in calls)
    assert calls[0][0] > 0.525 and calls[-1][0] < 1


def test_an_upload_that_has_ended_the_batch_surfaces_at_the_next_step_of_the_next_frame():
    outgoing: Future = Future()
    report = make_reporter(Mock(), Forecast(3), Location(1, 0, 0), 1, 1, outgoing, 0)
    report(0.1, 'the upload of the first frame is under way')
    outgoing.set_exception(ConnectionError('gone'))
    with pytest.raises(ConnectionError, match='gone'):
        report(0.2, 'it has failed')
