"""The annotations of a dataset: read, create, remove and connect them, and store properties."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from annotation_client.connection import DEFAULT_PATIENCE, Connection, Patience

PAGE_SIZE = 5_000  # annotations per request: about 16 MB and 3 s at 60 vertices each
MAX_PROPERTY_VALUES_PER_CALL = 10_000  # the server refuses more


class UPennContrastAnnotationClient:
    """The annotations on a server.

    Parameters
    ----------
    apiUrl, token : str
        Address of the REST interface, and a token.
    patience : Patience, optional

    Attributes
    ----------
    client : Connection
        The girder client, for calls that have no method here.
    """

    def __init__(self, apiUrl: str, token: str, *, patience: Patience = DEFAULT_PATIENCE):
        self.client = Connection(apiUrl, token, patience=patience)

    def getAnnotationsByDatasetId(
        self,
        datasetId: str,
        shape: str | None = None,
        tags: Sequence[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        *,
        pageSize: int = PAGE_SIZE,
    ) -> list[dict]:
        """Return the annotations of a dataset, oldest first.

        Parameters
        ----------
        datasetId : str
        shape : str, optional
            Only annotations of this shape.
        tags : sequence of str, optional
            Only annotations with all of these tags.
        limit : int, optional
            Maximum number of annotations. None and 0 mean all.
        offset : int, optional
            Number of annotations to skip at the beginning.
        pageSize : int, optional
            Annotations per request.
        """
        parameters: dict[str, Any] = {'datasetId': datasetId, 'sort': '_id', 'offset': offset}
        if shape:
            parameters['shape'] = shape
        if tags:
            parameters['tags'] = json.dumps(list(tags))
        annotations: list[dict] = []
        while True:
            size = min(pageSize, limit - len(annotations)) if limit else pageSize
            page = self.client.get('upenn_annotation', {**parameters, 'limit': size})
            annotations += page
            if len(page) < size or len(annotations) == limit:
                return annotations
            # The server looks this id up in an index. For an offset it would have to count.
            parameters['afterId'] = page[-1]['_id']

    def createMultipleAnnotations(self, annotations: Sequence[Mapping]) -> list[dict]:
        """Store all annotations or none.

        Returns
        -------
        list of dict
            The stored annotations in the same order, with their `_id`. If there are no
            annotations, no request is sent.
        """
        if not annotations:
            return []
        return self.client.sendRestRequest(
            'POST',
            'upenn_annotation/multiple',
            json=list(annotations),
            datasetId=annotations[0].get('datasetId'),
        )

    def deleteMultipleAnnotations(self, annotationsIds: Sequence[str]) -> None:
        """Remove annotations. If there are no ids, no request is sent."""
        if annotationsIds:
            self.client.sendRestRequest(
                'DELETE', 'upenn_annotation/multiple', json=list(annotationsIds)
            )

    def connectToNearest(self, connectTo: Mapping, annotationsIds: Sequence[str]) -> list[dict]:
        """Connect each annotation to the nearest other one with given tags and channel.

        Parameters
        ----------
        connectTo : Mapping
            The parameter of the job: 'tags', and 'channel'. Any channel if it is None or absent.
        annotationsIds : sequence of str

        Returns
        -------
        list of dict
            The connections. If there are no annotations, no request is sent.
        """
        if not annotationsIds:
            return []
        body = {
            'annotationsIds': list(annotationsIds),
            'tags': connectTo['tags'],
            'channelId': connectTo.get('channel'),
        }
        return self.client.post('annotation_connection/connectTo/', json=body)

    def createNewProperty(self, property: Mapping) -> dict:
        """Store a property and return it with its `_id`.

        Parameters
        ----------
        property : Mapping
            {name, shape, image, tags: {tags, exclusive}, workerInterface}
        """
        return self.client.post('annotation_property', json=property)

    def addMultipleAnnotationPropertyValues(self, entries: Sequence[Mapping]) -> None:
        """Store values of properties. Existing values do not change.

        A call to the server takes MAX_PROPERTY_VALUES_PER_CALL entries and stores all of them or
        none. If a call fails, the entries of the calls before it are stored.

        Parameters
        ----------
        entries : sequence of Mapping
            {datasetId, annotationId, values: {`_id` of the property: {key: number}}}
        """
        for start in range(0, len(entries), MAX_PROPERTY_VALUES_PER_CALL):
            batch = list(entries[start : start + MAX_PROPERTY_VALUES_PER_CALL])
            self.client.sendRestRequest(
                'POST',
                'annotation_property_values/multiple',
                json=batch,
                datasetId=batch[0].get('datasetId'),
            )
