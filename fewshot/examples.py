"""The objects that the user outlined and tagged, piece by piece, and those that cannot be used."""
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from fewshot.frames import Piece, has_location
from fewshot.geometry import Box, CutMask
from fewshot.parameters import Location, explain
from fewshot.polygons import bound_annotation, cut_annotation, location_of
from fewshot.stored import id_of
from fewshot.tiling import choose_tile, plan_tiles


class Placed(NamedTuple):
    """A tagged polygon, the frame that it lies on and the pixels of it around it (None: outside)."""

    location: Location
    box: Box | None
    annotation: Mapping
    is_counter: bool


class Examples:
    """The tagged polygons of a dataset, examples and counter-examples.

    `by_piece` holds them in the order of their frames, each with whether it is a counter-example; `side` is the longest
    side of an example's box, pixels.
    """

    def __init__(self, tagged: Sequence[Mapping], counter: Sequence[Mapping], tiles: Mapping, tile_size: int):
        """Sort the polygons by piece.

        Parameters
        ----------
        tagged, counter : annotations as the server sends them; what is none is counted among `skipped`
        tiles : the dataset's tile metadata
        tile_size : pixels, 0 for whole frames

        Raises ValueError when the dataset has the frame of no example, an annotation is example and counter-example, or
        the examples are too large for the tiles.
        """
        self.annotations = [*tagged, *counter]
        self.count = len(self.annotations)
        self.skipped: Counter[str] = Counter()  # examples that cannot be used, by reason
        shape = tiles['sizeY'], tiles['sizeX']
        placed = self._place([*((one, False) for one in tagged), *((one, True) for one in counter)], tiles, shape)
        refuse_both(placed)
        self.side = max((max(one.box.bottom - one.box.top, one.box.right - one.box.left) for one in placed
                         if one.box and not one.is_counter), default=0)
        self.tiles = plan_tiles(shape, tile_size, self.side)
        self.by_piece: dict[Piece, list[tuple[Mapping, bool]]] = {}
        for one in placed:
            piece = Piece(one.location, choose_tile(one.box, self.tiles))
            self.by_piece.setdefault(piece, []).append((one.annotation, one.is_counter))
        if not any(not counter for group in self.by_piece.values() for _, counter in group):
            self.refuse()

    def _place(self, annotations: Sequence[tuple[Any, bool]], tiles: Mapping, shape: Sequence[int]) -> list[Placed]:
        """Those that have coordinates and a frame, in the order of their frames; the others are counted as skipped."""
        placed = []
        for annotation, is_counter in annotations:
            try:
                location, box = location_of(annotation), bound_annotation(annotation, shape)
            except ValueError as error:
                self.skipped[str(error)] += 1
                continue
            if has_location(tiles, location):
                placed.append(Placed(location, box, annotation, is_counter))
            else:
                self.skipped['on a frame that the dataset does not have'] += 1
        return sorted(placed, key=lambda one: one.location)

    @property
    def reasons(self) -> str:
        """Why examples cannot be used, with how many each."""
        return ', '.join(f'{times} {reason}' for reason, times in self.skipped.items())

    def cut(self, piece: Piece, image_shape: Sequence[int]) -> list[tuple[CutMask, bool]]:
        """The examples of a piece of that shape, each with whether it is a counter-example.

        What cannot be cut is counted among `skipped`.
        """
        objects = []
        for annotation, is_counter in self.by_piece[piece]:
            try:
                objects.append((cut_annotation(annotation, image_shape, piece.tile), is_counter))
            except ValueError as error:
                self.skipped[str(error)] += 1
        return objects

    def refuse(self) -> NoReturn:
        """Raise the ValueError that says why no example can be used."""
        raise explain(ValueError('None of the examples can be used'),
                      f'Seen: {self.reasons}. Outline the examples again, inside the image.')


def refuse_both(placed: Sequence[Placed]) -> None:
    """Raise a ValueError when an annotation is among the examples and among the counter-examples."""
    counter = {id_of(one.annotation) for one in placed if one.is_counter} - {''}
    both = {id_of(one.annotation): one.location for one in placed if not one.is_counter}
    places = [place for name, place in both.items() if name in counter]
    if places:
        seen = '; '.join(map(str, sorted({*places})[:3]))
        raise explain(ValueError('An annotation carries both the Training Tag and the Negative Tag'),
                      f'Seen: {len(places)}, at {seen}. Take one of the tags away from it.')
