"""The search of a frame and of a batch, with a segmenter that finds what a test says."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot import messages
from fewshot.errors import BatchEndedError
from fewshot.geometry import Box, Location, Tile
from fewshot.matching.prototype import Prototype, list_thresholds
from fewshot.reporting.reporter import MAX_LINE_CHARACTERS
from fewshot.reporting.state import Counts, JobState, Stopwatch
from fewshot.results.existing import Existing
from fewshot.results.uploads import Uploader, UploadOptions, UploadResult
from fewshot.sam.candidates import Candidate, pack_mask
from fewshot.search import (
    LEARNING_SHARE,
    Delivery,
    FrameSearch,
    make_report,
    search_batch,
    warn_of_limit,
)
from tests.fewshot.conftest import Page, http_error
from tests.fewshot.results.test_uploads import RecordingServer

FRAMES = [Location(number, 0, 4) for number in range(4)]
IMAGE = np.zeros((8, 10, 3), np.uint8)


def make_candidate(area: int) -> Candidate:
    return Candidate(Box(0, 0, 1, area), pack_mask(np.ones((1, area), bool)), area, 0.9, 0.9)


class Unstored:
    """The part of a segmenter that asks the store."""

    is_stored = False

    def fetch(self, tile: Tile, rgb: np.ndarray) -> None:
        """Do nothing."""

    def has_proposals(self, rgb: np.ndarray) -> bool:
        """Return whether an earlier run proposed the candidates."""
        return self.is_stored


@dataclass
class Found(Unstored):
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


def make_search(
    segmenter: Any, threshold: float = 0.5, counter: tuple[float, float] = (0, 1), **limits: int
) -> FrameSearch:
    """Return a search for objects like (1, 0) and unlike the counter-example."""
    prototype = Prototype(
        vector=np.array([1, 0], np.float32),
        example_vectors=np.array([(1, 0), (0.6, 0.8)], np.float32),
        counter_vectors=np.array([counter], np.float32),
        example_similarities=[],
    )
    areas = {'min_area': 0, 'max_area': 0, **limits}
    return FrameSearch(segmenter, prototype, threshold, **areas, box_nms_thresh=0.7)


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
        8: (1.0, 0.0),  # too large
    }
    search = make_search(Found(vectors), min_area=2, max_area=5)
    state = make_state()
    reports: list[tuple[float, str]] = []
    found = search.run(IMAGE, state, lambda share, doing: reports.append((share, doing)))
    assert [one.candidate.area for one in found] == [2, 5]
    assert [round(one.similarity, 6) for one in found] == [0.8, 1.0]
    assert [round(one.closest, 6) for one in found] == [0.88, 0.8]
    assert state.counts == Counts(
        candidates=6, in_area=4, below_threshold=1, like_counter_examples=1, kept=2
    )
    assert state.similarities.highest == pytest.approx(1)
    assert reports == [
        (0.25, 'proposing 50 %'),
        (0.75, 'comparing 50 %'),
    ]


def test_proposals_of_an_earlier_run_are_named():
    reports: list[tuple[float, str, bool]] = []

    def report(share: float, doing: str, at_once: bool = False) -> None:
        reports.append((share, doing, at_once))

    segmenter = Found({2: (1, 0)})
    segmenter.is_stored = True
    make_search(segmenter).run(IMAGE, make_state(), report)
    assert reports[0] == (0.5, 'using proposals from an earlier run', True)


def test_candidates_just_below_the_threshold_are_returned_but_not_counted():
    similarities = {2: 0.48, 3: 0.5, 4: 0.44, 5: 0.46}  # by area
    vectors = {area: (one, (1 - one**2) ** 0.5) for area, one in similarities.items()}
    search = make_search(Found(vectors), counter=(0, -1))
    state = make_state()
    found = search.run(IMAGE, state, lambda *_: None)
    assert [one.candidate.area for one in found] == [2, 3, 5]
    assert search.count_kept(found) == 1
    assert state.counts == Counts(candidates=4, in_area=4, below_threshold=3, kept=1)


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


# Progress


def test_progress_runs_from_the_examples_to_the_end(page):
    state = make_state(3)
    ticks = iter(range(100))
    reporter = page.reporter(lambda: next(ticks))
    for number in range(3):
        if number:
            state.forecast.note_frame(10)
        report = make_report(number, 0, 1, state, reporter)
        report(0, 'a')
        report(1, 'b')
    shares = [share for share, _, _ in page.progress]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (LEARNING_SHARE, 1)
    assert page.progress[0][1:] == ('Frame 1 of 3', 'a')
    assert page.progress[2][1:] == ('Frame 2 of 3, 20 s left', 'a')
    assert page.progress[5][1:] == ('Frame 3 of 3', 'b')


def test_progress_of_a_single_frame_has_no_number(page):
    make_report(0, 0, 1, make_state(1), page.reporter())(0.5, 'comparing 40 %')
    assert page.progress[0][1:] == ('Searching the frame', 'comparing 40 %')


def test_progress_counts_tiles(page):
    state = make_state(2)
    ticks = iter(range(100))
    reporter = page.reporter(lambda: next(ticks))
    for part in range(4):
        make_report(1, part, 4, state, reporter)(0.5, 'proposing 0 %')
    infos = [info for _, _, info in page.progress]
    assert infos == [f'tile {number}/4, proposing 0 %' for number in (1, 2, 3, 4)]
    shares = [share for share, _, _ in page.progress]
    assert shares == sorted(shares)
    assert 0.525 < shares[0] < shares[-1] < 1


@pytest.mark.parametrize('seconds_left', [59, 7100, 47 * 3600, 99 * 24 * 3600])
@pytest.mark.parametrize('doing', ['loading the image', 'proposing 100 %', 'comparing 100 %'])
def test_longest_lines_fit_beside_the_bar(page, doing, seconds_left):
    frames = [Location(number, 0, 0) for number in range(10_000)]
    state = JobState(frames, Stopwatch(lambda: 0.0))
    state.forecast.note_frame(seconds_left / 2)
    make_report(9_998, 0, 100, state, page.reporter())(0, doing)
    make_report(9_998, 99, 100, state, page.reporter())(0, doing)
    for _, title, info in page.progress:
        assert 'left' in title
        assert info.endswith(doing)  # is not cut
        assert len(f'{title} {info}') <= MAX_LINE_CHARACTERS


def test_time_limit_is_warned_of(page):
    state = make_state(4, other_jobs=['My cells (2 of 2)'])
    state.forecast.note_frame(12 * 3600)
    warn_of_limit(state, page.reporter())
    expected = messages.TIME_LIMIT.fill(whole='2 days', jobs=5, each='19 h')
    assert page.warnings == [expected]


# A batch


@dataclass
class Loader:
    """Loads every tile but those of the frames in `broken`."""

    broken: dict[Location, Exception] = field(default_factory=dict)

    def load_ahead(
        self,
        tiles: Iterable[Tile],
        is_wanted: Callable[[Tile], bool],
        prepare: Callable[[Tile, np.ndarray], None],
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
    uploads: Any,
    boxes: Sequence[Box | None] = (None,),
    search: FrameSearch | None = None,
    existing: Existing | None = None,
) -> None:
    reporter = page.reporter()
    tiles = [Tile(location, box) for location in state.locations for box in boxes]
    search = search or make_search(Found({2: (1, 0)}))
    with ThreadPoolExecutor(1) as background:
        lock = threading.Lock()
        delivery = Delivery(uploads, existing or Existing(), state, reporter, background, lock)
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


@dataclass
class Planned(Unstored):
    """A segmenter that proposes these rectangles, tile by tile, each described by its vector."""

    tiles: list[list[tuple[Box, tuple[float, float]]]]
    input_size: int = 64

    def propose(self, rgb: np.ndarray, report: Callable[[float], None]) -> list[Candidate]:
        """Return the candidates of the next tile."""
        self.tile = self.tiles.pop(0)
        return [
            Candidate(box, pack_mask(np.ones((box.height, box.width), bool)), area, 0.9, 0.9)
            for box, _ in self.tile
            for area in [box.height * box.width]
        ]

    def describe(
        self, rgb: np.ndarray, objects: Sequence[Any], report: Callable[[float], None]
    ) -> np.ndarray:
        """Return the vectors."""
        vectors = dict(self.tile)
        return np.array([vectors[one.box] for one in objects], np.float32).reshape(-1, 2)


boxes_in_tile = st.builds(
    lambda top, left, height, width: Box(top, left, min(top + height, 8), min(left + width, 10)),
    *(st.integers(0, 7), st.integers(0, 9), st.integers(1, 6), st.integers(1, 6)),
)
# Similarities to (1, 0) from 0.7 to 1, on both sides of it
near_vectors = st.tuples(st.just(1.0), st.floats(-1, 1, width=32))
planned_tiles = st.lists(
    st.dictionaries(boxes_in_tile, near_vectors, max_size=8).map(lambda one: list(one.items())),
    min_size=4,
    max_size=4,
)
KNOWN = Existing(known={FRAMES[0]: [np.array([(0, 0), (4, 0), (4, 4), (0, 4)])]})


@given(planned_tiles, st.booleans())
def test_counts_of_neighbouring_thresholds_are_those_of_separate_runs(tiles, skip_duplicates):
    """Two frames of two tiles, with area limits, a counter-example and a known object."""

    def run(threshold: float) -> JobState:
        page = Page()
        state = make_state(2, thresholds=list_thresholds(threshold))
        options = UploadOptions(threshold, ('a',), 0, 0, skip_duplicates, None, None)
        uploader = Uploader(RecordingServer(), options, page.reporter())
        limits = {'min_area': 3, 'max_area': 25}
        search = make_search(Planned(list(tiles)), threshold, counter=(0.8, 0.6), **limits)
        boxes = [Box(0, 0, 8, 10), Box(0, 6, 8, 16)]
        run_batch(state, page, Loader(), uploader, boxes, search, KNOWN)
        assert page.warnings == []
        return state

    alone = {threshold: run(threshold).counts for threshold in (0.8, 0.85, 0.9)}
    expected = {threshold: one.uploaded + one.known for threshold, one in alone.items()}
    assert run(0.85).found_at == expected


@pytest.mark.parametrize('step', ['load', 'upload'])
def test_earlier_results_are_removed_from_complete_frames_only(page, step):
    state = make_state(3)
    broken = {FRAMES[1]: ValueError('odd')}
    loader = Loader(broken if step == 'load' else {})
    uploads = Uploads(broken if step == 'upload' else {})
    existing = Existing(earlier={location: {str(location)} for location in FRAMES})
    run_batch(state, page, loader, uploads, existing=existing)
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


def test_model_that_cannot_be_loaded_ends_the_batch_at_once(page):
    state, uploads = make_state(4), Uploads()
    with pytest.raises(BatchEndedError, match='no model'):
        run_batch(state, page, Loader({FRAMES[2]: BatchEndedError('no model')}), uploads)
    assert [location for location, _ in uploads.done] == FRAMES[:2]
    assert page.warnings == []


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
