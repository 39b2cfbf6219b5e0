"""Search a batch frame by frame. The objects of each frame are uploaded during the next search."""

import logging
import resource
import threading
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from fewshot import messages
from fewshot.errors import BatchEndedError
from fewshot.geometry import Location, Tile, has_allowed_area
from fewshot.images.frames import FrameLoader
from fewshot.matching.duplicates import Found, place_in_frame
from fewshot.matching.prototype import (
    Prototype,
    list_thresholds,
    measure_closest,
    measure_rivals,
    measure_similarities,
)
from fewshot.reporting.forecast import describe_seconds
from fewshot.reporting.reporter import Reporter, describe_error
from fewshot.reporting.state import Counts, JobState
from fewshot.results.existing import Existing
from fewshot.results.uploads import Uploader, UploadResult
from fewshot.sam.candidates import Candidate
from fewshot.sam.cleaning import clean_mask, select_cleaned
from fewshot.sam.hardware import release_freed_memory
from fewshot.store.segmenter import StoringSegmenter

# Holes and islands of fewer pixels are removed before a candidate is described. This is the default
# of Min Mask Area. It is fixed, so that the similarity of an object is the same with any limits.
DESCRIBED_MIN_AREA = 30
LEARNING_SHARE = 0.05  # of the progress bar; the rest is for the search

log = logging.getLogger('sam_fewshot')


class Report(Protocol):
    """Shows how far the search of a frame is."""

    def __call__(self, share: float, doing: str, at_once: bool = False) -> None:
        """Show the share done, 0 to 1, and the current step in words.

        `at_once` means that the step is shown even if the last one was shown a moment ago.
        """


@dataclass(frozen=True)
class FrameSearch:
    """The search of one frame or one tile.

    Attributes
    ----------
    segmenter : StoringSegmenter
    prototype : Prototype
    threshold : float
        Smallest cosine similarity, 0 to 1.
    min_area, max_area : int
        Pixels. A `max_area` of 0 means no limit. Holes and islands below `min_area` are removed.
    box_nms_thresh : float
        Largest IoU of the boxes of two masks that are no near duplicates.
    """

    segmenter: StoringSegmenter
    prototype: Prototype
    threshold: float
    min_area: int
    max_area: int
    box_nms_thresh: float

    def run(self, rgb: np.ndarray, state: JobState, report: Report) -> list[Found]:
        """Return the candidates that have the right size and are similar to the examples.

        Those that are similar enough only for the threshold's lower neighbour are returned too.

        Parameters
        ----------
        rgb : (H, W, 3) uint8 ndarray
        state : JobState
            Gets the counts.
        report : Report

        Raises
        ------
        BatchEndedError
            The upload of an earlier frame has ended the batch, or the model cannot be loaded.
        """
        with state.stopwatch.time('propose'):
            if self.segmenter.has_proposals(rgb):
                report(0.5, 'using proposals from an earlier run', at_once=True)
            proposed = self.segmenter.propose(
                rgb, lambda share: report(share / 2, f'proposing {100 * share:.0f} %')
            )
            cleaned = [clean_mask(one, rgb.shape, self.min_area) for one in proposed]
            allowed = [
                number
                for number, one in enumerate(cleaned)
                if has_allowed_area(one.area, self.min_area, self.max_area)
            ]
            distinct = self.select_distinct(proposed, cleaned)
        state.raise_if_ended()
        with state.stopwatch.time('describe'):
            # Near duplicates are described too, because other area limits may select them.
            described = self.segmenter.describe(
                rgb,
                [clean_mask(proposed[number], rgb.shape, DESCRIBED_MIN_AREA) for number in allowed],
                lambda share: report((1 + share) / 2, f'comparing {100 * share:.0f} %'),
            )
            rows = {number: row for row, number in enumerate(allowed)}
            in_area = [number for number in distinct if number in rows]
            vectors = described[[rows[number] for number in in_area]]
            similarities = measure_similarities(vectors, self.prototype.vector).tolist()
            closest = measure_closest(vectors, self.prototype.example_vectors).tolist()
            rivals = measure_rivals(vectors, self.prototype.counter_vectors).tolist()

        lowest = list_thresholds(self.threshold)[0]
        found = []
        rows_found = zip(in_area, similarities, closest, rivals, strict=True)
        for number, similarity, close, rival in rows_found:
            if similarity >= lowest and similarity > rival:
                found.append(Found(cleaned[number], similarity, close))
        similar = sum(similarity >= self.threshold for similarity in similarities)
        kept = self.count_kept(found)
        state.note_searched(
            Counts(
                candidates=len(distinct),
                in_area=len(in_area),
                below_threshold=len(in_area) - similar,
                like_counter_examples=similar - kept,
                kept=kept,
            ),
            similarities,
        )
        return found

    def select_distinct(
        self, proposed: Sequence[Candidate], cleaned: Sequence[Candidate]
    ) -> list[int]:
        """Return the indices of the candidates that cleaning did not make near duplicates."""
        if not self.min_area:
            return list(range(len(proposed)))
        return select_cleaned(proposed, cleaned, self.box_nms_thresh)

    def count_kept(self, found: Sequence[Found]) -> int:
        """Return how many of the objects reach the threshold."""
        return sum(one.similarity >= self.threshold for one in found)


class SearchedFrame(NamedTuple):
    """A frame that was searched.

    Attributes
    ----------
    location : Location
    found : list of Found
        The objects, and those that only a neighbour of the threshold keeps.
    kept : int
        Number of the objects.
    candidates : int
        Number of masks that SAM proposed.
    seconds : float
        Time that the search took.
    """

    location: Location
    found: list[Found]
    kept: int
    candidates: int
    seconds: float


