"""Every request that the pipeline makes to the annotation server. No other module knows a path.

The client retries reads (`annotation_client.connection`). This module retries a write that got no
answer, if carrying it out twice does no harm.
"""

import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from girder_client import HttpError

from annotation_client import annotations, tiles
from annotation_client.connection import DEFAULT_PATIENCE, RETRY_STATUSES, Patience
from fewshot import messages
from fewshot.settings import show

# The request may have been carried out, or not. None means that no answer came.
LOST_STATUSES = (None, *RETRY_STATUSES)
REFUSED_STATUSES = (400, 413)  # an entry is bad, or the request is too large
FORBIDDEN_STATUS = 403
LOGGED_OUT_STATUS = 401
RETRY_PAUSES_SECONDS = (1, 2, 4)  # the server may still be working on the lost request
PAGE_SIZE = 5_000  # annotations per request
REMOVED_PER_REQUEST = 1_000  # annotations
READ, WRITE = 0, 1  # access levels

Answer = TypeVar('Answer')

log = logging.getLogger('sam_fewshot')


class Server:
    """The annotation server, for one dataset.

    Parameters
    ----------
    api_url, token : str
        Address of the REST interface, and the job's token.
    dataset_id : str
    page_size : int
        Annotations per request.
    sleep : callable
        Waits for a number of seconds before a retry.
    patience : Patience
        How long a request may take.
    """

    def __init__(
        self,
        api_url: str,
        token: str,
        dataset_id: str,
        *,
        page_size: int = PAGE_SIZE,
        sleep: Callable[[float], None] = time.sleep,
        patience: Patience = DEFAULT_PATIENCE,
    ):
        self.api_url, self.token, self.dataset_id = api_url, token, dataset_id
        self.page_size = page_size
        self.sleep = sleep
        self.patience = patience
        self.annotations = annotations.UPennContrastAnnotationClient(
            apiUrl=api_url, token=token, patience=patience
        )
        self.client = self.annotations.client

    def repeat(self, request: Callable[[], Answer]) -> Answer:
        """Send a request that may be carried out twice. Retry if no answer comes.

        Parameters
        ----------
        request : callable
            Sends the request and returns the answer.

        Raises
        ------
        girder_client.HttpError
            The server refused, or no answer came to the last retry.
        """
        for pause in RETRY_PAUSES_SECONDS:
            try:
                return request()
            except HttpError as error:
                if error.status not in LOST_STATUSES:
                    raise
                log.warning('no answer (status %s), retrying', error.status)
                self.sleep(pause)
        return request()

    # The dataset

    def access_level(self) -> int:
        """Return what the user may do with the dataset: READ, WRITE or more."""
        folder = self.client.get(f'folder/{quote(self.dataset_id, safe="")}')
        level = folder.get('_accessLevel') if isinstance(folder, Mapping) else None
        return level if isinstance(level, int) else WRITE

    def open_image(self) -> tiles.UPennContrastDataset:
        """Return the image of the dataset, with its metadata."""
        return tiles.UPennContrastDataset(
            apiUrl=self.api_url, token=self.token, datasetId=self.dataset_id, patience=self.patience
        )

    def list_views(self) -> Any:
        """Return the views of the dataset that the user may see."""
        return self.client.get('dataset_view', parameters={'datasetId': self.dataset_id})

    def read_configuration(self, configuration_id: str) -> Any:
        """Return a configuration: its layers and properties are in `meta`."""
        return self.client.get(f'upenn_collection/{quote(configuration_id, safe="")}')

    # Annotations

    def list_polygons(self, tags: Sequence[str], after: str = '') -> Iterator[Any]:
        """Yield the polygons with all of the tags, oldest first, one page in memory at a time.

        Parameters
        ----------
        tags : sequence of str
            If it is empty, the polygons may have any tags.
        after : str
            Only polygons with a larger id.

        Raises
        ------
        JobError
            The answer is not a page of annotations, or the ids do not ascend.
        """
        while True:
            page = self.read_page(tags, after, self.page_size)
            yield from page
            if len(page) < self.page_size:
                return
            following = id_of(page[-1])
            if following <= after:  # the same page would come again and again
                raise messages.ANNOTATIONS_UNSORTED.error(following=following, last=after)
            after = following

    def read_page(self, tags: Sequence[str], after: str, size: int) -> list[Any]:
        """Return a page of the polygons that `list_polygons` yields."""
        query = {'datasetId': self.dataset_id, 'shape': 'polygon', 'sort': '_id', 'limit': size}
        if tags:
            query['tags'] = json.dumps(list(tags))
        if after:
            query['afterId'] = after
        page = self.client.get('upenn_annotation', parameters=query)
        if not isinstance(page, list):
            raise messages.ANNOTATIONS_UNREADABLE.error(seen=show(page))
        return page

    def find_polygons(self, ids: Collection[str], tags: Sequence[str]) -> Iterator[Mapping]:
        """Yield those of the polygons that exist and have all of the tags.

        Each request begins at the next id. The ids of one upload follow each other, so one or two
        requests are enough for the results of a frame.
        """
        waiting = sorted(ids)
        while waiting:
            size = min(len(waiting), self.page_size)
            page = self.read_page(tags, f'{int(waiting[0], 16) - 1:024x}', size)
            yield from (one for one in page if id_of(one) in ids)
            if len(page) < size:
                return
            waiting = [one for one in waiting[1:] if one > id_of(page[-1])]

    def list_polygons_with_any(self, tags: Sequence[str]) -> list[Mapping]:
        """Return the polygons with any of the tags, each once."""
        found: dict[str | int, Mapping] = {}
        for tag in tags:
            for annotation in self.list_polygons([tag]):
                found[id_of(annotation) or len(found)] = annotation
        return list(found.values())

    def newest_annotation_id(self) -> str:
        """Return the id of the newest annotation. '' if there are no annotations."""
        page = self.client.get(
            'upenn_annotation',
            parameters={'datasetId': self.dataset_id, 'sort': '_id', 'sortdir': -1, 'limit': 1},
        )
        return id_of(page[0]) if page else ''

    def create_annotations(self, batch: Sequence[Mapping]) -> list[str]:
        """Create all annotations or none. Return their ids in order.

        Not retried, because a lost request may have been carried out. A retry would then create
        duplicates.
        """
        return [one['_id'] for one in self.annotations.createMultipleAnnotations(batch)]

    def remove_polygons(self, ids: Collection[str], tags: Sequence[str]) -> int:
        """Remove those of the polygons that have exactly these tags now. Return their number.

        Other users may have changed or removed some of them since they were listed.
        """
        removed: set[str] = set()

        def remove() -> None:
            # A retry looks again, so that it asks for nothing that is gone.
            found = [id_of(one) for one in self.find_polygons(ids, tags) if has_exactly(one, tags)]
            removed.update(found)
            for start in range(0, len(found), REMOVED_PER_REQUEST):
                self.annotations.deleteMultipleAnnotations(
                    found[start : start + REMOVED_PER_REQUEST]
                )

        self.repeat(remove)
        return len(removed)

    def connect(self, connect_to: Mapping, annotation_ids: Sequence[str]) -> None:
        """Connect annotations to the nearest ones that `connect_to` describes.

        Not retried, because a retry could create the connections twice.
        """
        self.annotations.connectToNearest(connect_to, annotation_ids)

    # Scores

    def list_properties(self) -> list[Mapping]:
        """Return the properties that the configurations of this user name."""
        return self.client.get('annotation_property', parameters={'limit': 0})

    def create_property(self, name: str, image: str) -> str:
        """Create a property of polygons and return its id.

        If the answer is lost, the retry creates a second property. The first one stays invisible.
        """
        body = {
            'name': name,
            'shape': 'polygon',
            'image': image,
            'tags': {'tags': [], 'exclusive': False},
            'workerInterface': {},
        }
        return self.repeat(lambda: self.annotations.createNewProperty(body))['_id']

    def name_properties(self, configuration_id: str, property_ids: Sequence[str]) -> None:
        """Replace the list of properties that a configuration names."""
        path = f'upenn_collection/{quote(configuration_id, safe="")}/metadata'
        self.repeat(lambda: self.client.put(path, json={'propertyIds': list(property_ids)}))

    def list_scored(self, property_id: str, score: str) -> set[str]:
        """Return the ids of the annotations whose value of the property has this score."""
        entries = self.client.get(
            'annotation_property_values', parameters={'datasetId': self.dataset_id, 'limit': 0}
        )
        values = {one['annotationId']: one['values'].get(property_id) for one in entries}
        return {id for id, value in values.items() if isinstance(value, Mapping) and score in value}

    def save_scores(self, property_id: str, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Store values of a property. Existing values stay unchanged.

        Parameters
        ----------
        property_id : str
        scores : Mapping
            {annotation id: {name: number}}
        """
        entries = [
            {
                'datasetId': self.dataset_id,
                'annotationId': annotation_id,
                'values': {property_id: dict(values)},
            }
            for annotation_id, values in scores.items()
        ]
        self.repeat(lambda: self.annotations.addMultipleAnnotationPropertyValues(entries))

    # Jobs

    def start_job(self, params: Mapping[str, Any]) -> None:
        """Start another job with these parameters on the same dataset."""
        self.client.post(
            'upenn_annotation/compute', parameters={'datasetId': self.dataset_id}, json=params
        )


def id_of(annotation: Any) -> str:
    """Return the id that the server gave to an annotation. '' if it has no id."""
    found = annotation.get('_id') if isinstance(annotation, Mapping) else None
    return found if isinstance(found, str) else ''


def has_exactly(annotation: Any, tags: Sequence[str]) -> bool:
    """Return whether an annotation has these tags and no other."""
    return set(annotation.get('tags') or ()) == set(tags)
