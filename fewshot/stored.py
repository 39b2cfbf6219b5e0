"""The polygons that are on the server already."""
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fewshot.parameters import Location, refuse

if TYPE_CHECKING:
    import numpy as np

PAGE_SIZE = 5_000  # annotations a request
SERVER_HINT = 'Ask who runs the server.'


def fetch_polygons(store: Any, datasetId: str, tags: Sequence[str]) -> list[dict]:
    """The polygons that carry any of the tags, each once."""
    found: dict[str | int, dict] = {}
    for tag in tags:
        for annotation in page_polygons(store, datasetId, [tag]):
            found[id_of(annotation) or len(found)] = annotation
    return list(found.values())


def id_of(annotation: Any) -> str:
    """The id that the server gave an annotation; empty where it has none."""
    found = annotation.get('_id') if isinstance(annotation, Mapping) else None
    return found if isinstance(found, str) else ''


def list_outlines(store: Any, datasetId: str, locations: Collection[Location],
                  tags: Collection[str]) -> 'dict[Location, list[np.ndarray]]':
    """Return the outlines, (N, 2) as x and y, that have any of the tags at any of the locations.

    They come page by page, and only what counts is kept. Annotations without coordinates or location are ignored.
    """
    tagged = (annotation for tag in sorted(tags) for annotation in page_polygons(store, datasetId, [tag]))
    return group_outlines(tagged, locations)


def list_untagged_outlines(store: Any, datasetId: str, locations: Collection[Location],
                           ids: Collection[str]) -> 'dict[Location, list[np.ndarray]]':
    """Return the outlines, as by `list_outlines`, that have no tag and one of the ids."""
    untagged = (annotation for annotation in page_polygons(store, datasetId, [])
                if id_of(annotation) in ids and not annotation.get('tags'))
    return group_outlines(untagged, locations)


def group_outlines(annotations: Iterable[Any],
                   locations: Collection[Location]) -> 'dict[Location, list[np.ndarray]]':
    """Return the outlines, (N, 2) as x and y, of the annotations at these locations, by location."""
    from fewshot import polygons
    wanted = set(locations)
    outlines: dict[Location, list[np.ndarray]] = {}
    for annotation in annotations:
        with suppress(ValueError):  # it is no outline, so no object can be a duplicate of it
            location = polygons.location_of(annotation)
            if location in wanted:
                outlines.setdefault(location, []).append(polygons.read_points(annotation))
    return outlines


def page_polygons(store: Any, datasetId: str, tags: Sequence[str], after: str = '') -> Iterator[Any]:
    """The polygons with all of the tags, oldest first, from the one after an id on, a page of them in memory at most.

    Raises ValueError for an answer that is no page, or not the next one.
    """
    asked = {'datasetId': datasetId, 'shape': 'polygon', 'sort': '_id', 'limit': PAGE_SIZE,
             **({'tags': json.dumps(list(tags))} if tags else {})}
    while True:
        page = store.client.get('upenn_annotation', parameters={**asked, 'afterId': after} if after else asked)
        if not isinstance(page, list):
            raise refuse('The annotations of the dataset did not come as a list', page, SERVER_HINT)
        yield from page
        if len(page) < PAGE_SIZE:
            return
        if (following := id_of(page[-1])) <= after:  # or the same page would come for ever
            raise refuse('The annotations of the dataset do not come in the order of their ids',
                         f'{following} after {after}', SERVER_HINT)
        after = following
