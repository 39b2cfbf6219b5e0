"""How long a batch will take, estimated from the frames that were searched."""

import math

SERVER_LIMIT_SECONDS = 24 * 3600  # the server ends a job after this time
PLANNED_SECONDS = 20 * 3600  # per job, which leaves room for frames that take longer
MAX_JOBS = 64
SHORT_SECONDS = 10


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
        """Count a frame that was searched, with the seconds that it took."""
        self.searched += 1
        self.seconds += seconds

    def seconds_left(self, done: float) -> float | None:
        """Return the seconds left when `done` frames are done.

        None if no frame has been searched yet.
        """
        if not self.searched:
            return None
        return self.seconds / self.searched * (self.frames - done)

    def describe_left(self, done: float) -> str:
        """Return the time left in words, after a comma.

        '' if no frame has been searched yet, or less than SHORT_SECONDS are left.
        """
        left = self.seconds_left(done)
        return '' if left is None or left < SHORT_SECONDS else f', {describe_seconds(left)} left'

    def exceeds_limit(self) -> bool:
        """Return whether the batch will take longer than the server lets a job run."""
        whole = self.seconds_left(0)
        return whole is not None and whole > SERVER_LIMIT_SECONDS

    def propose_jobs(self, jobs: int) -> tuple[int, float]:
        """Return how many jobs the batch needs, and the seconds per job.

        Parameters
        ----------
        jobs : int
            The number of jobs into which the batch is split now.
        """
        whole = (self.seconds_left(0) or 0.0) * jobs
        wanted = min(MAX_JOBS, math.ceil(whole / PLANNED_SECONDS))
        return wanted, whole / wanted


def describe_seconds(seconds: float) -> str:
    """Return a time in a few characters, rounded for reading.

    Examples
    --------
    >>> describe_seconds(11_430)
    '3 h'
    """
    minutes, hours, days = (round(seconds / unit) for unit in (60, 3600, 24 * 3600))
    if seconds < 60:
        return f'{max(1, round(seconds))} s'
    if minutes < 120:
        return f'{minutes} min'
    return f'{hours} h' if hours < 48 else f'{days} days'
