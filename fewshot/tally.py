"""What a job has done so far, for its messages and its log."""
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts of a job, and its seconds."""

    examples: int = 0
    frames: int = 0  # uploaded
    candidates: int = 0
    in_area: int = 0  # candidates within the area limits
    unlike: int = 0  # of those, below the threshold
    rivalled: int = 0  # of the others, more like a counter-example
    kept: int = 0  # of the others
    doubles: int = 0  # of those kept, found better by another
    known: int = 0  # of the others, already on the server
    uploaded: int = 0
    highest: float = -1.0  # similarity of any candidate within the area limits
    lowest_uploaded: float = 2.0  # similarity
    highest_uploaded: float = -2.0
    seconds: dict[str, float] = field(default_factory=dict)  # by step

    def note_uploaded(self, similarities: Sequence[float]) -> None:
        """Count objects that are on the server now, given their similarities."""
        self.uploaded += len(similarities)
        self.lowest_uploaded = min([self.lowest_uploaded, *similarities])
        self.highest_uploaded = max([self.highest_uploaded, *similarities])

    def describe(self, examples: Sequence[float]) -> str:
        """What was done, as sentences.

        `examples` are the similarities of each example to the prototype of the others.
        """
        text = f'{count(self.uploaded, "object")} in {count(self.frames, "frame")}'
        if self.uploaded:
            text += f', similarity {self.lowest_uploaded:.2f} to {self.highest_uploaded:.2f}'
        if examples:
            text += f'; the examples among themselves {min(examples):.2f} to {max(examples):.2f}'
        left_out = [f'{number} {why}' for number, why in (
            (self.rivalled, 'more like a counter-example'), (self.doubles, 'found twice'),
            (self.known, 'already there')) if number]
        return text + (f'. Left out: {", ".join(left_out)}.' if left_out else '')

    def explain_nothing(self, threshold: float) -> str:
        """Where all candidates have gone, as sentences."""
        text = (f'{self.candidates} candidates: {self.candidates - self.in_area} outside the area limits, '
                f'{self.unlike} less similar than {threshold:g}')
        if self.rivalled:
            text += f', {self.rivalled} more like a counter-example'
        return text + '.' + (f' The highest similarity was {self.highest:.3f}.' if self.in_area else '')

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        """Count the seconds of the block under a step's name."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0) + time.monotonic() - start


def count(number: int, thing: str) -> str:
    """A number of things in words: 1 frame, 2 frames."""
    return f'{number} {thing}{"" if number == 1 else "s"}'
