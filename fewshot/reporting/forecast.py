"""How long a batch will take, estimated from the frames that were searched."""

import math

LIMIT_SECONDS = 24 * 3600  # after which the server ends a job
PLANNED_SECONDS = 20 * 3600  # of a job, which leaves room for frames that take longer
MAX_JOBS = 64


class Forecast:
    """The pace of a batch. Learning and failed frames do not count.

    Parameters
    ----------
    frames : int
        Number of frames in the batch.
    """

    def __init__(self, frames: int):
        self.frames = frames
        self.searched = 0
        self.seconds = 0.0

    def note_frame(self, seconds: float) -> None:
        """Count a frame that was searched in so many seconds."""
        self.searched += 1
        self.seconds += seconds

    def seconds_left(self, done: float) -> float | None:
        """Return the seconds left when `done` frames are done; None before the first was searched."""
        if not self.searched:
            return None
        return self.seconds / self.searched * (self.frames - done)

    def describe_left(self, done: float) -> str:
        """Return the time left in words, after a comma; '' before the first frame was searched."""
        left = self.seconds_left(done)
        return '' if left is None else f', about {describe_seconds(left)} left'

    def exceeds_limit(self) -> bool:
        """Return whether the batch will take longer than the server lets a job run."""
        whole = self.seconds_left(0)
        return whole is not None and whole > LIMIT_SECONDS

    def propose_jobs(self, jobs: int) -> tuple[int, float]:
        """Return the number of jobs in which the batch fits, and the seconds of each.

        Parameters
        ----------
        jobs : int
            The number of jobs into which the batch was split.
        """
        whole = (self.seconds_left(0) or 0.0) * jobs
        wanted = min(MAX_JOBS, math.ceil(whole / PLANNED_SECONDS))
        return wanted, whole / wanted


def describe_seconds(seconds: float) -> str:
    """Return a time in words, to be read at a glance.

    Examples
    --------
    >>> describe_seconds(11_430)
    '3 h 10 min'
    """
    if seconds < 60:
        return f'{max(1, round(seconds))} s'
    minutes = round(seconds / 60)
    if minutes < 60:
        return f'{minutes} min'
    if minutes >= 48 * 60:
        return f'{minutes / 60 / 24:.1f} days'
    if minutes >= 120:
        minutes = 10 * round(minutes / 10)
    hours, rest = divmod(minutes, 60)
    return f'{hours} h {rest} min' if rest else f'{hours} h'
