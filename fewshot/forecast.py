"""How long a batch will take, estimated from the frames that were searched."""
import math

LIMIT_SECONDS = 24 * 3600  # after which the server ends a job
PLANNED_SECONDS = 20 * 3600  # of a job, which leaves room for frames that take longer


class Forecast:
    """The pace of a batch. Only frames that were searched count; learning and failed frames do not."""

    def __init__(self, frames: int):
        """Begin with no frame searched. `frames` is the number of frames in the batch."""
        self.frames = frames
        self.searched = 0
        self.seconds = 0.0

    def note_frame(self, seconds: float) -> None:
        """Count a frame that was searched in so many seconds."""
        self.searched += 1
        self.seconds += seconds

    def left(self, done: float) -> float | None:
        """Return the seconds left when `done` frames are done; None before the first was searched.

        Part of a frame counts as a fraction.
        """
        return self.seconds / self.searched * (self.frames - done) if self.searched else None

    def describe(self, done: float) -> str:
        """Return the time left in words, after a comma; '' before the first frame was searched."""
        left = self.left(done)
        return '' if left is None else f', about {describe_seconds(left)} left'

    def warn_of_limit(self, jobs: int) -> tuple[str, str] | None:
        """Return a warning, (message, info), when the batch will take longer than the server lets a job run.

        Parameters
        ----------
        jobs : the number of jobs into which the batch was split
        """
        whole = self.left(0)
        if whole is None or whole <= LIMIT_SECONDS:
            return None
        wanted = min(64, math.ceil(jobs * whole / PLANNED_SECONDS))
        return (f'The batch will take about {describe_seconds(whole)}; the server ends a job after 24 hours',
                f'Seen: {describe_seconds(whole / self.frames)} per frame, {self.frames} frames. Set Jobs to {wanted}: '
                f'each job would take about {describe_seconds(whole * jobs / wanted)} if there are as many GPUs. '
                'Uploaded objects stay, and the batch can be started again.')


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
