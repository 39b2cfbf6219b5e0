"""What a job has done so far, for its messages and its log."""
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts of a job, and its seconds."""

    examples: int = 0
    frames: int = 0  # uploaded
    candidates: int = 0
    in_area: int = 0  # candidates within the area limits
    kept: int = 0  # of those, similar enough
    uploaded: int = 0
    highest: float = -1.0  # similarity of any candidate within the area limits
    seconds: dict[str, float] = field(default_factory=dict)  # by step

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
