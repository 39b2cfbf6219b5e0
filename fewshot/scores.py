"""The scores of found objects, stored as values of a property: the user sorts and filters by them."""
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

from girder_client import HttpError

from fewshot.retry import repeat

log = logging.getLogger('sam_fewshot')

NAME = 'SAM few-shot'
IMAGE = 'properties/none:latest'  # of a property that no worker computes
BATCH_SIZE = 10_000  # annotations per request, at most
FORBIDDEN = 403
MAY_WRITE = 1  # access level from which on a user may change something


class ScoresNotSavedError(RuntimeError):
    """The scores have no property to go to. The text is the reason and what to do, for the user."""


def prepare_property(store: Any, datasetId: str) -> str:
    """Return the id of the scores' property. Create it where no configuration of the dataset names it.

    The server shows a property only to users who can read a configuration that names it. So the property is
    looked up in the configurations of this dataset, and created only if one of them can name it.

    Parameters
    ----------
    store : annotation_client.annotations.UPennContrastAnnotationClient

    Raises
    ------
    ScoresNotSavedError
        The property does not exist and no configuration can name a new one.
    girder_client.HttpError
        A request failed for another reason than missing rights.
    """
    configurations = read_configurations(store, datasetId)
    writable = [one for one in configurations if one.get('_accessLevel', MAY_WRITE) >= MAY_WRITE]
    propertyId = look_up_property(store, configurations)
    if propertyId is not None:
        name_property(store, propertyId, writable)
        return propertyId
    if not configurations:
        raise ScoresNotSavedError(
            'The dataset has no view that you can open. Ask its owner to share the view with you.')
    if not writable:
        raise ScoresNotSavedError(
            'You cannot change any configuration of the dataset, so it cannot list a new property. Ask its owner '
            'for the right to edit, or ask the owner to run this tool once.')
    propertyId = repeat(lambda: store.createNewProperty({
        'name': NAME, 'shape': 'polygon', 'image': IMAGE, 'tags': {'tags': [], 'exclusive': False},
        'workerInterface': {}}))['_id']
    if not name_property(store, propertyId, writable):
        raise ScoresNotSavedError('The server refused to change the configurations of the dataset. The log of the '
                                  'job has its answer.')
    return propertyId


def find_property(store: Any, datasetId: str) -> str | None:
    """Return the id of the scores' property, None where no readable configuration of the dataset names it."""
    return look_up_property(store, read_configurations(store, datasetId))


def read_configurations(store: Any, datasetId: str) -> list[dict]:
    """Return the configurations of a dataset that this user can read."""
    views = store.client.get('dataset_view', parameters={'datasetId': datasetId})
    configurations = []
    for configurationId in sorted({view['configurationId'] for view in views}):
        try:
            configurations.append(store.client.get(f'upenn_collection/{quote(configurationId, safe="")}'))
        except HttpError as error:
            if error.status != FORBIDDEN:
                raise
            log.info('configuration %s cannot be read: %s', configurationId, error)
    return configurations


def look_up_property(store: Any, configurations: Iterable[Mapping]) -> str | None:
    """Return the id of the scores' property among those that the configurations name, None if it is not there."""
    named = [propertyId for one in configurations for propertyId in listed_ids(one)]
    if not named:
        return None
    known = {one['_id']: one for one in store.client.get('annotation_property', parameters={'limit': 0})}
    for propertyId in named:
        found = known.get(propertyId, {})
        if (found.get('name'), found.get('shape'), found.get('image')) == (NAME, 'polygon', IMAGE):
            return propertyId
    return None


def name_property(store: Any, propertyId: str, configurations: Iterable[Mapping]) -> bool:
    """Add a property to the configurations that do not name it. Return whether any of them names it now."""
    is_named = False
    for configuration in configurations:
        named = listed_ids(configuration)
        path = f'upenn_collection/{quote(configuration["_id"], safe="")}/metadata'
        try:
            if propertyId not in named:
                repeat(partial(store.client.put, path, json={'propertyIds': [*named, propertyId]}))
            is_named = True
        except HttpError as error:
            if error.status != FORBIDDEN:
                raise
            log.warning('the configuration %s does not list the scores: %s', configuration['_id'], error)
    return is_named


def listed_ids(configuration: Mapping) -> list[str]:
    """Return the ids of the properties that a configuration names."""
    return (configuration.get('meta') or {}).get('propertyIds') or []


def list_scored(store: Any, datasetId: str, propertyId: str) -> set[str]:
    """Return the ids of the annotations that have scores."""
    entries = store.client.get('annotation_property_values', parameters={'datasetId': datasetId, 'limit': 0})
    return {one['annotationId'] for one in entries if propertyId in one['values']}


def save_scores(store: Any, datasetId: str, propertyId: str, annotationIds: Sequence[str],
                scores: Sequence[Mapping[str, float]]) -> None:
    """Store the scores of annotations, each {name: number}, in their order."""
    entries = [{'datasetId': datasetId, 'annotationId': annotationId, 'values': {propertyId: dict(values)}}
               for annotationId, values in zip(annotationIds, scores, strict=True)]
    for start in range(0, len(entries), BATCH_SIZE):
        store.addMultipleAnnotationPropertyValues(entries[start:start + BATCH_SIZE])
