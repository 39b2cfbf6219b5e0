from types import SimpleNamespace

import pytest

from annotation_client.connection import ServerError
from fewshot.outcomes import BatchEndedError, Outcomes
from fewshot.parameters import Location

PLACES = [Location(number, 0, 0) for number in range(8)]


def fail(outcomes: Outcomes, number: int, error: Exception | None = None) -> None:
    outcomes.note_failure(PLACES[number], error or ValueError(f'frame {number} is corrupt'))


def server_error(status: int) -> ServerError:
    answer = SimpleNamespace(status_code=status, text='')
    return ServerError(f'status {status}', 'GET', 'http://a', answer)  # type: ignore[arg-type]


def test_the_third_frame_in_a_row_that_fails_in_the_same_way_ends_the_batch():
    outcomes = Outcomes(PLACES)
    fail(outcomes, 2)
    fail(outcomes, 4)
    with pytest.raises(BatchEndedError, match='frame 3 is corrupt') as caught:  # noted last, between its neighbours
        fail(outcomes, 3)
    assert isinstance(caught.value.__cause__, ValueError)
    assert any('3 frames in a row' in note for note in caught.value.__notes__)


@pytest.mark.parametrize('failures', [
    [(0, ValueError()), (1, ValueError()), (3, ValueError()), (4, ValueError()), (6, ValueError())],  # not in a row
    [(0, ValueError()), (1, KeyError()), (2, ValueError()), (3, KeyError())],  # in a row, not the same
    [(0, server_error(500)), (1, server_error(403)), (2, server_error(500))],  # the same call, another answer
])
def test_other_failures_let_the_batch_go_on(failures):
    outcomes = Outcomes(PLACES)
    for number, error in failures:
        fail(outcomes, number, error)
    assert set(outcomes.failed) == {PLACES[number] for number, _ in failures}


def test_a_login_that_has_expired_ends_the_batch_at_once():
    with pytest.raises(BatchEndedError, match='status 401'):
        fail(Outcomes(PLACES), 0, server_error(401))


@pytest.mark.parametrize('frames', [1, 2])
def test_a_batch_of_which_every_frame_fails_in_the_same_way_gives_the_reason_itself(frames):
    outcomes = Outcomes(PLACES[:frames])
    for number in range(frames - 1):
        fail(outcomes, number)
    with pytest.raises(BatchEndedError, match=f'frame {frames - 1} is corrupt'):
        fail(outcomes, frames - 1)


def test_what_is_not_done_remains_whether_it_failed_or_was_not_tried():
    outcomes = Outcomes(PLACES)
    for number in (0, 1, 3):
        outcomes.note_done(PLACES[number])
    fail(outcomes, 2)
    assert outcomes.remaining == [PLACES[2], *PLACES[4:]]
    assert outcomes.describe_rest() == (
        'To do: 5 frames. Start the job again with Batch XY: 3, 5-8, Batch Z: 1, Batch Time: 1.')


def test_failures_are_raised_at_the_end_and_successes_are_not():
    outcomes = Outcomes(PLACES)
    for place in PLACES:
        outcomes.note_done(place)
    outcomes.raise_failures()
    assert outcomes.describe_rest() == ''
    fail(outcomes, 5)
    with pytest.raises(RuntimeError, match='1 of 8 frames failed'):
        outcomes.raise_failures()
