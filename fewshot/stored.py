"""The polygons that are on the server already."""
import json
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fewshot.parameters import Location

if TYPE_CHECKING:
    import numpy as np

PAGE_SIZE = 5_000  # annotations a request


def fetch_polygons(store: Any, datasetId: str, tags: Sequence[str]) -> list[dict]:
    """The polygons that carry any of the tags, each once."""
    found = {}
    for tag in tags:
        for annotation in store.getAnnotationsByDatasetId(datasetId, shape='polygon', tags=[tag]):
            found[annotation['_id']] = annotation
    return list(found.values())


def list_outlines(store: Any, datasetId: str, locations: Collection[Location],
                  tags: Collection[str]) -> 'dict[Location, list[np.ndarray]]':
    """The outlines, (N, 2) as x and y, that carry any of the tags at any of the locations.

    They come page by page, and only what counts is kept.
    """
    from fewshot import polygons
    wanted = set(locations)
    known: dict[Location, list[np.ndarray]] = {}
    for tag in sorted(tags):
        for annotation in page_polygons(store, datasetId, tag):
            if (location := polygons.location_of(annotation)) in wanted:
                known.setdefault(location, []).append(polygons.read_points(annotation))
    return known


def page_polygons(store: Any, datasetId: str, tag: str) -> Iterator[dict]:
    """The polygons with a tag, oldest first, no more than a page of them in memory."""
    asked = {'datasetId': datasetId, 'shape': 'polygon', 'tags': json.dumps([tag]), 'sort': '_id', 'limit': PAGE_SIZE}
    page = store.client.get('upenn_annotation', parameters=asked)
    while page:
        yield from page
        page = len(page) == PAGE_SIZE and store.client.get(
            'upenn_annotation', parameters={**asked, 'afterId': page[-1]['_id']})
