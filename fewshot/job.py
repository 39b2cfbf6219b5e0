"""One job, from the rights of its user to its last message. Read it from top to bottom.

    settings ─▶ frames ─┬─▶ tagged polygons ─▶ masks ─▶ crops ─▶ features ─▶ prototype
                        └─▶ each frame ─▶ candidates ─▶ crops ─▶ features ─▶ similarity ─▶ polygons ─▶ upload
"""
import logging
import resource
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from girder_client import HttpError

from fewshot import messages
from fewshot.batch import list_locations
from fewshot.geometry import CutMask, Location, Tile
from fewshot.images.frames import FrameLoader
from fewshot.images.layers import choose_layers
from fewshot.images.metadata import axis_length
from fewshot.matching.duplicates import Found, place_in_frame
from fewshot.matching.examples import Examples
from fewshot.matching.prototype import Prototype, learn_prototype, measure_rivals, measure_similarities
from fewshot.reporting import advice
from fewshot.reporting.forecast import describe_seconds
from fewshot.reporting.reporter import Reporter, describe_error
from fewshot.reporting.state import Counts, JobState, Stopwatch, count
from fewshot.results.existing import list_existing
from fewshot.results.scores import ScoresNotSavedError, prepare_property
from fewshot.results.uploads import Uploader, UploadOptions
from fewshot.sam.segmenter import Segmenter
from fewshot.server import READ, Server
from fewshot.settings import Settings
from fewshot.shares import Shares, keep_shared_examples, start_shares

EXAMPLES_SHARE = 0.05  # of the progress bar

log = logging.getLogger('sam_fewshot')


def run_job(server: Server, load_segmenter: Callable[[], Segmenter], reporter: Reporter, settings: Settings,
            params: Mapping[str, Any], clock: Callable[[], float], uploading: threading.Lock) -> None:
    """Find objects like the tagged examples in every frame of the batch, and upload their outlines.

    A frame that fails costs no other frame: it is listed at the end, and the job fails.

    Parameters
    ----------
    server : Server
    load_segmenter : callable
        Loads the model. Called after everything that can fail quickly.
    reporter : Reporter
    settings : Settings
    params : Mapping
        The job's parameters as the server sent them, for the jobs of other shares.
    clock : callable
        Returns seconds.
    uploading : threading.Lock
        Held during an upload.

    Raises
    ------
    JobError
        The job cannot run, or frames failed.
    girder_client.HttpError
        The server cannot be reached or refuses.
    """
    stopwatch = Stopwatch(clock)

    # 1. Prepare: what can fail quickly comes first
    check_access(server)
    image = server.open_image()
    check_channel(settings.channel, image.tiles)
    locations = list_locations(settings.batches, settings.location, image.tiles)
    layers, problem = choose_layers(server, axis_length(image.tiles, 'C'))
    if problem is not None:
        reporter.warn(problem)
    examples = fetch_examples(server, settings, image.tiles)
    reporter.progress(0.0, 'Loading the model', settings.checkpoint.title)
    with stopwatch.time('load'):
        segmenter = load_segmenter()
    uploader = Uploader(server, choose_upload_options(server, settings, reporter), reporter)
    existing = {}
    if settings.skip_duplicates:
        existing = list_existing(server, locations, settings.tags, settings.training_tags)
    shares = Shares(locations, [])
    if settings.jobs > 1:
        shares = start_shares(server, params, settings.jobs, locations, examples.annotations, reporter)
    state = JobState(shares.own, stopwatch, shares.other_jobs)
    reporter.note_state(state.describe())

    with ThreadPoolExecutor(1) as background:  # one thread: one connection to the server is enough
        tiles = [Tile(location, box) for location in state.locations for box in examples.boxes]
        loader = FrameLoader(image, server.dataset_id, layers, background, planned=[*examples.tiles, *tiles])

        # 2. Learn
        with stopwatch.time('prototype'):
            lesson = learn(loader, examples, segmenter, settings, reporter)

        # 3. Search, and upload what was found in the background
        search = Search(segmenter, lesson.prototype, settings.threshold, settings.min_area, settings.max_area)
        frame_shape = image.tiles['sizeY'], image.tiles['sizeX']
        deliver = Delivery(uploader, existing, state, reporter, background, uploading)
        search_batch(loader, tiles, frame_shape, search, deliver, state, reporter)

    # 4. Finish
    finish(state, lesson, settings.threshold, reporter)


