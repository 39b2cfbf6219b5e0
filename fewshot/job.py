"""One job, from the check of the user's rights to the last message. Read it from top to bottom.

settings ─▶ frames ─┬─▶ tagged polygons ─▶ masks ─▶ crops ─▶ features ─▶ prototype
                    └─▶ each frame ─▶ candidates ─▶ crops ─▶ features ─▶ similarity ─┐
                                                                upload ◀─ polygons ◀─┘
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from girder_client import HttpError

from fewshot import messages
from fewshot.batch import list_locations
from fewshot.errors import BatchEndedError
from fewshot.geometry import CutMask, Tile
from fewshot.images.frames import FrameLoader
from fewshot.images.layers import choose_layers
from fewshot.images.metadata import axis_length
from fewshot.matching.examples import Examples, cut_examples, list_reasons, sort_examples
from fewshot.matching.prototype import (
    Prototype,
    compare_closest,
    learn_prototype,
    list_thresholds,
)
from fewshot.reporting import advice
from fewshot.reporting.reporter import Reporter, describe_error
from fewshot.reporting.state import JobState, Stopwatch, count
from fewshot.results.existing import Existing, is_result, list_existing
from fewshot.results.scores import (
    ScoresNotSavedError,
    list_made,
    prepare_property,
    save_example_scores,
)
from fewshot.results.uploads import Uploader, UploadOptions
from fewshot.sam.checkpoints import Checkpoint, list_present
from fewshot.sam.hardware import name_hardware
from fewshot.search import LEARNING_SHARE, Delivery, FrameSearch, search_batch
from fewshot.server import READ, Server, id_of
from fewshot.settings import KEEP, REPLACE, SKIP, Settings
from fewshot.shares import Shares, count_frames, keep_shared_examples, start_shares
from fewshot.store.files import open_store
from fewshot.store.record import name_description, name_precision
from fewshot.store.segmenter import StoringSegmenter

if TYPE_CHECKING:  # imports torch, which a job loads after its settings and examples are checked
    from fewshot.sam.segmenter import Segmenter


def run_job(
    server: Server,
    load_segmenter: Callable[[], Segmenter],
    reporter: Reporter,
    settings: Settings,
    params: Mapping[str, Any],
    stopwatch: Stopwatch,
    uploading: threading.Lock,
) -> None:
    """Find objects like the tagged examples in every frame of the batch, and upload their outlines.

    If a frame fails, the others are still searched. The job then fails at the end and lists the
    failed frames.

    Parameters
    ----------
    server : Server
    load_segmenter : callable
        Loads the model. Called when something must be computed that the store does not have.
    reporter : Reporter
    settings : Settings
    params : Mapping
        The job's parameters as the server sent them. Jobs for other shares get a copy.
    stopwatch : Stopwatch
        Gets the seconds of each step.
    uploading : threading.Lock
        Held during an upload.

    Raises
    ------
    JobError
        The job cannot run, or frames failed.
    girder_client.HttpError
        The server cannot be reached, or refuses a request.
    """
    # 1. Prepare. Quick checks come first
    check_access(server)
    image = server.open_image()
    check_channel(settings.channel, image.tiles)
    locations = list_locations(settings.batches, settings.location, image.tiles)
    layers, problem = choose_layers(server, axis_length(image.tiles, 'C'))
    if problem is not None:
        reporter.warn(problem)
    made_ids = list_made(server) if depends_on_scores(settings) else set()
    tagged = fetch_tagged(server, settings, made_ids, reporter)
    examples = sort_examples(
        tagged.examples, tagged.counter_examples, image.tiles, settings.tile_size
    )
    store = open_store(server, count_frames(params, locations))
    options = choose_upload_options(server, settings, reporter)
    uploader = Uploader(server, options, reporter)
    shares = Shares(locations, [])
    every = [*tagged.examples, *tagged.counter_examples]
    if settings.jobs > 1:
        shares = start_shares(server, params, settings.jobs, locations, every, reporter)
    existing = Existing()
    if settings.existing != KEEP:
        reporter.progress(0.0, 'Reading existing outlines', '')
        existing = list_existing(
            server,
            shares.own,
            settings.tags,
            settings.training_tags,
            example_ids={id_of(one) for one in every},
            made_ids=made_ids,
            # A later run can only replace outlines with scores, so these must be saved too.
            replace=settings.existing == REPLACE and options.property_id is not None,
        )
    thresholds = list_thresholds(settings.threshold)
    state = JobState(shares.own, stopwatch, shares.other_jobs, thresholds)
    reporter.note_state(state.describe())

    def load() -> Segmenter:
        """Load the model, when something is not in the store."""
        segmenter = load_model(load_segmenter, settings.checkpoint, stopwatch, reporter)
        if not segmenter.uses_gpu:
            advice.advise_on_cpu(
                settings.checkpoint,
                list_present(),
                len(state.locations) * len(examples.boxes),
                settings.points_per_side,
                settings.whole_frame,
                measure_smallest(examples, image.tiles, segmenter.input_size),
                reporter,
            )
        return segmenter

    with state.logging_summary(), ThreadPoolExecutor(1) as background:  # for one connection
        tiles = [Tile(location, box) for location in state.locations for box in examples.boxes]
        loader = FrameLoader(
            image, server.dataset_id, layers, background, planned=[*examples.by_tile, *tiles]
        )
        make_segmenter = partial(
            StoringSegmenter,
            store=store,
            load=cache(load),
            checkpoint=settings.checkpoint,
            precision=name_precision(settings.precision, name_hardware()),
            description=name_description(settings.whole_frame, settings.occupancy),
            background=background,
        )

        # 2. Learn
        with stopwatch.time('prototype'):
            segmenter = make_segmenter(points_per_side=None)
            lesson = learn(loader, examples, segmenter, settings, reporter)
        state.examples = len(lesson.ids)
        if options.property_id is not None and settings.share_examples is None:
            background.submit(  # after the examples' files, over one connection
                save_example_scores,
                server,
                options.property_id,
                lesson.ids,
                lesson.prototype.example_similarities,
                compare_closest(lesson.prototype.example_vectors).tolist(),
            ).result()

        # 3. Search, and upload what was found in the background
        if len(state.locations) > 1:  # a long batch: one warning does not wait for its end
            reporter.show_warnings(1)
        search = FrameSearch(
            make_segmenter(points_per_side=settings.points_per_side),
            lesson.prototype,
            settings.threshold,
            settings.min_area,
            settings.max_area,
            settings.checkpoint.box_nms_thresh,
        )
        delivery = Delivery(uploader, existing, state, reporter, background, uploading)
        frame_shape = image.tiles['sizeY'], image.tiles['sizeX']
        search_batch(loader, tiles, frame_shape, search, delivery, state, reporter)

    # 4. Finish
    if settings.existing == SKIP and existing.has_others:
        advice.advise_on_existing(settings.threshold, state, reporter)
    finish(state, lesson, settings, reporter)


# 1. Prepare


def check_access(server: Server) -> None:
    """Check that the user of this job may change the dataset. Else the first upload would fail.

    Raises
    ------
    JobError
        The user may only read the dataset.
    """
    if server.access_level() == READ:
        raise messages.READ_ONLY.error()


def check_channel(channel: int, metadata: Mapping) -> None:
    """Check that the dataset has the channel of the job, which counts from 0.

    Raises
    ------
    JobError
        It does not have the channel.
    """
    channels = axis_length(metadata, 'C')
    if channel >= channels:
        raise messages.CHANNEL_OUTSIDE.error(channel=channel + 1, channels=channels)


def measure_smallest(examples: Examples, metadata: Mapping, input_size: int) -> float:
    """Return the longer side of the smallest example, in pixels of the model's input.

    Parameters
    ----------
    examples : Examples
    metadata : Mapping
        The metadata of the dataset's image.
    input_size : int
        Side of the model's input, pixels.
    """
    tile = examples.boxes[0]
    side = max(tile.height, tile.width) if tile else max(metadata['sizeY'], metadata['sizeX'])
    polygons = [one for some in examples.by_tile.values() for one in some if not one.is_counter]
    sides = [max(one.box.height, one.box.width) for one in polygons if one.box]
    return input_size / side * min(sides, default=0)


class Tagged(NamedTuple):
    """The annotations that are examples, and those that are counter-examples."""

    examples: list[Mapping]
    counter_examples: list[Mapping]


def depends_on_scores(settings: Settings) -> bool:
    """Return whether the job must tell the results of earlier runs from other outlines."""
    by_scores_alone = settings.existing == SKIP and not settings.tags
    return settings.existing == REPLACE or by_scores_alone or bool(list_shared_tags(settings))


def list_shared_tags(settings: Settings) -> list[str]:
    """Return the training tags that are output tags too."""
    return sorted(set(settings.training_tags) & set(settings.tags))


def fetch_tagged(
    server: Server, settings: Settings, made_ids: AbstractSet[str], reporter: Reporter
) -> Tagged:
    """Return the polygons that are examples or counter-examples.

    If the tool has a training tag as output tag, the results of earlier runs are not examples.

    Parameters
    ----------
    made_ids : set of str
        From `list_made`.

    Raises
    ------
    JobError
        No polygon has a training tag, all are results, or the examples of a share have changed.
    """
    examples = server.list_polygons_with_any(settings.training_tags)
    if not examples:
        raise messages.NO_EXAMPLE.error(
            tags=' or '.join(repr(tag) for tag in settings.training_tags)
        )
    if list_shared_tags(settings):
        examples = leave_out_results(examples, settings, made_ids, reporter)
    counter_examples = server.list_polygons_with_any(settings.negative_tags)
    if settings.share_examples is None:
        return Tagged(examples, counter_examples)
    kept = keep_shared_examples([*examples, *counter_examples], settings.share_examples)
    kept_ids = {id_of(one) for one in kept}
    return Tagged(
        [one for one in examples if id_of(one) in kept_ids],
        [one for one in counter_examples if id_of(one) in kept_ids],
    )


def leave_out_results(
    examples: Sequence[Mapping],
    settings: Settings,
    made_ids: AbstractSet[str],
    reporter: Reporter,
) -> list[Mapping]:
    """Return the examples that are not results of earlier runs, and warn of the shared tags.

    Raises
    ------
    JobError
        All of them are results.
    """
    kept = [one for one in examples if not is_result(one, settings.tags, made_ids)]
    tags = ', '.join(repr(tag) for tag in list_shared_tags(settings))
    if not kept:
        raise messages.ONLY_RESULTS.error(tags=tags, count=len(examples))
    reporter.warn(messages.TAGS_OVERLAP, tags=tags, used=len(kept), count=len(examples))
    return kept


def choose_upload_options(server: Server, settings: Settings, reporter: Reporter) -> UploadOptions:
    """Return how annotations are uploaded.

    Warn if scores cannot be saved, or if a later run could not recognize the annotations.
    """
    property_id = None
    try:
        property_id = prepare_property(server)
    except (HttpError, ScoresNotSavedError) as error:
        if settings.existing == REPLACE:
            reporter.warn(messages.NOTHING_REPLACED, reason=error)
        else:
            reporter.warn(messages.SCORES_NOT_SAVED, reason=error)
    if settings.existing != KEEP and not settings.tags and property_id is None:
        reporter.warn(messages.NO_TAGS)
    return UploadOptions(
        threshold=settings.threshold,
        tags=settings.tags,
        channel=settings.channel,
        smoothing=settings.smoothing,
        skip_duplicates=settings.existing != KEEP,
        property_id=property_id,
        connect_to=settings.connect_to,
    )


def load_model(
    load_segmenter: Callable[[], Segmenter],
    checkpoint: Checkpoint,
    stopwatch: Stopwatch,
    reporter: Reporter,
) -> Segmenter:
    """Load the model.

    Raises
    ------
    BatchEndedError
        It cannot be loaded.
    """
    reporter.progress(reporter.share, 'Loading the model', checkpoint.title, at_once=True)
    try:
        with stopwatch.time('load'):
            return load_segmenter()
    except Exception as error:  # every frame would fail like this
        raise BatchEndedError(*describe_error(error)) from error


# 2. Learn


class Lesson(NamedTuple):
    """What the examples show.

    Attributes
    ----------
    prototype : Prototype
    ids : list of str
        Of the annotations of the examples that were used.
    areas : list of int
        Of these examples, pixels.
    smallest : float
        Area of the smallest example as a fraction of its frame or tile.
    """

    prototype: Prototype
    ids: list[str]
    areas: list[int]
    smallest: float


def learn(
    loader: FrameLoader,
    examples: Examples,
    segmenter: StoringSegmenter,
    settings: Settings,
    reporter: Reporter,
) -> Lesson:
    """Learn the prototype from the examples. Ignore unusable examples, with one warning for all.

    Raises
    ------
    JobError
        No example can be used.
    """
    total = examples.skipped.total() + sum(len(polygons) for polygons in examples.by_tile.values())
    skipped = Counter(examples.skipped)
    vectors: list[np.ndarray] = []
    is_counter: list[bool] = []
    objects: list[CutMask] = []
    ids: list[str] = []
    areas: list[int] = []
    smallest = 1.0
    scale = np.inf  # smallest number of pixels of the model's input per pixel of a frame
    report_learning(reporter, 0, 0, total, 0.0)
    for tile, coming in loader.load_ahead(examples.by_tile, prepare=segmenter.fetch):
        rgb = coming.result()
        cut = cut_examples(examples.by_tile[tile], tile, rgb.shape)
        skipped += cut.skipped
        report = partial(report_learning, reporter, len(is_counter), len(cut.objects), total)
        vectors.append(segmenter.describe(rgb, cut.objects, report))
        is_counter += cut.is_counter
        for one, id, counter in zip(cut.objects, cut.ids, cut.is_counter, strict=True):
            if not counter:
                objects.append(one)
                ids.append(id)
                areas.append(int(one.mask.sum()))
                smallest = min(smallest, areas[-1] / math.prod(rgb.shape[:2]))
        scale = min(scale, segmenter.input_size / max(rgb.shape[:2]))

    if not objects:
        raise messages.NO_USABLE_EXAMPLE.error(reasons=list_reasons(skipped))
    if skipped:
        reporter.warn(
            messages.EXAMPLES_SKIPPED,
            skipped=skipped.total(),
            count=total,
            reasons=list_reasons(skipped),
        )
    if settings.whole_frame:
        advice.advise_on_source(objects, scale, settings.checkpoint.patch_size, reporter)
    if not advice.advise_on_size(objects, scale, segmenter.input_size, reporter):
        advice.advise_on_coarse_grid(smallest, settings.points_per_side, reporter)
    advice.advise_on_areas(areas, settings.min_area, settings.max_area, reporter)
    prototype = learn_prototype(np.concatenate(vectors), is_counter)
    return Lesson(prototype, ids, areas, smallest)


def report_learning(reporter: Reporter, done: int, new: int, total: int, share: float) -> None:
    """Show how many examples are done.

    Parameters
    ----------
    done : int
        Examples of the tiles before this one.
    new : int
        Examples in this tile.
    total : int
        All examples.
    share : float
        Share of the examples in this tile that are done, 0 to 1.
    """
    number = done + round(share * new)
    reporter.progress(
        LEARNING_SHARE * number / total, 'Learning from the examples', f'{number} of {total}'
    )


# 4. Finish


def finish(state: JobState, lesson: Lesson, settings: Settings, reporter: Reporter) -> None:
    """Warn about the result, and show the last message.

    Raises
    ------
    JobError
        Frames failed.
    """
    similarities = lesson.prototype.example_similarities
    if state.counts.kept:
        advice.advise_on_threshold(settings.threshold, similarities, state, reporter)
    else:
        reporter.warn(
            messages.NOTHING_FOUND,
            frames=count(state.counts.frames, 'frame'),
            explanation=state.explain_nothing(settings.threshold),
        )
    advice.advise_on_limits(
        lesson.areas, settings.min_area, settings.max_area, state.uploaded_areas, reporter
    )
    advice.advise_on_fine_grid(lesson.smallest, settings.points_per_side, state, reporter)
    state.raise_failures()
    reporter.finish(state.describe_found(), state.describe_result(similarities))
