"""The objects that the user outlined and tagged, frame by frame, and those that cannot be used."""
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NoReturn

from fewshot.crops import CutMask
from fewshot.frames import has_location
from fewshot.parameters import Location, explain
from fewshot.polygons import cut_annotation, location_of


class Examples:
    """The tagged polygons of a dataset. `by_location` holds them in the order of their frames."""

    def __init__(self, tagged: Sequence[Mapping], tiles: Mapping):
        """Raises ValueError when the dataset, by its tile metadata, has the frame of none."""
        self.by_location: dict[Location, list[Mapping]] = {}
        self.skipped: Counter[str] = Counter()  # examples that cannot be used, by reason
        self.count = len(tagged)
        for annotation in sorted(tagged, key=location_of):
            location = location_of(annotation)
            if has_location(tiles, location):
                self.by_location.setdefault(location, []).append(annotation)
            else:
                self.skipped['on a frame that the dataset does not have'] += 1
        if not self.by_location:
            self.refuse()

    @property
    def reasons(self) -> str:
        """Why examples cannot be used, with how many each."""
        return ', '.join(f'{times} {reason}' for reason, times in self.skipped.items())

    def cut(self, location: Location, image_shape: Sequence[int]) -> list[CutMask]:
        """The examples of a frame of that shape; what cannot be cut is counted among `skipped`."""
        objects = []
        for annotation in self.by_location[location]:
            try:
                objects.append(cut_annotation(annotation, image_shape))
            except ValueError as error:
                self.skipped[str(error)] += 1
        return objects

    def refuse(self) -> NoReturn:
        """Raise the ValueError that says why no example can be used."""
        raise explain(ValueError('None of the examples can be used'),
                      f'Seen: {self.reasons}. Outline the examples again, inside the image.')