# 1. Prepare


def check_access(server: Server) -> None:
    """Raise a JobError when the user of this job may only read the dataset: the first upload would fail."""
    if server.access_level() == READ:
        raise messages.READ_ONLY.error()


def check_channel(channel: int, metadata: Mapping) -> None:
    """Raise a JobError when the dataset does not have the job's channel, counted from 0."""
    channels = axis_length(metadata, 'C')
    if channel >= channels:
        raise messages.CHANNEL_OUTSIDE.error(channel=channel + 1, channels=channels)


def fetch_examples(server: Server, settings: Settings, metadata: Mapping) -> Examples:
    """Return the examples and the counter-examples. Raises JobError when there is no example."""
    positive = server.list_polygons_with_any(settings.training_tags)
    if not positive:
        raise messages.NO_EXAMPLE.error(tags=' or '.join(repr(tag) for tag in settings.training_tags))
    negative = server.list_polygons_with_any(settings.negative_tags)
    if settings.share_examples is not None:
        kept = keep_shared_examples([*positive, *negative], settings.share_examples)
        positive = [one for one in positive if one in kept]
        negative = [one for one in negative if one in kept]
    return Examples(positive, negative, metadata, settings.tile_size)


def choose_upload_options(server: Server, settings: Settings, reporter: Reporter) -> UploadOptions:
    """Return how annotations are uploaded. Warn where scores cannot be saved, or duplicates not be recognized."""
    property_id = None
    if settings.save_scores:
        try:
            property_id = prepare_property(server)
        except (HttpError, ScoresNotSavedError) as error:
            reporter.warn(messages.SCORES_NOT_SAVED, reason=error)
    if settings.skip_duplicates and not settings.tags and property_id is None:
        reporter.warn(messages.NO_TAGS)
    return UploadOptions(
        tags=settings.tags, channel=settings.channel, smoothing=settings.smoothing,
        skip_duplicates=settings.skip_duplicates, property_id=property_id, connect_to=settings.connect_to)


# 2. Learn


class Lesson(NamedTuple):
    """What was learned: the prototype, and the number of examples that were used."""

    prototype: Prototype
    examples: int


def learn(loader: FrameLoader, examples: Examples, segmenter: Segmenter, settings: Settings,
          reporter: Reporter) -> Lesson:
    """Return the prototype of the examples. Examples that cannot be used are ignored with one warning.

    Raises
    ------
    JobError
        No example can be used.
    """
    vectors: list[np.ndarray] = []
    is_negative: list[bool] = []
    objects: list[CutMask] = []
    scale = np.inf  # pixels of the model's input per pixel of a frame, the smallest
    for tile, coming in loader.load_ahead(examples.tiles):
        rgb = coming.result()
        cut = examples.cut(tile, rgb.shape)
        done = len(is_negative)

        def report(share: float, done: int = done, new: int = len(cut)) -> None:
            number = done + round(share * new)
            reporter.progress(EXAMPLES_SHARE * number / examples.count, 'Learning from the examples',
                              f'{number} of {examples.count}')

        vectors.append(segmenter.describe(rgb, [one for one, _ in cut], report))
        is_negative += [negative for _, negative in cut]
        objects += [one for one, negative in cut if not negative]
        scale = min(scale, segmenter.input_size / max(rgb.shape[:2]))
    if not objects:
        raise messages.NO_USABLE_EXAMPLE.error(reasons=examples.reasons)
    if examples.skipped:
        reporter.warn(messages.EXAMPLES_SKIPPED, skipped=examples.skipped.total(), count=examples.count,
                      reasons=examples.reasons)
    if settings.whole_frame:
        advice.advise_on_source(objects, scale, segmenter.input_size, reporter)
    advice.advise_on_size(objects, scale, segmenter.input_size, reporter)
    advice.advise_on_areas(objects, settings.min_area, settings.max_area, reporter)
    return Lesson(learn_prototype(np.concatenate(vectors), is_negative), len(objects))


