"""What has become of each frame of a batch, and when a batch cannot go on."""
from collections.abc import Sequence

from fewshot.parameters import Location, explain
from fewshot.positions import write_locations
from fewshot.tally import count

IN_A_ROW = 3  # frames that fail in the same way, from which on the next is not tried
LOGGED_OUT = 401


class BatchEndedError(RuntimeError):
    """A frame failed in a way that the others would too. Text and notes are those of that failure, its cause."""


class Outcomes:
    """The frames of a batch: `failed` says why for those that failed, the others are done or remain.

    Frames are looked at by one thread and uploaded by another; each frame is noted by one of them alone.
    """

    def __init__(self, locations: Sequence[Location]):
        self.locations = list(locations)
        self.numbers = {location: number for number, location in enumerate(locations)}
        self.failed: dict[Location, Exception] = {}
        self.done: set[Location] = set()

    @property
    def remaining(self) -> list[Location]:
        """The frames that are not done, failed ones among them."""
        return [location for location in self.locations if location not in self.done]

    def note_done(self, location: Location) -> None:
        """All of a frame is on the server."""
        self.done.add(location)

    def note_failure(self, location: Location, error: Exception) -> None:
        """A frame failed. Raises BatchEndedError when the next would fail too, or there is no next."""
        self.failed[location] = error
        run = self.longest_run(location)
        if run >= IN_A_ROW:
            error.add_note(f'The same happened to {run} frames in a row, so no other was tried.')
        if run >= min(IN_A_ROW, len(self.locations)) or getattr(error, 'status', None) == LOGGED_OUT:
            ended = BatchEndedError(str(error) or type(error).__name__)
            hints = [hint for hint in [getattr(error, 'hint', '')] if hint]
            ended.__notes__ = [*hints, *getattr(error, '__notes__', [])]
            raise ended from error

    def longest_run(self, location: Location) -> int:
        """How many neighbours in the batch, this frame among them, failed as it did."""
        number, kind = self.numbers[location], kind_of(self.failed[location])
        first = last = number
        while self.failed_as(first - 1, kind):
            first -= 1
        while self.failed_as(last + 1, kind):
            last += 1
        return last - first + 1

    def failed_as(self, number: int, kind: tuple) -> bool:
        """Whether the batch has a frame of this number, and it failed in this way."""
        error = self.failed.get(self.locations[number]) if 0 <= number < len(self.locations) else None
        return error is not None and kind_of(error) == kind

    def raise_failures(self) -> None:
        """Raise a RuntimeError that names the frames that failed, if any did."""
        if self.failed:
            raise explain(
                RuntimeError(f'{len(self.failed)} of {count(len(self.locations), "frame")} failed'),
                'Their warnings and the log of the job say why.')

    def describe_rest(self) -> str:
        """The frames that are not done, for the batch fields of the next job; '' when there are none."""
        remaining = self.remaining
        if not remaining:
            return ''
        return f'To do: {count(len(remaining), "frame")}. Start the job again with {write_locations(remaining)}.'


def kind_of(error: Exception) -> tuple:
    """What two errors have in common that count as the same failure: their type and the server's status."""
    return type(error), getattr(error, 'status', None)
