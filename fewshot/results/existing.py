"""The annotations on the server that a job must not add again, and those that it replaces."""

from collections.abc import Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fewshot.errors import UnusablePolygonError
from fewshot.geometry import Location
from fewshot.polygons import location_of, read_points
from fewshot.server import Server, has_exactly, id_of


@dataclass
class Existing:
    """The annotations on the server that a job takes into account, by location.

    Attributes
    ----------
    known : dict of list
        Outlines, (N, 2) float ndarrays, x and y. An object with one of them is not added again.
    earlier : dict of set
        Ids of the results of earlier runs, which are removed when the new outlines are saved.
    has_others : bool
        Whether an outline is known that is not an example of this job.
    """

    known: dict[Location, list[np.ndarray]] = field(default_factory=dict)
    earlier: dict[Location, set[str]] = field(default_factory=dict)
    has_others: bool = False


def is_result(annotation: Any, output_tags: Sequence[str], made_ids: AbstractSet[str]) -> bool:
    """Return whether an annotation is the result of an earlier run with these output tags.

    This worker made it, and it has exactly these tags. An outline is kept by giving it another tag.

    Parameters
    ----------
    annotation : dict
        As the server sends it.
    output_tags : sequence of str
    made_ids : set of str
        From `list_made`.
    """
    return id_of(annotation) in made_ids and has_exactly(annotation, output_tags)


def list_existing(
    server: Server,
    locations: Collection[Location],
    output_tags: Sequence[str],
    training_tags: Sequence[str],
    *,
    example_ids: AbstractSet[str] = frozenset(),
    made_ids: AbstractSet[str] = frozenset(),
    replace: bool = False,
) -> Existing:
    """Return the outlines of objects that were found or tagged before.

    An outline is known if it has an output tag or a training tag. If the tool has no output tags,
    an outline without tags is known too, if this worker made it.

    Parameters
    ----------
    server : Server
    locations : collection of Location
        Outlines at other locations are ignored.
    output_tags, training_tags : sequence of str
    example_ids : set of str
        The examples and counter-examples of this job. They are never replaced.
    made_ids : set of str
        From `list_made`. Needed to replace, and if the tool has no output tags.
    replace : bool
        Whether the results of earlier runs are replaced. They are not known then.
    """
    wanted = set(locations)
    existing = Existing()
    for annotation in list_candidates(server, output_tags, training_tags, made_ids):
        try:
            location = location_of(annotation)
            if location not in wanted:
                continue
            is_example = id_of(annotation) in example_ids
            if replace and not is_example and is_result(annotation, output_tags, made_ids):
                existing.earlier.setdefault(location, set()).add(id_of(annotation))
                continue
            existing.known.setdefault(location, []).append(read_points(annotation))
            existing.has_others |= not is_example
        except UnusablePolygonError:
            continue  # no object can be a duplicate of it
    return existing


def list_candidates(
    server: Server,
    output_tags: Sequence[str],
    training_tags: Sequence[str],
    made_ids: AbstractSet[str],
) -> Iterator[Any]:
    """Yield the annotations that may be known. Those with several of the tags come repeatedly."""
    for tag in sorted({*output_tags, *training_tags}):
        yield from server.list_polygons([tag])
    if made_ids and not output_tags:
        for annotation in server.list_polygons([]):
            if is_result(annotation, [], made_ids):
                yield annotation