# 3. Search


@dataclass(frozen=True)
class Search:
    """How a frame, or a tile of it, is searched."""

    segmenter: Segmenter
    prototype: Prototype
    threshold: float
    min_area: int
    max_area: int

    def run(self, rgb: np.ndarray, state: JobState, report: Callable[[float, str], None]) -> list[Found]:
        """Return the candidates that have the right size and are similar to the examples.

        Parameters
        ----------
        rgb : (H, W, 3) uint8 ndarray
        state : JobState
            Gets the counts. A batch that has ended is noticed here.
        report : callable
            Called with the share done, 0 to 1, and what is being done.
        """
        with state.stopwatch.time('propose'):
            proposed = self.segmenter.propose(
                rgb, lambda share: report(share / 2, f'Proposing outlines: {share:.0%}'))
        in_area = [one for one in proposed if self.is_in_area(one.area)]
        state.raise_if_ended()
        with state.stopwatch.time('describe'):
            vectors = self.segmenter.describe(rgb, in_area, lambda share: report(
                (1 + share) / 2, f'Comparing with the examples: {round(share * len(in_area))} of {len(in_area)}'))
            similarities = measure_similarities(vectors, self.prototype.vector).tolist()
            rivals = measure_rivals(vectors, self.prototype.counter_examples).tolist()

        similar = [similarity >= self.threshold for similarity in similarities]
        found = []
        for candidate, similarity, rival, is_similar in zip(in_area, similarities, rivals, similar, strict=True):
            if is_similar and similarity > rival:
                found.append(Found(candidate, similarity))
        state.note_searched(Counts(
            candidates=len(proposed), in_area=len(in_area), below_threshold=len(in_area) - sum(similar),
            like_counter_examples=sum(similar) - len(found), kept=len(found)), similarities)
        return found

    def is_in_area(self, area: int) -> bool:
        """Return whether an area, in pixels, is inside the limits."""
        return area >= self.min_area and (not self.max_area or area <= self.max_area)


