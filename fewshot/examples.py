"""The objects that the user outlined and tagged, piece by piece, and those that cannot be used."""
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NoReturn

from fewshot.crops import CutMask
from fewshot.frames import Piece, has_location
from fewshot.parameters import explain
from fewshot.polygons import bound_annotation, cut_annotation, location_of
from fewshot.tiling import choose_tile, plan_tiles


class Examples:
    """The tagged polygons of a dataset, examples and counter-examples.

    `by_piece` holds them in the order of their frames, each with whether it is a counter-example; `side` is the longest
    side of an example's box, pixels.
    """

    def __init__(self, tagged: Sequence[Mapping], counter: Sequence[Mapping], tiles: Mapping, tile_size: int):
        """Sort the polygons by piece.

        Parameters
        ----------
        tiles : the dataset's tile metadata
        tile_size : pixels, 0 for whole frames

        Raises ValueError when the dataset has the frame of no example, an annotation is example and counter-example, or
        the examples are too large for the tiles.
        """
        self.count = len(tagged) + len(counter)
        self.skipped: Counter[str] = Counter()  # examples that cannot be used, by reason
        refuse_both(tagged, counter)
        boxes = [bound_annotation(one) for one in tagged]
        self.side = max((max(box.bottom - box.top, box.right - box.left) for box in boxes if box), default=0)
        self.tiles = plan_tiles((tiles['sizeY'], tiles['sizeX']), tile_size, self.side)
        self.by_piece: dict[Piece, list[tuple[Mapping, bool]]] = {}
        is_counter = {id(one) for one in counter}
        for annotation in sorted([*tagged, *counter], key=location_of):
            location = location_of(annotation)
            if not has_location(tiles, location):
                self.skipped['on a frame that the dataset does not have'] += 1
                continue
            tile = choose_tile(bound_annotation(annotation), self.tiles)
            self.by_piece.setdefault(Piece(location, tile), []).append((annotation, id(annotation) in is_counter))
        if not any(not counter for group in self.by_piece.values() for _, counter in group):
            self.refuse()

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


def refuse_both(tagged: Sequence[Mapping], counter: Sequence[Mapping]) -> None:
    """Raise a ValueError when an annotation is among the examples and among the counter-examples."""
    both = {one['_id'] for one in tagged} & {one['_id'] for one in counter}
    if both:
        places = sorted({location_of(one) for one in tagged if one['_id'] in both})
        raise explain(ValueError('An annotation carries both the Training Tag and the Negative Tag'),
                      f'Seen: {len(both)}, at {"; ".join(map(str, places[:3]))}. Take one of the tags away from it.')
