"""New annotations on their way to the server: each once, whatever becomes of a request or its answer."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from girder_client import HttpError

from fewshot import messages
from fewshot.geometry import Location
from fewshot.matching.duplicates import Found, find_duplicates, find_known
from fewshot.polygons import make_annotation, trace_mask
from fewshot.reporting.reporter import Reporter
from fewshot.reporting.state import Counts
from fewshot.server import (
    LOGGED_OUT_STATUS,
    LOST_STATUSES,
    REFUSED_STATUSES,
    RETRY_PAUSES_SECONDS,
    Server,
)

ANNOTATIONS_PER_REQUEST = 1_000
MAX_REQUESTS_PER_BATCH = 5
MAX_REFUSED = 10  # annotations of one batch; with more, the fault is not theirs

log = logging.getLogger('sam_fewshot')


@dataclass(frozen=True)
class UploadOptions:
    """How the annotations of a job look, and what else is saved of them.

    Attributes
    ----------
    tags : tuple of str
    channel : int
    smoothing : float
        Largest distance between an outline and its simplification, pixels.
    skip_duplicates : bool
        Otherwise only duplicates of different tiles are ignored.
    property_id : str or None
        Of the scores, None where they are not saved.
    connect_to : Mapping or None
        The annotations to connect with, None for no connections.
    """

    tags: tuple[str, ...]
    channel: int
    smoothing: float
    skip_duplicates: bool
    property_id: str | None
    connect_to: Mapping[str, Any] | None


@dataclass
class UploadResult:
    """What became of the objects of a frame."""

    counts: Counts = field(default_factory=Counts)
    similarities: list[float] = field(default_factory=list)  # of the new annotations


class Uploader:
    """Uploads the objects of one frame after the other.

    Parameters
    ----------
    server : Server
    options : UploadOptions
    reporter : Reporter
        Gets a warning for what the server refuses.
    """

    def __init__(self, server: Server, options: UploadOptions, reporter: Reporter):
        self.server, self.options, self.reporter = server, options, reporter
        self.annotations = NewAnnotations(server, options.tags)

    def upload(
        self,
        location: Location,
        found: Sequence[Found],
        known: Sequence[np.ndarray],
        result: UploadResult,
    ) -> None:
        """Outline the objects of a frame and create an annotation for each that is new.

        Parameters
        ----------
        location : Location
        found : sequence of Found
        known : sequence of (N, 2) float ndarray
            The outlines at this location that are on the server, x and y.
        result : UploadResult
            Gets what was created, also when an error is raised.

        Raises
        ------
        girder_client.HttpError
            The server cannot be reached, refuses too many objects, or the login has expired.
        """
        fresh, counts = self.select(found, known)
        result.counts.add(counts)
        self.annotations.begin_frame()
        for start in range(0, len(fresh), ANNOTATIONS_PER_REQUEST):
            self.upload_batch(location, fresh[start : start + ANNOTATIONS_PER_REQUEST], result)

    def select(
        self, found: Sequence[Found], known: Sequence[np.ndarray]
    ) -> tuple[list[tuple[Found, np.ndarray]], Counts]:
        """Return the objects that are not duplicates and not known, with their outlines, and the counts."""
        is_duplicate = find_duplicates(found, across_tiles_only=not self.options.skip_duplicates)
        single = [one for one, duplicate in zip(found, is_duplicate, strict=True) if not duplicate]
        outlines = [
            trace_mask(one.candidate.box, one.candidate.mask, self.options.smoothing)
            for one in single
        ]
        is_known = find_known(outlines, known)
        pairs = zip(single, outlines, strict=True)
        fresh = [pair for pair, is_there in zip(pairs, is_known, strict=True) if not is_there]
        counts = Counts(duplicates=len(found) - len(single), known=len(single) - len(fresh))
        return fresh, counts

    def upload_batch(
        self, location: Location, batch: Sequence[tuple[Found, np.ndarray]], result: UploadResult
    ) -> None:
        """Create the annotations of some objects, save their scores and connect them. Add to the result."""
        options = self.options
        annotations = [
            make_annotation(
                outline, location, options.tags, options.channel, self.server.dataset_id
            )
            for _, outline in batch
        ]
        ids, refusals = self.annotations.send(annotations)
        created = {id: one for id, (one, _) in zip(ids, batch, strict=True) if id is not None}
        result.counts.uploaded += len(created)
        result.similarities += [one.similarity for one in created.values()]
        for error in refusals:
            self.reporter.warn(messages.OBJECT_REFUSED, location=location, reason=error)
        if not created:
            return
        if options.property_id is not None:
            self.save_scores(
                location, {id: one.scores for id, one in created.items()}, options.property_id
            )
        if options.connect_to is not None:
            self.connect(location, list(created), options.connect_to)

    def save_scores(
        self, location: Location, scores: Mapping[str, Mapping[str, float]], property_id: str
    ) -> None:
        """Save the scores of new annotations. Warn where the server refuses, as the annotations are there."""
        try:
            self.server.save_scores(property_id, scores)
        except HttpError as error:
            if error.status == LOGGED_OUT_STATUS:
                raise
            self.reporter.warn(messages.SCORES_LOST, location=location, reason=error)

    def connect(self, location: Location, ids: Sequence[str], connect_to: Mapping) -> None:
        """Connect new annotations. Warn where the server refuses, as the annotations are there."""
        try:
            self.server.connect(connect_to, ids)
        except HttpError as error:
            if error.status == LOGGED_OUT_STATUS:
                raise
            self.reporter.warn(messages.CONNECTIONS_LOST, location=location, reason=error)


class NewAnnotations:
    """The annotations that this job creates. Other users and other jobs create annotations at the same time.

    Parameters
    ----------
    server : Server
    tags : sequence of str
        All new annotations have these tags.
    """

    def __init__(self, server: Server, tags: Sequence[str]):
        self.server = server
        self.tags = list(tags)
        self.cursor = server.newest_annotation_id()  # this job created nothing up to this id
        self.created: list[list[str]] = []  # ids since then, per frame

    def begin_frame(self) -> None:
        """Begin another frame: a search for lost annotations then begins later.

        It begins one frame earlier than necessary, because ids of the same second need not ascend.
        """
        if len(self.created) == 2:
            self.cursor = max([self.cursor, *self.created.pop(0)])
        self.created.append([])

    def send(self, annotations: Sequence[Mapping]) -> tuple[list[str | None], list[HttpError]]:
        """Create annotations with one request. Halve a refused request until the refused annotations are alone.

        Returns
        -------
        ids : list of str or None
            In order; None for an annotation that the server refuses.
        refusals : list of HttpError
            One per refused annotation.

        Raises
        ------
        girder_client.HttpError
            The server cannot be reached, or refuses more than MAX_REFUSED annotations.
        """
        ids: list[str | None] = []
        refusals: list[HttpError] = []
        waiting = [list(annotations)] if annotations else []
        while waiting:
            batch = waiting.pop(0)
            try:
                ids += self.create(batch)
            except HttpError as error:
                if error.status not in REFUSED_STATUSES or len(refusals) == MAX_REFUSED:
                    raise
                if len(batch) == 1:
                    ids.append(None)
                    refusals.append(error)
                else:
                    middle = len(batch) // 2
                    waiting = [batch[:middle], batch[middle:], *waiting]
        return ids, refusals

    def create(self, batch: list[Mapping]) -> list[str | None]:
        """Create all annotations of a batch or none. Return their ids in order. Raises HttpError.

        When no answer comes, the batch is looked for on the server, and sent again only if it is not there.
        """
        for _ in range(MAX_REQUESTS_PER_BATCH):
            ids: list[str | None] = []
            try:
                ids += self.server.create_annotations(batch)
            except HttpError as error:
                if error.status not in LOST_STATUSES:
                    raise
                log.warning(
                    'no answer to %d annotations (status %s), looking for them',
                    len(batch),
                    error.status,
                )
                lost = error
                ids += self.look_for(batch)
            if any(ids):
                self.created[-1] += [id for id in ids if id is not None]
                return ids
        raise lost

    def look_for(self, batch: Sequence[Mapping]) -> list[str | None]:
        """Return the ids of a batch that may have arrived, None for each annotation that is not there."""
        found: list[str | None] = [None] * len(batch)
        for pause in RETRY_PAUSES_SECONDS:
            self.server.sleep(pause)
            for number, annotation_id in self.match(batch):
                found[number] = annotation_id
            if any(found):
                break
        return found

    def match(self, batch: Sequence[Mapping]) -> Iterator[tuple[int, str]]:
        """Yield (number in the batch, id) for annotations on the server that equal those of the batch, each once."""
        own_ids = {annotation_id for frame in self.created for annotation_id in frame}
        numbers: dict[tuple, list[int]] = {}
        for number, annotation in enumerate(batch):
            numbers.setdefault(content_of(annotation), []).append(number)
        for annotation in self.server.list_polygons(self.tags, self.cursor):
            waiting = numbers.get(content_of(annotation))
            if waiting and annotation['_id'] not in own_ids:
                yield waiting.pop(0), annotation['_id']


def content_of(annotation: Mapping) -> tuple:
    """Return what two annotations share that are the same: location, channel, tags and outline, as a key."""
    location = annotation['location']
    indices = tuple(location.get(axis) for axis in ('XY', 'Z', 'Time'))
    outline = tuple((point['x'], point['y']) for point in annotation['coordinates'])
    return indices, annotation['channel'], tuple(sorted(annotation['tags'])), outline
