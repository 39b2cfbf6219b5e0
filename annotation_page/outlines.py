"""Outlines with their scores, and changes of outlines that can be undone."""

from collections.abc import Mapping, Sequence, Set
from typing import Any

from annotation_server.store import Store
from fewshot.geometry import Location
from fewshot.matching.duplicates import CLOSEST_EXAMPLES, SIMILARITY

SCORES = (SIMILARITY, CLOSEST_EXAMPLES)  # that the slider can filter by
EXAMPLE, COUNTER_EXAMPLE = 'example', 'not this'
COLOURS = {EXAMPLE: '#ffd60a', COUNTER_EXAMPLE: '#c08cff'}
# For other tags, in turn.
MORE_COLOURS = ('#5cc8ff', '#ff7eb6', '#b4e33d', '#ffa94d', '#8ab4f8', '#e6e6e6')


def choose_colours(tags: Sequence[str]) -> dict[str, str]:
    """Return {tag: colour}. Examples and counter-examples have their own colours."""
    others = [tag for tag in tags if tag not in COLOURS]
    turn = {tag: MORE_COLOURS[i % len(MORE_COLOURS)] for i, tag in enumerate(others)}
    return {**COLOURS, **turn}


def as_location(location: Location) -> dict[str, int]:
    """Return a location in the form of the server."""
    return {'XY': location.xy, 'Z': location.z, 'Time': location.time}


def read_scores(store: Store, dataset_id: str) -> dict[str, dict[str, float]]:
    """Return {annotation id: {name of the score: number}} of a dataset.

    The name of a property whose value is one number is that of the property.
    """
    names = {one['_id']: one['name'] for one in store.properties()}
    scores: dict[str, dict[str, float]] = {}
    for record in store.property_values(dataset_id):
        found = scores.setdefault(record['annotationId'], {})
        for property_id, value in record['values'].items():
            values = value if isinstance(value, dict) else {names.get(property_id, 'Score'): value}
            found |= {
                name: number for name, number in values.items() if isinstance(number, int | float)
            }
    return scores


def is_result(annotation: Mapping[str, Any], scores: Mapping[str, float], roles: Set[str]) -> bool:
    """Return whether an outline is a result of the worker, and not an example or counter-example.

    Parameters
    ----------
    annotation : dict
    scores : dict
        {name of the score: number}. Examples have scores, too.
    roles : set of str
        The tags of examples and counter-examples.
    """
    return SIMILARITY in scores and not roles & set(annotation['tags'])


def describe_outlines(
    annotations: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Mapping[str, float]],
    roles: Set[str],
) -> list[dict[str, Any]]:
    """Return outlines in the form in which the viewer draws them."""
    described = []
    for annotation in annotations:
        own_scores = scores.get(annotation['_id'], {})
        described.append(
            {
                'id': annotation['_id'],
                'points': [[point['x'], point['y']] for point in annotation['coordinates']],
                'tags': annotation['tags'],
                'scores': own_scores,
                'isResult': is_result(annotation, own_scores, roles),
            }
        )
    return described


class Edits:
    """Changes that a user makes to the outlines of a dataset, and the way back.

    Parameters
    ----------
    store : Store
    dataset_id : str
    """

    def __init__(self, store: Store, dataset_id: str) -> None:
        self._store = store
        self._dataset_id = dataset_id
        self._undo: list[tuple[str, list[dict[str, Any]]]] = []

    def add(self, points: Sequence[Sequence[float]], tag: str, location: Location) -> None:
        """Save a new outline with a tag."""
        annotation = {
            'datasetId': self._dataset_id,
            'shape': 'polygon',
            'tags': [tag],
            'channel': 0,
            'location': as_location(location),
            'coordinates': [{'x': float(x), 'y': float(y)} for x, y in points],
        }
        (new_id,) = self._store.add_annotations([annotation])
        self._undo.append(('remove', [{'_id': new_id}]))

    def remove(self, ids: Sequence[str]) -> None:
        """Remove outlines. Their scores stay, so that an undo brings them back."""
        removed = self._find(ids)
        self._store.remove_annotations([one['_id'] for one in removed])
        self._remember('restore', removed)

    def tag(self, ids: Sequence[str], tag: str) -> None:
        """Replace all tags of outlines with one."""
        changed = [one for one in self._find(ids) if one['tags'] != [tag]]
        self._store.replace_annotations([{**one, 'tags': [tag]} for one in changed])
        self._remember('replace', changed)

    def undo(self) -> bool:
        """Take the last change back. Return whether there was one."""
        if not self._undo:
            return False
        way, annotations = self._undo.pop()
        if way == 'remove':
            self._store.remove_annotations([one['_id'] for one in annotations])
        elif way == 'restore':
            self._store.restore_annotations(annotations)
        else:
            self._store.replace_annotations(annotations)
        return True

    def _find(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        found = self._store.annotations_by_id(ids)
        return [one for one in found if one['datasetId'] == self._dataset_id]

    def _remember(self, way: str, annotations: list[dict[str, Any]]) -> None:
        if annotations:
            self._undo.append((way, annotations))
