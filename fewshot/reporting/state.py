"""The state of a running job: counts, seconds, and the outcome of each frame."""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

from fewshot import messages
from fewshot.batch import write_locations
from fewshot.errors import BatchEndedError
from fewshot.geometry import Location
from fewshot.reporting.forecast import Forecast
from fewshot.reporting.reporter import describe_error
from fewshot.server import LOGGED_OUT_STATUS

MAX_FAILURES_IN_A_ROW = 3  # frames that fail in the same way; then no other frame is tried

log = logging.getLogger('sam_fewshot')


@dataclass
class Counts:
    """Counts of a job, or of a part of it.

    Attributes
    ----------
    candidates : int
        Masks that SAM proposed.
    in_area : int
        Candidates inside the area limits.
    below_threshold : int
        Candidates in these limits that are less similar than the threshold.
    like_counter_examples : int
        Candidates above the threshold that are more similar to a counter-example than to the
        prototype.
    kept : int
        Candidates that passed these three checks.
    duplicates : int
        Kept candidates that are duplicates of a more similar one.
    known : int
        Kept candidates that are no duplicates but are already on the server.
    uploaded : int
        Annotations created.
    removed : int
        Annotations of earlier runs that were removed.
    frames : int
        Frames that are complete on the server.
    """

    candidates: int = 0
    in_area: int = 0
    below_threshold: int = 0
    like_counter_examples: int = 0
    kept: int = 0
    duplicates: int = 0
    known: int = 0
    uploaded: int = 0
    removed: int = 0
    frames: int = 0

    def add(self, other: 'Counts') -> None:
        """Add the counts of a part."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


@dataclass
class Range:
    """The lowest and the highest of the similarities so far. None before the first."""

    lowest: float | None = None
    highest: float | None = None

    def add(self, values: Sequence[float]) -> None:
        """Widen the range."""
        if values:
            self.lowest = min(values) if self.lowest is None else min(self.lowest, *values)
            self.highest = max(values) if self.highest is None else max(self.highest, *values)


@dataclass
class Stopwatch:
    """Seconds per step of a job."""

    clock: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        """Count the seconds of the block under a step's name, even if it fails."""
        start = self.clock()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + self.clock() - start


