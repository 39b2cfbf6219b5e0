"""Upload new annotations: each exactly once, even if a request or its answer is lost."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
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
# Annotations of one batch. If the server refuses more, the annotations are not the cause.
MAX_REFUSED = 10
NOT_SAVED_REASON = 'Not every new outline was saved with its scores.'

log = logging.getLogger('sam_fewshot')


@dataclass(frozen=True)
class UploadOptions:
    """How the annotations of a job are made, and what is saved with them.

    Attributes
    ----------
    threshold : float
        Less similar objects are counted, but not uploaded.
    tags : tuple of str
    channel : int
    smoothing : float
        Largest distance between an outline and its simplification, pixels.
    skip_duplicates : bool
        Whether all duplicates are ignored. If not, only duplicates from different tiles are.
    property_id : str or None
        The property of the scores. None if scores are not saved.
    connect_to : Mapping or None
        The annotations to connect with, None for no connections.
    """

    threshold: float
    tags: tuple[str, ...]
    channel: int
    smoothing: float
    skip_duplicates: bool
    property_id: str | None
    connect_to: Mapping[str, Any] | None


@dataclass
class UploadResult:
    """The result of uploading the objects of a frame."""

    counts: Counts = field(default_factory=Counts)
    # Of all objects but duplicates, also of those below the threshold
    found_similarities: list[float] = field(default_factory=list)
    similarities: list[float] = field(default_factory=list)  # of the new annotations
    areas: list[int] = field(default_factory=list)  # of the new annotations, pixels
    is_saved: bool = True  # whether every object was created, and its scores are saved


class Uploader:
    """Uploads the objects of the frames, one frame at a time.

    Parameters
    ----------
    server : Server
    options : UploadOptions
    reporter : Reporter
        Gets a warning for each object that the server refuses.
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

        Objects below the threshold are only counted.

        Parameters
        ----------
        location : Location
        found : sequence of Found
        known : sequence of (N, 2) float ndarray
            The outlines that the server already has at this location, x and y.
        result : UploadResult
            Gets the counts and the new annotations, even if an error is raised.

        Raises
        ------
        girder_client.HttpError
            The server cannot be reached, refuses too many objects, or the login has expired.
        """
        fresh = self.select(found, known, result)
        self.annotations.begin_frame()
        for start in range(0, len(fresh), ANNOTATIONS_PER_REQUEST):
            self.upload_batch(location, fresh[start : start + ANNOTATIONS_PER_REQUEST], result)

    def select(
        self, found: Sequence[Found], known: Sequence[np.ndarray], result: UploadResult
    ) -> list[tuple[Found, np.ndarray]]:
        """Return the objects to upload, each with its outline. Count the others in the result.

        The others are duplicates, or below the threshold, or the server already has them.
        """
        is_duplicate = find_duplicates(found, across_tiles_only=not self.options.skip_duplicates)
        single = [one for one, duplicate in zip(found, is_duplicate, strict=True) if not duplicate]
        result.found_similarities += [one.similarity for one in single]

        similar = [one for one in single if one.similarity >= self.options.threshold]
        outlines = [
            trace_mask(one.candidate.box, one.candidate.mask, self.options.smoothing)
            for one in similar
        ]
        is_known = find_known(outlines, known)
        pairs = zip(similar, outlines, strict=True)
        fresh = [pair for pair, is_there in zip(pairs, is_known, strict=True) if not is_there]
        kept = sum(one.similarity >= self.options.threshold for one in found)
        result.counts.add(Counts(duplicates=kept - len(similar), known=len(similar) - len(fresh)))
        return fresh

    def upload_batch(
        self, location: Location, batch: Sequence[tuple[Found, np.ndarray]], result: UploadResult
    ) -> None:
        """Create annotations, save their scores and connect them. Add the counts to the result."""
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
        result.areas += [one.candidate.area for one in created.values()]
        for error in refusals:
            self.reporter.warn(messages.OBJECT_REFUSED, location=location, reason=error)
            result.is_saved = False
        if not created:
            return
        if options.property_id is not None:
            scores = {id: one.scores for id, one in created.items()}
            if not self.save_scores(location, scores, options.property_id):
                result.is_saved = False
        if options.connect_to is not None:
            self.connect(location, list(created), options.connect_to)

    def save_scores(
        self, location: Location, scores: Mapping[str, Mapping[str, float]], property_id: str
    ) -> bool:
        """Save the scores of new annotations. Only warn if it fails, as the annotations exist.

        Returns
        -------
        bool
            Whether the scores are saved.
        """
        try:
            self.server.save_scores(property_id, scores)
        except HttpError as error:
            if error.status == LOGGED_OUT_STATUS:
                raise
            self.reporter.warn(messages.SCORES_LOST, location=location, reason=error)
            return False
        return True

    def remove(self, location: Location, ids: Collection[str], result: UploadResult) -> None:
        """Remove the results of earlier runs in a frame, after its new objects are saved.

        Results stay that have other tags by now, and all of them if not every new object is saved.
        Only warn if it fails, as the next run with the same setting removes them.

        Parameters
        ----------
        location : Location
        ids : collection of str
            The results of earlier runs.
        result : UploadResult
            Of the upload of this frame. Gets the number of removed annotations.

        Raises
        ------
        girder_client.HttpError
            The login has expired.
        """
        if not ids:
            return
        if not result.is_saved:
            self.reporter.warn(
                messages.RESULTS_NOT_REMOVED, location=location, reason=NOT_SAVED_REASON
            )
            return
        try:
            result.counts.removed += self.server.remove_polygons(ids, self.options.tags)
        except HttpError as error:
            if error.status == LOGGED_OUT_STATUS:
                raise
            self.reporter.warn(messages.RESULTS_NOT_REMOVED, location=location, reason=error)

    def connect(self, location: Location, ids: Sequence[str], connect_to: Mapping) -> None:
        """Connect new annotations. Only warn if it fails, as the annotations exist."""
        try:
            self.server.connect(connect_to, ids)
        except HttpError as error:
            if error.status == LOGGED_OUT_STATUS:
                raise
            self.reporter.warn(messages.CONNECTIONS_LOST, location=location, reason=error)


class NewAnnotations:
    """The annotations that this job creates.

    Other users and other jobs may create annotations at the same time.

    Parameters
    ----------
    server : Server
    tags : sequence of str
        All new annotations have these tags.
    """

    def __init__(self, server: Server, tags: Sequence[str]):
        self.server = server
        self.tags = list(tags)
        self.cursor = server.newest_annotation_id()  # this job created no annotation up to this id
        self.created: list[list[str]] = []  # ids after the cursor, per frame

    def begin_frame(self) -> None:
        """Begin another frame. A search for lost annotations then starts at a later id.

        It starts one frame earlier than necessary, because ids of the same second need not ascend.
        """
        if len(self.created) == 2:
            self.cursor = max([self.cursor, *self.created.pop(0)])
        self.created.append([])

    def send(self, annotations: Sequence[Mapping]) -> tuple[list[str | None], list[HttpError]]:
        """Create annotations with one request. If it is refused, halve it to find the bad ones.

        Returns
        -------
        ids : list of str or None
            In the order of the annotations. None for an annotation that the server refuses.
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
        """Create all annotations of a batch or none.

        If no answer comes, look for the batch on the server. Send it again only if it is not there.

        Returns
        -------
        list of str or None
            Ids in the order of the batch.

        Raises
        ------
        girder_client.HttpError
            The server refuses the batch, or no answer came to MAX_REQUESTS_PER_BATCH requests.
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
        """Look for a batch that may have arrived. Return the ids, None for missing annotations."""
        found: list[str | None] = [None] * len(batch)
        for pause in RETRY_PAUSES_SECONDS:
            self.server.sleep(pause)
            for number, annotation_id in self.match(batch):
                found[number] = annotation_id
            if any(found):
                break
        return found

    def match(self, batch: Sequence[Mapping]) -> Iterator[tuple[int, str]]:
        """Find annotations on the server that equal those of a batch, each once.

        Yields
        ------
        number : int
            Number of the annotation in the batch, from 0.
        annotation_id : str
        """
        own_ids = {annotation_id for frame in self.created for annotation_id in frame}
        numbers: dict[tuple, list[int]] = {}
        for number, annotation in enumerate(batch):
            numbers.setdefault(content_of(annotation), []).append(number)
        for annotation in self.server.list_polygons(self.tags, self.cursor):
            waiting = numbers.get(content_of(annotation))
            if waiting and annotation['_id'] not in own_ids:
                yield waiting.pop(0), annotation['_id']


def content_of(annotation: Mapping) -> tuple:
    """Return location, channel, tags and outline of an annotation, to compare it with others."""
    location = annotation['location']
    indices = tuple(location.get(axis) for axis in ('XY', 'Z', 'Time'))
    outline = tuple((point['x'], point['y']) for point in annotation['coordinates'])
    return indices, annotation['channel'], tuple(sorted(annotation['tags'])), outline
