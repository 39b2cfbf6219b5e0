"""How long a batch will take, reckoned from the frames that are done."""
import math
import time

LIMIT = 24 * 3600  # seconds after which the server ends a job
PLANNED = 20 * 3600  # seconds of a job that leave room for frames that take longer


class Forecast:
    """The pace of a batch."""

    def __init__(self, frames: int):
        """Start the clock. `frames` is how many there are."""
        self.frames = frames
        self.start = time.monotonic()

    def left(self, done: float) -> float | None:
        """Seconds left when so many frames are done, a part of one counted; None before the first is."""
        return (time.monotonic() - self.start) * (self.frames / done - 1) if done >= 1 else None

    def describe(self, done: float) -> str:
        """The time left in words, after a comma; '' before the first frame is done."""
        left = self.left(done)
        return '' if left is None else f', about {describe_seconds(left)} left'

    def warn_of_limit(self, done: int, jobs: int) -> tuple[str, str] | None:
        """A warning, (message, info), when the batch will take longer than the server lets a job run, else None.

        Parameters
        ----------
        done : frames, 1 or more
        jobs : into which the batch was split
        """
        spent = time.monotonic() - self.start
        whole = spent + (self.left(done) or 0)
        if whole <= LIMIT:
            return None
        wanted = min(64, math.ceil(jobs * whole / PLANNED))
        return (f'The batch will take about {describe_seconds(whole)}; the server ends a job after 24 hours',
                f'Seen: {describe_seconds(spent / done)} a frame, {self.frames} frames. Jobs {wanted} would take about '
                f'{describe_seconds(whole * jobs / wanted)} each, if there are as many GPUs. What is on the server '
                'stays, and the batch can be started again.')


def describe_seconds(seconds: float) -> str:
    """A time in words, to be read at a glance.

    >>> describe_seconds(11_430)
    '3 h 10 min'
    """
    if seconds < 60:
        return f'{max(1, round(seconds))} s'
    minutes = round(seconds / 60)
    if minutes < 60:
        return f'{minutes} min'
    if minutes < 48 * 60:
        minutes = 10 * round(minutes / 10) if minutes >= 120 else minutes
        return f'{minutes // 60} h {minutes % 60} min' if minutes % 60 else f'{minutes // 60} h'
    return f'{minutes / 60 / 24:.1f} days'