class JobState:
    """The state of a job. It exists as soon as the frames of the job are known.

    The thread that computes and the thread that uploads both change it.

    Parameters
    ----------
    locations : sequence of Location
        The frames of the batch.
    stopwatch : Stopwatch
    other_jobs : sequence of str
        Names of the jobs that search the other shares of the batch.
    """

    def __init__(
        self, locations: Sequence[Location], stopwatch: Stopwatch, other_jobs: Sequence[str] = ()
    ):
        self.locations = list(locations)
        self.stopwatch = stopwatch
        self.other_jobs = list(other_jobs)
        self.counts = Counts()
        self.similarities = Range()  # of all candidates inside the area limits
        self.uploaded_similarities = Range()
        self.forecast = Forecast(len(self.locations))
        self.done: set[Location] = set()
        self.failures: dict[Location, Exception] = {}
        self.ended: BatchEndedError | None = None  # why the batch cannot go on
        self._lock = threading.Lock()

    # Changes

    def note_searched(self, counts: Counts, similarities: Sequence[float]) -> None:
        """Add the counts and the similarities of a search."""
        with self._lock:
            self.counts.add(counts)
            self.similarities.add(similarities)

    def note_uploaded(self, counts: Counts, similarities: Sequence[float]) -> None:
        """Add the counts of an upload, and the similarities of the new annotations."""
        with self._lock:
            self.counts.add(counts)
            self.uploaded_similarities.add(similarities)

    def note_complete(self, location: Location) -> None:
        """Note that all objects of a frame are on the server."""
        with self._lock:
            self.done.add(location)
            self.counts.frames += 1

    def note_failure(self, location: Location, error: Exception) -> None:
        """Note that a frame failed.

        Set `ended` if MAX_FAILURES_IN_A_ROW frames, or all frames, failed in the same way, or if
        the login has expired.
        """
        with self._lock:
            self.failures[location] = error
            in_a_row = self._count_failures_in_a_row(location)
            most = min(MAX_FAILURES_IN_A_ROW, len(self.locations))
            if in_a_row < most and getattr(error, 'status', None) != LOGGED_OUT_STATUS:
                return
            text, hint = describe_error(error)
            if in_a_row >= MAX_FAILURES_IN_A_ROW:
                hint = f'{hint} {in_a_row} frames in a row failed like this, so no other was tried.'
            self.ended = BatchEndedError(text, hint)
            self.ended.__cause__ = error

    def _count_failures_in_a_row(self, location: Location) -> int:
        """Return the length of the run of frames around this one that failed in the same way."""
        kind = kind_of(self.failures[location])
        number = self.locations.index(location)
        before = self._count_alike(reversed(self.locations[:number]), kind)
        after = self._count_alike(self.locations[number + 1 :], kind)
        return before + 1 + after

    def _count_alike(self, locations, kind: tuple) -> int:
        """Return how many of the first locations, without a gap, failed in this way."""
        count = 0
        for location in locations:
            error = self.failures.get(location)
            if error is None or kind_of(error) != kind:
                break
            count += 1
        return count

    # Questions

    @property
    def remaining(self) -> list[Location]:
        """The frames that are not complete, including those that failed."""
        return [location for location in self.locations if location not in self.done]

    def raise_if_ended(self) -> None:
        """Raise the BatchEndedError that ended the batch, if there is one."""
        if self.ended is not None:
            raise self.ended

    def raise_failures(self) -> None:
        """Raise a JobError with the number of failed frames, if any failed."""
        if self.failures:
            raise messages.FRAMES_FAILED.error(
                failed=len(self.failures), frames=count(len(self.locations), 'frame')
            )

    def describe(self) -> str:
        """Return what is on the server and what remains, with batch fields to paste."""
        objects, frames = count(self.counts.uploaded, 'object'), count(self.counts.frames, 'frame')
        text = f'On the server: {objects}; {frames} complete.'
        remaining = self.remaining
        if remaining:
            text += (
                f' To do: {count(len(remaining), "frame")}. Start the job again with '
                f'{write_locations(remaining)}.'
            )
        return text

    def describe_result(self, example_similarities: Sequence[float]) -> str:
        """Return the result of the job, as sentences.

        Parameters
        ----------
        example_similarities : sequence of float
            Similarity of each example to the prototype of the others.
        """
        text = f'{count(self.counts.uploaded, "object")} in {count(self.counts.frames, "frame")}'
        found = self.uploaded_similarities
        if found.lowest is not None:
            text += f', similarity {found.lowest:.2f} to {found.highest:.2f}'
        if example_similarities:
            lowest, highest = min(example_similarities), max(example_similarities)
            text += f'; the examples among themselves {lowest:.2f} to {highest:.2f}'
        reasons = [
            (self.counts.like_counter_examples, 'more like a counter-example'),
            (self.counts.duplicates, 'found twice'),
            (self.counts.known, 'already there'),
        ]
        ignored = [f'{number} {reason}' for number, reason in reasons if number]
        if ignored:
            text += f'. Ignored: {", ".join(ignored)}'
        text += '.'
        if self.counts.removed:
            text += f' Removed: {count(self.counts.removed, "earlier result")}.'
        if self.other_jobs:
            text += (
                f' The rest of the batch is searched by {", ".join(self.other_jobs)}. This page '
                'shows neither their progress nor their errors: look for them in the list of jobs.'
            )
        return text

    def explain_nothing(self, threshold: float) -> str:
        """Return how many candidates each limit removed, as sentences."""
        counts = self.counts
        text = (
            f'Of {counts.candidates} candidates {counts.candidates - counts.in_area} were outside '
            f'the area limits and {counts.below_threshold} less similar than {threshold:g}'
        )
        if counts.like_counter_examples:
            text += f'; {counts.like_counter_examples} were more like a counter-example'
        text += '.'
        if self.similarities.highest is not None:
            text += f' The highest similarity was {self.similarities.highest:.3f}.'
        return text + ' Change the limit that removed most.'

    def log_summary(self, examples: int) -> None:
        """Write one line of JSON with all counts and seconds to the log."""
        seconds = {step: round(spent, 2) for step, spent in self.stopwatch.seconds.items()}
        summary = {
            'examples': examples,
            **vars(self.counts),
            'highest_similarity': self.similarities.highest,
            'lowest_uploaded': self.uploaded_similarities.lowest,
            'highest_uploaded': self.uploaded_similarities.highest,
            'seconds': seconds,
        }
        log.info('job summary %s', json.dumps(summary))


def kind_of(error: Exception) -> tuple:
    """Return the type of an error and the server's status. Errors with both in common are alike."""
    return type(error), getattr(error, 'status', None)


def count(number: int, thing: str) -> str:
    """Return a number of things in words.

    Examples
    --------
    >>> count(1, 'frame'), count(2, 'frame')
    ('1 frame', '2 frames')
    """
    return f'{number} {thing}' if number == 1 else f'{number} {thing}s'