@dataclass(frozen=True)
class Delivery:
    """Uploads the objects of a frame in the background, while the next frame is searched."""

    uploader: Uploader
    existing: Existing
    state: JobState
    reporter: Reporter
    background: Executor
    uploading: threading.Lock

    def start(self, frame: SearchedFrame) -> Future[None]:
        """Upload the objects of a frame in the background."""
        return self.background.submit(self.run, frame)

    def run(self, frame: SearchedFrame) -> None:
        """Upload the objects of a frame. A failure is noted and not raised."""
        location, found = frame.location, frame.found
        result = UploadResult()
        with self.uploading:  # a cancelled job ends after this block
            try:
                known = self.existing.known.get(location, [])
                self.uploader.upload(location, found, known, result)
                self.uploader.remove(location, self.existing.earlier.get(location, set()), result)
            except Exception as error:  # any failure ends this frame only
                self.note(result)
                note_failure(location, error, self.state, self.reporter)
                return
            self.note(result)
            self.state.note_complete(location)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            log.info(
                '%s: %d candidates, %d like the examples, %d uploaded, %.1f s, %d MB at most',
                location,
                frame.candidates,
                frame.kept,
                result.counts.uploaded,
                frame.seconds,
                memory,
            )
            self.reporter.note_state(self.state.describe())

    def note(self, result: UploadResult) -> None:
        """Add the result of a frame to the state of the job."""
        self.state.note_found(result.found_similarities)
        self.state.note_uploaded(result.counts, result.similarities, result.areas)


def search_batch(
    loader: FrameLoader,
    tiles: Sequence[Tile],
    frame_shape: tuple[int, int],
    search: FrameSearch,
    delivery: Delivery,
    state: JobState,
    reporter: Reporter,
) -> None:
    """Search every frame of the batch, tile by tile. Each frame is uploaded during the next search.

    Parameters
    ----------
    tiles : sequence of Tile
        All tiles of the batch, those of a frame together.
    frame_shape : (height, width), pixels

    Raises
    ------
    BatchEndedError
        A frame failed, and the others would fail in the same way.
    """
    tiles_per_frame = len(tiles) // len(state.locations)
    parts = {tile: number % tiles_per_frame for number, tile in enumerate(tiles)}
    numbers = {location: number for number, location in enumerate(state.locations)}
    is_warned = False
    upload: Future[None] | None = None
    found: list[Found] = []
    candidates, seconds = 0, 0.0
    for tile, coming in loader.load_ahead(
        tiles, lambda tile: tile.location not in state.failures, search.segmenter.fetch
    ):
        location = tile.location
        if location in state.failures:
            continue  # an earlier tile of this frame failed while this one was loaded
        part = parts[tile]
        if part == 0:
            found, candidates, seconds = [], 0, 0.0
        report = make_report(numbers[location], part, tiles_per_frame, state, reporter)
        start, candidates_before = state.stopwatch.clock(), state.counts.candidates
        try:
            report(0.0, 'loading the image')
            with state.stopwatch.time('download'):
                rgb = coming.result()
            inside = search.run(rgb, state, report)
        except BatchEndedError:
            raise
        except Exception as error:
            state.raise_if_ended()
            note_failure(location, error, state, reporter)
            state.raise_if_ended()
            continue
        found += inside if tile.box is None else place_in_frame(inside, part, tile.box, frame_shape)
        seconds += state.stopwatch.clock() - start
        candidates += state.counts.candidates - candidates_before
        release_freed_memory()
        if part + 1 < tiles_per_frame:
            continue

        # The frame is searched: wait for the upload of the one before, and start its own
        state.forecast.note_frame(seconds)
        if not is_warned and state.forecast.exceeds_limit():
            warn_of_limit(state, reporter)
            is_warned = True
        with state.stopwatch.time('upload'):
            if upload is not None:
                upload.result()
        state.raise_if_ended()
        kept = search.count_kept(found)
        upload = delivery.start(SearchedFrame(location, found, kept, candidates, seconds))
    with state.stopwatch.time('upload'):
        if upload is not None:
            upload.result()
    state.raise_if_ended()


def make_report(number: int, part: int, parts: int, state: JobState, reporter: Reporter) -> Report:
    """Return a function that shows the share done of one tile, 0 to 1, and the current step.

    Parameters
    ----------
    number : int
        Number of the frame in the batch, from 0.
    part, parts : int
        Number of the tile in its frame, from 0, and the number of tiles per frame.
    """
    frames = len(state.locations)

    def report(share: float, doing: str, at_once: bool = False) -> None:
        done = number + (part + share) / parts
        left = state.forecast.describe_left(done)
        title = f'Frame {number + 1} of {frames}{left}' if frames > 1 else 'Searching the frame'
        info = f'tile {part + 1}/{parts}, {doing}' if parts > 1 else doing
        total = LEARNING_SHARE + (1 - LEARNING_SHARE) * done / frames
        reporter.progress(total, title, info, at_once)

    return report


def note_failure(location: Location, error: Exception, state: JobState, reporter: Reporter) -> None:
    """Note that a frame failed, warn the user, and tell what remains."""
    log.error('%s failed', location, exc_info=error)
    state.note_failure(location, error)
    if state.ended is None:
        text, hint = describe_error(error)
        reporter.warn(messages.FRAME_FAILED, location=location, reason=f'{text} {hint}'.strip())
    reporter.note_state(state.describe())


def warn_of_limit(state: JobState, reporter: Reporter) -> None:
    """Warn that the server will end the job before the batch is done. Propose a number of jobs."""
    jobs, seconds = state.forecast.propose_jobs(1 + len(state.other_jobs))
    reporter.warn(
        messages.TIME_LIMIT,
        whole=describe_seconds(state.forecast.seconds_left(0) or 0),
        jobs=jobs,
        each=describe_seconds(seconds),
    )
