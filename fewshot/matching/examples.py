"""The objects that the user outlined and tagged: where they are, and which cannot be used."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fewshot import messages
from fewshot.errors import UnusablePolygonError
from fewshot.geometry import Box, CutMask, Location, Tile
from fewshot.images.metadata import has_location
from fewshot.images.tiling import choose_tile, plan_tiles
from fewshot.polygons import bound_annotation, cut_annotation, location_of
from fewshot.server import id_of

NO_FRAME = 'on a frame that the dataset does not have'
MAX_PLACES_PER_MESSAGE = 3


class TaggedPolygon(NamedTuple):
    """An example or a counter-example, before its frame is loaded."""

    annotation: Mapping
    is_counter: bool
    location: Location
    box: Box | None  # around its points in the frame; None outside the frame


@dataclass(frozen=True)
class Examples:
    """The tagged polygons of a dataset.

    Attributes
    ----------
    by_tile : dict of list
        The polygons of each tile of a frame, in the order of their locations.
    side : int
        Longest side of an example's box, pixels.
    boxes : list of Box or None
        The tiles of every frame, as by `plan_tiles`.
    skipped : Counter of str
        Number of polygons that cannot be used, by reason.
    """

    by_tile: dict[Tile, list[TaggedPolygon]]
    side: int
    boxes: list[Box | None]
    skipped: Counter[str]


class CutExamples(NamedTuple):
    """The tagged objects of one tile."""

    objects: list[CutMask]
    is_counter: list[bool]  # for each object
    ids: list[str]  # of the annotation of each object
    skipped: Counter[str]  # number of polygons that cannot be used, by reason


def sort_examples(
    tagged: Sequence[Any], counter: Sequence[Any], metadata: Mapping, tile_size: int
) -> Examples:
    """Sort examples and counter-examples by tile.

    Parameters
    ----------
    tagged, counter : sequence of dict
        Annotations of examples and counter-examples, as the server sends them.
    metadata : dict
        The tile metadata of the image.
    tile_size : int
        Pixels. 0 means whole frames.

    Returns
    -------
    sorted_examples : Examples

    Raises
    ------
    JobError
        No example can be used, a polygon has both tags, or the tiles are too small.
    """
    frame_shape = metadata['sizeY'], metadata['sizeX']
    examples, skipped = place_polygons(tagged, False, metadata)
    counter_examples, skipped_counter = place_polygons(counter, True, metadata)
    refuse_both_tags(examples, counter_examples)

    side = 0
    for one in examples:
        if one.box:
            side = max(side, one.box.height, one.box.width)
    boxes = plan_tiles(frame_shape, tile_size, side)
    skipped += skipped_counter
    if not examples:
        raise messages.NO_USABLE_EXAMPLE.error(reasons=list_reasons(skipped))

    by_tile: dict[Tile, list[TaggedPolygon]] = {}
    for one in sorted([*examples, *counter_examples], key=lambda polygon: polygon.location):
        tile = Tile(one.location, choose_tile(one.box, boxes))
        by_tile.setdefault(tile, []).append(one)
    return Examples(by_tile, side, boxes, skipped)


def place_polygons(
    annotations: Sequence[Any], is_counter: bool, metadata: Mapping
) -> tuple[list[TaggedPolygon], Counter[str]]:
    """Read where tagged polygons are.

    Parameters
    ----------
    annotations : sequence of dict
        As the server sends them.
    is_counter : bool
        Whether they are counter-examples.
    metadata : dict
        The tile metadata of the image.

    Returns
    -------
    placed : list of TaggedPolygon
        Those that have coordinates and are on a frame of the dataset.
    skipped : Counter of str
        Number of the others, by reason.
    """
    frame_shape = metadata['sizeY'], metadata['sizeX']
    placed = []
    skipped: Counter[str] = Counter()
    for annotation in annotations:
        try:
            location = location_of(annotation)
            box = bound_annotation(annotation, frame_shape)
        except UnusablePolygonError as error:
            skipped[str(error)] += 1
            continue
        if has_location(metadata, location):
            placed.append(TaggedPolygon(annotation, is_counter, location, box))
        else:
            skipped[NO_FRAME] += 1
    return placed, skipped


def refuse_both_tags(
    examples: Sequence[TaggedPolygon], counter_examples: Sequence[TaggedPolygon]
) -> None:
    """Raise a JobError if an annotation is an example and a counter-example.

    Parameters
    ----------
    examples, counter_examples : sequence of TaggedPolygon
    """
    counter_ids = {id_of(one.annotation) for one in counter_examples}
    both = {}  # locations by id
    for one in examples:
        annotation_id = id_of(one.annotation)
        if annotation_id and annotation_id in counter_ids:
            both[annotation_id] = one.location
    if both:
        places = sorted(set(both.values()))[:MAX_PLACES_PER_MESSAGE]
        seen = '; '.join(str(place) for place in places)
        raise messages.BOTH_TAGS.error(count=len(both), places=seen)


def cut_examples(
    polygons: Sequence[TaggedPolygon], tile: Tile, image_shape: Sequence[int]
) -> CutExamples:
    """Draw the tagged polygons of a tile.

    Parameters
    ----------
    polygons : sequence of TaggedPolygon
        From `Examples.by_tile`.
    tile : Tile
    image_shape : (H, W, ...)
        Of the loaded tile.

    Returns
    -------
    CutExamples
        Boxes count from the corner of the tile.
    """
    cut = CutExamples([], [], [], Counter())
    for one in polygons:
        try:
            cut.objects.append(cut_annotation(one.annotation, image_shape, tile.box))
        except UnusablePolygonError as error:
            cut.skipped[str(error)] += 1
        else:
            cut.is_counter.append(one.is_counter)
            cut.ids.append(id_of(one.annotation))
    return cut


def list_reasons(skipped: Mapping[str, int]) -> str:
    """Return why polygons cannot be used, with the number of each.

    Parameters
    ----------
    skipped : dict of int
        Numbers by reason.

    Examples
    --------
    >>> list_reasons({'outside the image': 2, 'fewer than 3 points': 1})
    '2 outside the image, 1 fewer than 3 points'
    """
    return ', '.join(f'{number} {reason}' for reason, number in skipped.items())