@dataclass(frozen=True)
class Delivery:
    """Uploads the objects of a frame in the background, while the next frame is searched."""

    uploader: Uploader
    existing: Mapping[Location, list[np.ndarray]]
    state: JobState
    reporter: Reporter
    background: Executor
    uploading: threading.Lock

    def start(self, location: Location, found: Sequence[Found]) -> 'Future[None]':
        """Upload the objects of a frame in the background."""
        return self.background.submit(self.run, location, found)

    def run(self, location: Location, found: Sequence[Found]) -> None:
        """Upload the objects of a frame. A failure is noted and does not leave this method."""
        try:
            with self.uploading:
                result = self.uploader.upload(location, found, self.existing.get(location, []))
        except Exception as error:  # noqa: BLE001 - whatever it is, it costs this frame and no other
            note_failure(location, error, self.state, self.reporter)
            return
        self.state.note_uploaded(result.counts, result.similarities)
        self.state.note_complete(location)
        log.info('%s: %d like the examples, %d uploaded, %d MB at most', location, len(found),
                 result.counts.uploaded, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        self.reporter.note_state(self.state.describe())


def search_batch(loader: FrameLoader, tiles: Sequence[Tile], frame_shape: tuple[int, int], search: Search,
                 delivery: Delivery, state: JobState, reporter: Reporter) -> None:
    """Search every frame of the batch, tile by tile, and upload what is found while the next is searched.

    Parameters
    ----------
    tiles : sequence of Tile
        All tiles of the batch, those of a frame together.
    frame_shape : (height, width), pixels

    Raises
    ------
    BatchEndedError
        A frame failed in a way that the others would too.
    """
    tiles_per_frame = len(tiles) // len(state.locations)
    numbers = {location: number for number, location in enumerate(state.locations)}
    is_warned = False
    upload: Future[None] | None = None
    found: list[Found] = []
    seconds = 0.0
    for tile, coming in loader.load_ahead(tiles, lambda tile: tile.location not in state.failures):
        location = tile.location
        if location in state.failures:  # an earlier tile of this frame failed while this one was loaded
            continue
        part = tiles.index(tile) % tiles_per_frame
        if part == 0:
            found, seconds = [], 0.0
        report = make_report(tile, numbers[location], part, tiles_per_frame, state, reporter)
        start = state.stopwatch.clock()
        try:
            report(0.0, 'Loading the image')
            with state.stopwatch.time('download'):
                rgb = coming.result()
            inside = search.run(rgb, state, report)
        except Exception as error:
            state.raise_if_ended()
            note_failure(location, error, state, reporter)
            state.raise_if_ended()
            continue
        found += inside if tile.box is None else place_in_frame(inside, part, tile.box, frame_shape)
        seconds += state.stopwatch.clock() - start
        if part + 1 < tiles_per_frame:
            continue

        # The frame is searched: wait for the upload of the one before, and start its own
        state.forecast.note_frame(seconds)
        log.info('%s: searched in %.1f s', location, seconds)
        if not is_warned and state.forecast.exceeds_limit():
            warn_of_limit(state, reporter)
            is_warned = True
        with state.stopwatch.time('upload'):
            if upload is not None:
                upload.result()
        state.raise_if_ended()
        upload = delivery.start(location, found)
    with state.stopwatch.time('upload'):
        if upload is not None:
            upload.result()
    state.raise_if_ended()


def make_report(tile: Tile, number: int, part: int, parts: int, state: JobState,
                reporter: Reporter) -> Callable[[float, str], None]:
    """Return a function that shows the share done of one tile, 0 to 1, and what is being done.

    Parameters
    ----------
    number : int
        Number of the frame in the batch, from 0.
    part, parts : int
        Number of the tile in its frame, from 0, and how many there are.
    """
    frames = len(state.locations)

    def report(share: float, doing: str) -> None:
        done = number + (part + share) / parts
        left = state.forecast.describe_left(done)
        title = f'{tile.location} ({number + 1} of {frames}{left})'
        info = f'Tile {part + 1} of {parts}. {doing}' if parts > 1 else doing
        if frames > 1 and state.done:
            info = f'{info}. {reporter.state_line}'
        reporter.progress(EXAMPLES_SHARE + (1 - EXAMPLES_SHARE) * done / frames, title, info)

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
    """Warn that the server will end the job before the batch is searched, and propose a number of jobs."""
    jobs, seconds = state.forecast.propose_jobs(1 + len(state.other_jobs))
    reporter.warn(messages.TIME_LIMIT, whole=describe_seconds(state.forecast.seconds_left(0) or 0), jobs=jobs,
                  each=describe_seconds(seconds))


# 4. Finish


def finish(state: JobState, lesson: Lesson, threshold: float, reporter: Reporter) -> None:
    """Show the last message and write the summary. Raises JobError when frames failed."""
    state.log_summary(lesson.examples)
    if state.counts.kept:
        advice.advise_on_threshold(threshold, lesson.prototype.example_similarities, state, reporter)
    else:
        reporter.warn(messages.NOTHING_FOUND, frames=count(state.counts.frames, 'frame'),
                      explanation=state.explain_nothing(threshold))
    reporter.close()
    state.raise_failures()
    reporter.progress(1.0, 'Done', state.describe_result(lesson.prototype.example_similarities))
