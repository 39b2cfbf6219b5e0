"""New annotations on their way to the server: each once, whatever becomes of a request or its answer."""
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from girder_client import HttpError

from fewshot import retry
from fewshot.duplicates import Found, find_doubles, find_known
from fewshot.job import Job
from fewshot.outcomes import LOGGED_OUT
from fewshot.parameters import Location, Parameters
from fewshot.polygons import make_annotation, trace_mask
from fewshot.scores import save_scores
from fewshot.stored import id_of, page_polygons

REFUSED = (400, 413)  # statuses for a batch that one bad entry spoils, or that is too large
UPLOAD_SIZE = 1_000  # annotations a request
ROUNDS = 5  # requests for one batch, at most
MOST_REFUSED = 10  # annotations of one call; beyond that the fault is not theirs

log = logging.getLogger('sam_fewshot')


def upload_frame(uploads: 'Uploads', location: Location, found: Sequence[Found], known: Sequence[np.ndarray],
                 propertyId: str | None, parameters: Parameters, job: Job) -> int:
    """Outline what was found at a location and send what is new, with its scores and connections; how many that was.

    Parameters
    ----------
    known : outlines at the location that are on the server, (N, 2) each, x and y
    propertyId : of the scores, None where they are not to be saved
    """
    double = find_doubles(found, across_tiles_only=not parameters.skip_duplicates)
    single = [one for one, again in zip(found, double, strict=True) if not again]
    outlines = [trace_mask(one.candidate.box, one.candidate.mask, parameters.smoothing) for one in single]
    is_known = find_known(outlines, known)
    fresh = [(one, outline) for one, outline, again in zip(single, outlines, is_known, strict=True) if not again]
    job.tally.doubles += len(found) - len(single)
    job.tally.known += len(single) - len(fresh)
    uploads.begin_frame()
    sent = 0
    for start in range(0, len(fresh), UPLOAD_SIZE):
        batch = fresh[start:start + UPLOAD_SIZE]
        ids, refusals = uploads.send([
            make_annotation(outline, location, parameters.tags, parameters.channel, uploads.datasetId)
            for _, outline in batch])
        made = {id: one for id, (one, _) in zip(ids, batch, strict=True) if id}
        sent += len(made)
        job.tally.note_uploaded([one.similarity for one in made.values()])
        for error in refusals:
            job.page.warn(f'The server refused an object at {location}', 'Object left out', f'{error}')
        for message, error in uploads.complete(
                {id: one.scores for id, one in made.items()}, propertyId, parameters.connect_to):
            job.page.warn(f'{message} at {location}', 'Outlines alone', f'{error} The outlines are there.')
    job.tally.frames += 1
    job.outcomes.note_done(location)
    return sent


class Uploads:
    """The new annotations of a job. All carry the same tags; the server has others from before and from other users."""

    def __init__(self, store: Any, datasetId: str, tags: Sequence[str]):
        """Remember how far the dataset is filled. `store` is an UPennContrastAnnotationClient."""
        self.store, self.datasetId, self.tags = store, datasetId, list(tags)
        self.cursor = find_newest(store, datasetId)  # nothing up to this id has been made by this object
        self.made: list[list[str]] = []  # ids made since, by frame

    def begin_frame(self) -> None:
        """Say that what follows belongs to another frame: then a search for lost annotations begins later.

        It begins a frame before this one, for ids that the server gives within the same second need not ascend.
        """
        if len(self.made) == 2:
            self.cursor = max([self.cursor, *self.made.pop(0)])
        self.made.append([])

    def send(self, annotations: Sequence[Mapping]) -> tuple[list[str | None], list[HttpError]]:
        """Store annotations in one request; if the server refuses it, it is halved until what it refuses is alone.

        Returns
        -------
        ids : in their order, None for one that the server refuses
        refusals : what it said to each of those

        Raises HttpError when the server cannot be reached, or refuses more than MOST_REFUSED of them.
        """
        ids: list[str | None] = []
        refusals: list[HttpError] = []
        waiting = [list(annotations)] if annotations else []
        while waiting:
            batch = waiting.pop(0)
            try:
                ids += self.post(batch)
            except HttpError as error:
                if error.status not in REFUSED or len(refusals) == MOST_REFUSED:
                    raise
                if len(batch) > 1:
                    middle = len(batch) // 2
                    waiting[:0] = [batch[:middle], batch[middle:]]
                else:
                    ids.append(None)
                    refusals.append(error)
        return ids, refusals

    def complete(self, scores: Mapping[str, Mapping[str, float]], propertyId: str | None,
                 connect_to: Mapping | None) -> list[tuple[str, HttpError]]:
        """Save the scores of annotations, {id: {name: number}}, and connect them, where there is a property, or a wish.

        Returns what failed, in words, and how: the annotations are there without it. Raises HttpError with status 401.
        """
        failed = []
        steps: list[tuple[str, Callable[[], Any]]] = []
        if propertyId:
            steps.append(('Scores were not saved', lambda: retry.repeat(lambda: save_scores(
                self.store, self.datasetId, propertyId, list(scores), list(scores.values())))))
        if connect_to:  # not repeated: what has been carried out would be there twice
            steps.append(('Objects were not connected', lambda: self.store.connectToNearest(connect_to, list(scores))))
        for message, step in steps if scores else []:
            try:
                step()
            except HttpError as error:
                if error.status == LOGGED_OUT:
                    raise
                failed.append((message, error))
        return failed

    def post(self, batch: list[Mapping]) -> list[str | None]:
        """Store all of a batch or nothing; their ids in order. Raises HttpError.

        When no answer comes, the batch is looked for on the server and sent again only if it is not there.
        """
        for remaining in reversed(range(ROUNDS)):
            try:
                made: list[str | None] = [one['_id'] for one in self.store.createMultipleAnnotations(batch)]
            except HttpError as error:
                if error.status not in retry.LOST_STATUSES:
                    raise
                log.warning('no answer to %d annotations (status %s), looking for them', len(batch), error.status)
                made = self.look_for(batch)
                if not any(made):
                    if not remaining:
                        raise
                    continue
            self.made[-1] += [one for one in made if one]
            return made
        raise AssertionError('not reached: the last round returns or raises')

    def look_for(self, batch: list[Mapping]) -> list[str | None]:
        """The ids of a batch that may have arrived, None for what is not there."""
        own = {one for frame in self.made for one in frame}
        for pause in retry.PAUSES_SECONDS:
            time.sleep(pause)
            wanted: dict[Any, list[int]] = {}
            for number, annotation in enumerate(batch):
                wanted.setdefault(content_of(annotation), []).append(number)
            found: list[str | None] = [None] * len(batch)
            for annotation in page_polygons(self.store, self.datasetId, self.tags, self.cursor):
                numbers = wanted.get(content_of(annotation))
                if numbers and annotation['_id'] not in own:
                    found[numbers.pop(0)] = annotation['_id']
            if any(found):
                break
        return found


def find_newest(store: Any, datasetId: str) -> str:
    """Return the id of a dataset's newest annotation, '' when it has none."""
    page = store.client.get('upenn_annotation', parameters={
        'datasetId': datasetId, 'sort': '_id', 'sortdir': -1, 'limit': 1})
    return id_of(page[0]) if page else ''


def content_of(annotation: Mapping) -> tuple:
    """What makes an annotation what it is, as a key: where it lies, its outline and its tags."""
    place = annotation['location']
    return (place['XY'], place['Z'], place['Time'], annotation['channel'], tuple(sorted(annotation['tags'])),
            tuple((point['x'], point['y']) for point in annotation['coordinates']))
