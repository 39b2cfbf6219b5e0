"""The search of a frame and of a batch, with a segmenter that finds what a test says."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from fewshot import messages
from fewshot.errors import BatchEndedError
from fewshot.geometry import Box, Location, Tile
from fewshot.matching.prototype import Prototype
from fewshot.reporting.state import Counts, JobState, Stopwatch
from fewshot.results.existing import Existing
from fewshot.results.uploads import UploadResult
from fewshot.sam.masks import pack_mask
from fewshot.sam.proposals import Candidate
from fewshot.search import (
    LEARNING_SHARE,
    Delivery,
    FrameSearch,
    make_report,
    search_batch,
    warn_of_limit,
)
from tests.fewshot.conftest import http_error

FRAMES = [Location(number, 0, 4) for number in range(4)]
IMAGE = np.zeros((8, 8, 3), np.uint8)


def make_candidate(area: int) -> Candidate:
    return Candidate(Box(0, 0, 1, area), pack_mask(np.ones((1, area), bool)), area, 0.9, 0.9)


@dataclass
class Found:
    """A segmenter that proposes candidates of these areas, described by these vectors."""

    vectors: dict[int, tuple[float, float]]  # by area
    input_size: int = 64

    def propose(self, rgb: np.ndarray, report: Callable[[float], None]) -> list[Candidate]:
        """Return the candidates."""
        report(0.5)
        return [make_candidate(area) for area in self.vectors]

    def describe(
        self, rgb: np.ndarray, objects: Sequence[Any], report: Callable[[float], None]
    ) -> np.ndarray:
        """Return the vectors."""
        report(0.5)
        vectors = [self.vectors[one.area] for one in objects]
        return np.array(vectors, np.float32).reshape(-1, 2)


def make_search(segmenter: Any, threshold: float = 0.5, **limits: int) -> FrameSearch:
    """Return a search for objects like (1, 0) and unlike (0, 1)."""
    prototype = Prototype(
        vector=np.array([1, 0], np.float32),
        counter_vectors=np.array([[0, 1]], np.float32),
        example_similarities=[],
    )
    areas = {'min_area': 0, 'max_area': 0, **limits}
    return FrameSearch(segmenter, prototype, threshold, **areas)


def make_state(frames: int = 1, **options: Any) -> JobState:
    return JobState(FRAMES[:frames], Stopwatch(lambda: 0.0), **options)


# A frame


def test_candidates_are_filtered_and_counted():
    vectors = {
        1: (1.0, 0.0),  # too small
        2: (0.8, 0.6),
        3: (0.6, 0.8),  # more like the counter-example
        4: (0.0, 1.0),  # below the threshold
        5: (1.0, 0.0),
        9: (1.0, 0.0),  # too large
    }
    search = make_search(Found(vectors), min_area=2, max_area=5)
    state = make_state()
    reports: list[tuple[float, str]] = []
    found = search.run(IMAGE, state, lambda share, doing: reports.append((share, doing)))
    assert [one.candidate.area for one in found] == [2, 5]
    assert [round(one.similarity, 6) for one in found] == [0.8, 1.0]
    assert state.counts == Counts(
        candidates=6, in_area=4, below_threshold=1, like_counter_examples=1, kept=2
    )
    assert state.similarities.highest == pytest.approx(1)
    assert reports == [
        (0.25, 'Proposing outlines: 50%'),
        (0.75, 'Comparing with the examples: 2 of 4'),
    ]


def test_frame_without_candidates_is_searched():
    state = make_state()
    assert make_search(Found({})).run(IMAGE, state, lambda *_: None) == []
    assert state.counts == Counts()


def test_ended_batch_is_noticed_before_candidates_are_described():
    state = make_state()
    state.note_failure(FRAMES[0], http_error(401))
    with pytest.raises(BatchEndedError):
        make_search(Found({1: (1, 0)})).run(IMAGE, state, lambda *_: None)
    assert state.counts == Counts()


@pytest.mark.parametrize(
    ('limits', 'areas'),
    [
        ({}, [0, 1, 10**9]),
        ({'min_area': 3}, [3, 10**9]),
        ({'max_area': 4}, [0, 4]),
        ({'min_area': 3, 'max_area': 4}, [3, 4]),
    ],
)
def test_area_limits_are_included(limits, areas):
    search = make_search(Found({}), **limits)
    assert [area for area in (0, 1, 3, 4, 10**9) if search.is_in_area(area)] == [
        area for area in (0, 1, 3, 4, 10**9) if areas[0] <= area <= areas[-1]
    ]


# Progress


def test_progress_runs_from_the_examples_to_the_end(page):
    state = make_state(3)
    ticks = iter(range(100))
    reporter = page.reporter(lambda: next(ticks))
    for number in range(3):
        if number:
            state.forecast.note_frame(0.5)
        report = make_report(Tile(FRAMES[number]), number, 0, 1, state, reporter)
        report(0, 'a')
        report(1, 'b')
    shares = [share for share, _, _ in page.progress]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (LEARNING_SHARE, 1)
    assert page.progress[0][1:] == ('XY 1, Z 1, Time 5 (1 of 3)', 'a')
    assert page.progress[2][1:] == ('XY 2, Z 1, Time 5 (2 of 3, about 1 s left)', 'a')


def test_progress_ends_with_what_remains(page):
    state = make_state(3)
    reporter = page.reporter()
    reporter.note_state('To do: 2 frames.')
    state.note_complete(FRAMES[0])
    make_report(Tile(FRAMES[1]), 1, 0, 1, state, reporter)(0.5, 'Proposing outlines: 50%')
    assert page.progress[0][2] == 'Proposing outlines: 50%. To do: 2 frames.'


def test_progress_counts_tiles(page):
    state = make_state(2)
    ticks = iter(range(100))
    reporter = page.reporter(lambda: next(ticks))
    for part in range(4):
        tile = Tile(FRAMES[1], Box(0, part, 1, part + 1))
        make_report(tile, 1, part, 4, state, reporter)(0.5, 'Proposing')
    infos = [info for _, _, info in page.progress]
    assert infos == [f'Tile {number} of 4. Proposing' for number in (1, 2, 3, 4)]
    shares = [share for share, _, _ in page.progress]
    assert shares == sorted(shares)
    assert 0.525 < shares[0] < shares[-1] < 1


def test_time_limit_is_warned_of(page):
    state = make_state(4, other_jobs=['My cells (2 of 2)'])
    state.forecast.note_frame(12 * 3600)
    warn_of_limit(state, page.reporter())
    expected = messages.TIME_LIMIT.fill(whole='2.0 days', jobs=5, each='19 h 10 min')
    assert page.warnings == [expected]


# A batch


@dataclass
class Loader:
    """Loads every tile but those of the frames in `broken`."""

    broken: dict[Location, Exception] = field(default_factory=dict)

    def load_ahead(
        self, tiles: Iterable[Tile], is_wanted: Callable[[Tile], bool]
    ) -> Iterator[tuple[Tile, 'Future[np.ndarray]']]:
        """Yield each tile with its image or its error."""
        for tile in tiles:
            if is_wanted(tile):
                coming: Future[np.ndarray] = Future()
                if tile.location in self.broken:
                    coming.set_exception(self.broken[tile.location])
                else:
                    coming.set_result(IMAGE)
                yield tile, coming


@dataclass
class Uploads:
    """Uploads the objects of every frame but those in `broken`."""

    broken: dict[Location, Exception] = field(default_factory=dict)
    done: list[tuple[Location, int]] = field(default_factory=list)
    removed: dict[Location, set[str]] = field(default_factory=dict)

    def upload(
        self, location: Location, found: Sequence[Any], known: Any, result: UploadResult
    ) -> None:
        """Upload like an `Uploader`. A broken location fails after its first object."""
        uploaded = found[:1] if location in self.broken else found
        result.counts.add(Counts(uploaded=len(uploaded)))
        result.similarities += [one.similarity for one in uploaded]
        if location in self.broken:
            raise self.broken[location]
        self.done.append((location, len(found)))

    def remove(self, location: Location, ids: set[str], result: UploadResult) -> None:
        """Note what would be removed after an upload."""
        assert self.done[-1][0] == location
        if ids:
            self.removed[location] = ids


def run_batch(
    state: JobState,
    page: Any,
    loader: Loader,
    uploads: Uploads,
    boxes: Sequence[Box | None] = (None,),
    earlier: dict[Location, set[str]] | None = None,
) -> None:
    reporter = page.reporter()
    tiles = [Tile(location, box) for location in state.locations for box in boxes]
    search = make_search(Found({2: (1, 0)}))
    with ThreadPoolExecutor(1) as background:
        existing = Existing(earlier=earlier or {})
        delivery = Delivery(uploads, existing, state, reporter, background, threading.Lock())  # type: ignore[arg-type]
        search_batch(loader, tiles, (8, 16), search, delivery, state, reporter)  # type: ignore[arg-type]


def test_batch_is_searched_and_uploaded_in_order(page):
    state, uploads = make_state(4), Uploads()
    run_batch(state, page, Loader(), uploads)
    assert uploads.done == [(location, 1) for location in FRAMES]
    assert (state.counts.uploaded, state.counts.frames, state.remaining) == (4, 4, [])
    assert page.warnings == []


def test_tiles_of_a_frame_are_uploaded_together(page):
    state, uploads = make_state(2), Uploads()
    run_batch(state, page, Loader(), uploads, [Box(0, 0, 8, 10), Box(0, 6, 8, 16)])
    # the second tile's object touches the border to the first, which has it whole
    assert uploads.done == [(FRAMES[0], 1), (FRAMES[1], 1)]
    assert state.counts.candidates == 4


@pytest.mark.parametrize('step', ['load', 'upload'])
def test_earlier_results_are_removed_from_complete_frames_only(page, step):
    state = make_state(3)
    broken = {FRAMES[1]: ValueError('odd')}
    loader = Loader(broken if step == 'load' else {})
    uploads = Uploads(broken if step == 'upload' else {})
    earlier = {location: {str(location)} for location in FRAMES}
    run_batch(state, page, loader, uploads, earlier=earlier)
    assert uploads.removed == {one: {str(one)} for one in (FRAMES[0], FRAMES[2])}


@pytest.mark.parametrize('step', ['load', 'upload'])
def test_failed_frame_costs_no_other(page, step):
    state = make_state(4)
    broken = {FRAMES[1]: ValueError('odd')}
    loader = Loader(broken if step == 'load' else {})
    uploads = Uploads(broken if step == 'upload' else {})
    run_batch(state, page, loader, uploads)
    assert [location for location, _ in uploads.done] == [FRAMES[0], *FRAMES[2:]]
    assert state.remaining == [FRAMES[1]]
    assert state.counts.uploaded == (3 if step == 'load' else 4)  # a part of the failed upload
    assert state.counts.frames == 3
    reason = 'odd ValueError: the log of the job has the details.'
    assert page.warnings == [messages.FRAME_FAILED.fill(location=FRAMES[1], reason=reason)]


def test_failed_tile_costs_its_frame(page):
    state, uploads = make_state(2), Uploads()
    boxes = [Box(0, 0, 8, 10), Box(0, 6, 8, 16)]
    run_batch(state, page, Loader({FRAMES[0]: ValueError('odd')}), uploads, boxes)
    assert uploads.done == [(FRAMES[1], 1)]
    assert len(page.warnings) == 1


@pytest.mark.parametrize('step', ['load', 'upload'])
def test_expired_login_ends_the_batch(page, step):
    state = make_state(4)
    broken = {FRAMES[1]: http_error(401)}
    loader = Loader(broken if step == 'load' else {})
    uploads = Uploads(broken if step == 'upload' else {})
    with pytest.raises(BatchEndedError):
        run_batch(state, page, loader, uploads)
    assert uploads.done == [(FRAMES[0], 1)]
    assert state.remaining == FRAMES[1:]
    assert page.warnings == []
