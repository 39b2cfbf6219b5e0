"""The state of a running job: counts, seconds, and the outcome of each frame."""

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    thresholds : sequence of float
        The similarity thresholds for which objects are counted.
    """

    def __init__(
        self,
        locations: Sequence[Location],
        stopwatch: Stopwatch,
        other_jobs: Sequence[str] = (),
        thresholds: Sequence[float] = (),
    ):
        self.locations = list(locations)
        self.stopwatch = stopwatch
        self.other_jobs = list(other_jobs)
        self.examples = 0  # from which the job has learned
        self.counts = Counts()
        self.similarities = Range()  # of all candidates inside the area limits
        self.uploaded_similarities = Range()
        self.uploaded_areas: Counter[int] = Counter()  # number of new annotations per area, pixels
        # Objects that a run with each threshold finds in the same frames, without duplicates.
        # Objects that are on the server already count too.
        self.found_at = dict.fromkeys(thresholds, 0)
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

    def note_found(self, similarities: Sequence[float]) -> None:
        """Add the similarities of the objects of a frame, without duplicates."""
        with self._lock:
            for threshold in self.found_at:
                self.found_at[threshold] += sum(one >= threshold for one in similarities)

    def note_uploaded(
        self, counts: Counts, similarities: Sequence[float], areas: Sequence[int] = ()
    ) -> None:
        """Add the counts of an upload, and similarities and areas of the new annotations."""
        with self._lock:
            self.counts.add(counts)
            self.uploaded_similarities.add(similarities)
            self.uploaded_areas.update(areas)

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

    def describe_found(self) -> str:
        """Return the number of new objects, in a few words."""
        return f'{count(self.counts.uploaded, "object")} in {count(self.counts.frames, "frame")}'

    def describe_result(self, example_similarities: Sequence[float]) -> str:
        """Return the result of the job, as sentences in one line.

        Parameters
        ----------
        example_similarities : sequence of float
            Similarity of each example to the prototype of the others.
        """
        text = self.describe_found()
        found = self.uploaded_similarities
        if found.lowest is not None:
            text += f', similarity {found.lowest:.2f} to {found.highest:.2f}'
        if example_similarities:
            lowest, highest = min(example_similarities), max(example_similarities)
            text += f'; the examples among themselves {lowest:.2f} to {highest:.2f}'
        ignored = list_numbers(
            {
                'more like a counter-example': self.counts.like_counter_examples,
                'found twice': self.counts.duplicates,
                'already there': self.counts.known,
            }
        )
        if ignored:
            text += f'. Ignored: {ignored}'
        if self.found_at:
            numbers = ', '.join(f'{threshold:.2f}: {n}' for threshold, n in self.found_at.items())
            text += f'. Objects by Similarity Threshold: at {numbers}'
        text += '.'
        if self.counts.removed:
            text += f' Removed: {count(self.counts.removed, "earlier result")}.'
        if self.other_jobs:
            text += (
                f' Other jobs search the rest of the batch: {", ".join(self.other_jobs)}. Look for '
                'them in the list of jobs.'
            )
        return text

    def explain_nothing(self, threshold: float) -> str:
        """Return how many candidates each limit removed, and what to change, as sentences."""
        counts = self.counts
        if not counts.candidates:
            return 'SAM proposed no outlines. Raise Points per side, or set a Tile Size.'
        removed = {
            'outside the area limits': counts.candidates - counts.in_area,
            f'less similar than {threshold:g}': counts.below_threshold,
            'like a counter-example': counts.like_counter_examples,
        }
        text = f'{count(counts.candidates, "candidate")}: {list_numbers(removed)}.'
        if self.similarities.highest is not None:
            text += f' Highest similarity: {self.similarities.highest:.2f}.'
        changes = (
            'Change the area limits.',
            'Lower Similarity Threshold.',
            'Check the counter-examples.',
        )
        _, change = max(zip(removed.values(), changes, strict=True), key=lambda pair: pair[0])
        return f'{text} {change}'

    @contextmanager
    def logging_summary(self) -> Iterator[None]:
        """Write the summary to the log when the block ends, also if it fails."""
        try:
            yield
        finally:
            self.log_summary()

    def log_summary(self) -> None:
        """Write one line of JSON with all counts and seconds to the log."""
        seconds = {step: round(spent, 2) for step, spent in self.stopwatch.seconds.items()}
        summary = {
            'examples': self.examples,
            **vars(self.counts),
            'highest_similarity': self.similarities.highest,
            'lowest_uploaded': self.uploaded_similarities.lowest,
            'highest_uploaded': self.uploaded_similarities.highest,
            'found_at': self.found_at,
            'seconds': seconds,
        }
        log.info('job summary %s', json.dumps(summary))


def kind_of(error: Exception) -> tuple:
    """Return the type of an error and the server's status. Errors with both in common are alike."""
    return type(error), getattr(error, 'status', None)


def list_numbers(numbers: Mapping[str, int]) -> str:
    """Return numbers with their names in words, without zeros.

    Examples
    --------
    >>> list_numbers({'found twice': 3, 'more like a counter-example': 0, 'already there': 2})
    '3 found twice, 2 already there'
    """
    return ', '.join(f'{number} {name}' for name, number in numbers.items() if number)


def count(number: int, thing: str) -> str:
    """Return a number of things in words.

    Examples
    --------
    >>> count(1, 'frame'), count(2, 'frame')
    ('1 frame', '2 frames')
    """
    return f'{number} {thing}' if number == 1 else f'{number} {thing}s'
