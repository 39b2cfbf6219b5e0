"""The property that holds the scores of found objects. The user sorts and filters by it."""

import logging
from collections.abc import Iterable, Mapping, Sequence

from girder_client import HttpError

from fewshot.matching.duplicates import CLOSEST_EXAMPLES, PREDICTED_IOU, SIMILARITY
from fewshot.server import FORBIDDEN_STATUS, WRITE, Server

NAME = 'SAM few-shot'
IMAGE = 'properties/none:latest'  # for a property that no worker computes

log = logging.getLogger('sam_fewshot')


class ScoresNotSavedError(RuntimeError):
    """There is no property for the scores. The text is the reason and what to do."""


def prepare_property(server: Server) -> str:
    """Return the id of the scores' property. Create it if no configuration of the dataset names it.

    The server shows a property only to users who can read a configuration that names it. So the
    property is looked up in the configurations of this dataset, and created only if the user can
    change one of them.

    Raises
    ------
    ScoresNotSavedError
        The property does not exist and no configuration can name a new one.
    girder_client.HttpError
        A request failed, and not because of missing rights.
    """
    configurations = read_configurations(server)
    writable = [one for one in configurations if one.get('_accessLevel', WRITE) >= WRITE]
    property_id = look_up_property(server, configurations)
    if property_id is not None:
        name_property(server, property_id, writable)
        return property_id
    if not configurations:
        raise ScoresNotSavedError(
            'The dataset has no view that you can open. Ask its owner to share the view with you.'
        )
    if not writable:
        raise ScoresNotSavedError(
            'The dataset cannot list a new property, because you cannot change any of its '
            'configurations. Ask its owner to run this tool once.'
        )
    property_id = server.create_property(NAME, IMAGE)
    if not name_property(server, property_id, writable):
        raise ScoresNotSavedError(
            'The server refused to change the configurations of the dataset. Press Log for its '
            'answer.'
        )
    return property_id


def save_example_scores(
    server: Server,
    property_id: str,
    ids: Sequence[str],
    similarities: Sequence[float],
    closest: Sequence[float],
) -> None:
    """Save scores of the examples too, because the page counts polygons without a value.

    The server keeps the first value of an annotation. So an example keeps the scores of the first
    run that used it, and so does an object of an earlier run. A failure is only logged, because
    the objects do not depend on it.

    Parameters
    ----------
    server : Server
    property_id : str
    ids : sequence of str
        Of the examples' annotations.
    similarities : sequence of float
        Of each example to the prototype of the others. Empty for a single example, for which
        nothing is saved.
    closest : sequence of float
        Of each example, the mean cosine to the closest others.
    """
    if not similarities:
        return
    rows = zip(ids, similarities, closest, strict=True)
    scores = {id: {SIMILARITY: one, CLOSEST_EXAMPLES: close} for id, one, close in rows if id}
    try:
        server.save_scores(property_id, scores)
    except HttpError as error:
        log.warning('the scores of the examples are not saved: %s', error)


def find_property(server: Server) -> str | None:
    """Return the id of the scores' property. None if no readable configuration names it."""
    return look_up_property(server, read_configurations(server))


def list_made(server: Server) -> set[str]:
    """Return the ids of the annotations that this worker made, in this run or an earlier one.

    They are those with a predicted IoU. Examples can have the other scores, but no predicted IoU.
    """
    property_id = find_property(server)
    return set() if property_id is None else server.list_scored(property_id, PREDICTED_IOU)


def read_configurations(server: Server) -> list[Mapping]:
    """Return the configurations of the dataset that this user can read."""
    named = {view.get('configurationId') for view in server.list_views()}
    configurations = []
    for configuration_id in sorted(one for one in named if isinstance(one, str)):
        try:
            configurations.append(server.read_configuration(configuration_id))
        except HttpError as error:
            if error.status != FORBIDDEN_STATUS:
                raise
            log.info('configuration %s cannot be read: %s', configuration_id, error)
    return configurations


def look_up_property(server: Server, configurations: Iterable[Mapping]) -> str | None:
    """Return the id of the scores' property. None if none of these configurations names it."""
    named_ids = [property_id for one in configurations for property_id in list_named(one)]
    if not named_ids:
        return None
    properties = {one['_id']: one for one in server.list_properties()}
    for property_id in named_ids:
        found = properties.get(property_id, {})
        if (found.get('name'), found.get('shape'), found.get('image')) == (NAME, 'polygon', IMAGE):
            return property_id
    return None


def name_property(server: Server, property_id: str, configurations: Iterable[Mapping]) -> bool:
    """Add a property to the configurations that do not name it.

    Returns
    -------
    bool
        Whether any of the configurations names the property now.
    """
    is_named = False
    for configuration in configurations:
        named_ids = list_named(configuration)
        try:
            if property_id not in named_ids:
                server.name_properties(configuration['_id'], [*named_ids, property_id])
            is_named = True
        except HttpError as error:
            if error.status != FORBIDDEN_STATUS:
                raise
            log.warning(
                'the configuration %s does not list the scores: %s', configuration['_id'], error
            )
    return is_named


def list_named(configuration: Mapping) -> list[str]:
    """Return the ids of the properties that a configuration names."""
    return (configuration.get('meta') or {}).get('propertyIds') or []
