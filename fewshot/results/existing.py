"""The outlines on the server that are not to be found again."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from fewshot.errors import UnusablePolygonError
from fewshot.geometry import Location
from fewshot.polygons import location_of, read_points
from fewshot.results.scores import find_property
from fewshot.server import Server, id_of

Outlines = dict[Location, list[np.ndarray]]


def list_existing(
    server: Server,
    locations: Collection[Location],
    output_tags: Sequence[str],
    training_tags: Sequence[str],
) -> Outlines:
    """Return the outlines that count as found already, by location.

    They have an output tag or a training tag. If the tool has no output tags, outlines without tags count that have a
    score of an earlier run.

    Returns
    -------
    dict
        {location: [(N, 2) float ndarray, x and y]}
    """
    tags = sorted({*output_tags, *training_tags})
    tagged = (annotation for tag in tags for annotation in server.list_polygons([tag]))
    outlines = group_outlines(tagged, locations)
    if output_tags:
        return outlines
    property_id = find_property(server)
    if property_id is None:
        return outlines
    scored_ids = server.list_scored(property_id)
    untagged = (
        one for one in server.list_polygons([]) if id_of(one) in scored_ids and not one.get('tags')
    )
    for location, found in group_outlines(untagged, locations).items():
        outlines.setdefault(location, []).extend(found)
    return outlines


def group_outlines(annotations: Iterable[Any], locations: Collection[Location]) -> Outlines:
    """Return the outlines of the annotations at these locations. Those that cannot be read are ignored."""
    wanted = set(locations)
    outlines: Outlines = {}
    for annotation in annotations:
        try:
            location = location_of(annotation)
            if location in wanted:
                outlines.setdefault(location, []).append(read_points(annotation))
        except UnusablePolygonError:
            continue  # no object can be a duplicate of it
    return outlines
