"""The polygons that are on the server already."""
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
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
    """The outlines, (N, 2) as x and y, that carry any of the tags at any of the locations.

    They come page by page, and only what counts is kept. What has no coordinates or no location is passed over.
    """
    from fewshot import polygons
    wanted = set(locations)
    known: dict[Location, list[np.ndarray]] = {}
    for tag in sorted(tags):
        for annotation in page_polygons(store, datasetId, [tag]):
            with suppress(ValueError):  # it is nothing that could be found again
                if (location := polygons.location_of(annotation)) in wanted:
                    known.setdefault(location, []).append(polygons.read_points(annotation))
    return known


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
