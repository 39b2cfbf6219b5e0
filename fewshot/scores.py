"""The scores of what was found, as values of a property in the dataset: the user sorts and filters by them."""
from collections.abc import Mapping, Sequence
from typing import Any

NAME = 'SAM few-shot'
IMAGE = 'properties/none:latest'  # of a property that no worker computes
BATCH_SIZE = 10_000  # annotations a request, at most


def find_property(store: Any, datasetId: str) -> str:
    """The id of the scores' property, made where it does not exist, and shown in all configurations of the dataset.

    Parameters
    ----------
    store : annotation_client.annotations.UPennContrastAnnotationClient

    Raises girder_client.HttpError, with status 403 where the user may not make or show properties.
    """
    known = [one['_id'] for one in store.client.get('annotation_property')
             if (one.get('name'), one.get('shape'), one.get('image')) == (NAME, 'polygon', IMAGE)]
    propertyId = known[0] if known else store.createNewProperty({
        'name': NAME, 'shape': 'polygon', 'image': IMAGE, 'tags': {'tags': [], 'exclusive': False},
        'workerInterface': {}})['_id']
    views = store.client.get('dataset_view', parameters={'datasetId': datasetId})
    for configurationId in sorted({view['configurationId'] for view in views}):
        meta = store.client.get(f'upenn_collection/{configurationId}').get('meta') or {}
        shown = meta.get('propertyIds') or []
        if propertyId not in shown:
            store.client.put(f'upenn_collection/{configurationId}/metadata',
                             json={'propertyIds': [*shown, propertyId]})
    return propertyId


def save_scores(store: Any, datasetId: str, propertyId: str, annotationIds: Sequence[str],
                scores: Sequence[Mapping[str, float]]) -> None:
    """Store the scores of annotations, each {name: number}, in their order."""
    entries = [{'datasetId': datasetId, 'annotationId': annotationId, 'values': {propertyId: dict(values)}}
               for annotationId, values in zip(annotationIds, scores, strict=True)]
    for start in range(0, len(entries), BATCH_SIZE):
        store.addMultipleAnnotationPropertyValues(entries[start:start + BATCH_SIZE])
