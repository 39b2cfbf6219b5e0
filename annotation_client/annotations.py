"""The annotations of a dataset: read, create, connect, and say what was measured of them."""
import json
from collections.abc import Mapping, Sequence
from typing import Any

from annotation_client.connection import Connection

PAGE_SIZE = 5000  # annotations a request; with 60 vertices each about 16 MB and 3 s
PROPERTY_VALUES_A_CALL = 10_000  # the server refuses more


class UPennContrastAnnotationClient:
    """The annotations on a server. `client` is the girder client, for calls that have no method here."""

    def __init__(self, apiUrl: str, token: str):
        self.client = Connection(apiUrl, token)

    def getAnnotationsByDatasetId(
        self,
        datasetId: str,
        shape: str | None = None,
        tags: Sequence[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[dict]:
        """The annotations of a dataset, oldest first; of one shape, or with all of some tags, if these are given.

        The first `offset` of them are left out. `limit` is the most that come; None or 0: all, page by page.
        """
        parameters: dict[str, Any] = {'datasetId': datasetId, 'sort': '_id', 'offset': offset}
        if shape:
            parameters['shape'] = shape
        if tags:
            parameters['tags'] = json.dumps(list(tags))
        annotations: list[dict] = []
        while True:
            size = min(PAGE_SIZE, limit - len(annotations)) if limit else PAGE_SIZE
            page = self.client.get('upenn_annotation', {**parameters, 'limit': size})
            annotations += page
            if len(page) < size or len(annotations) == limit:
                return annotations
            # the server finds a cursor in its index, where it would count its way to an offset
            parameters['afterId'] = page[-1]['_id']

    def createMultipleAnnotations(self, annotations: Sequence[Mapping]) -> list[dict]:
        """Store annotations, all or none; the stored ones in the same order, with their `_id`. [] asks nothing."""
        if not annotations:
            return []
        datasetId = annotations[0].get('datasetId')
        return self.client.sendRestRequest(
            'POST', 'upenn_annotation/multiple', json=list(annotations), datasetId=datasetId)

    def connectToNearest(self, connectTo: Mapping, annotationsIds: Sequence[str]) -> list[dict]:
        """Connect each annotation to the nearest one that `connectTo` describes; the connections. [] asks nothing.

        `connectTo` is that of the job's parameters: 'tags', and 'channel' (None or absent: any).
        """
        if not annotationsIds:
            return []
        tags, channel = connectTo['tags'], connectTo.get('channel')
        body = {'annotationsIds': list(annotationsIds), 'tags': tags, 'channelId': channel}
        return self.client.post('annotation_connection/connectTo/', json=body)

    def createNewProperty(self, property: Mapping) -> dict:
        """Store a property, {name, shape, image, tags: {tags, exclusive}, workerInterface}; the same with its `_id`."""
        return self.client.post('annotation_property', json=property)

    def addMultipleAnnotationPropertyValues(self, entries: Sequence[Mapping]) -> None:
        """Store values, {datasetId, annotationId, values: {property's `_id`: {key: number}}}. [] asks nothing.

        What an annotation has of a property already stays. Entries go in calls of at most PROPERTY_VALUES_A_CALL, each
        stored as a whole or not at all; those before a call that fails remain.
        """
        for start in range(0, len(entries), PROPERTY_VALUES_A_CALL):
            batch = list(entries[start:start + PROPERTY_VALUES_A_CALL])
            self.client.sendRestRequest(
                'POST', 'annotation_property_values/multiple', json=batch, datasetId=batch[0].get('datasetId'))
