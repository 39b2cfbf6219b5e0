"""Messages to the page: a progress bar, and a few warnings."""

import logging
import time
from collections.abc import Callable

from fewshot import messages
from fewshot.errors import JobError
from fewshot.messages import Message

PROGRESS_INTERVAL_SECONDS = 0.25
MAX_WARNINGS = 20  # the page opens a notice for each
MAX_STATE_CHARACTERS = 500  # in a progress line
TITLE = 'SAM few-shot segmentation'

log = logging.getLogger('sam_fewshot')


class Reporter:
    """Sends messages to the page, no faster and no more than a person can read.

    It never raises. It may be used by several threads.

    Parameters
    ----------
    send_progress, send_warning, send_error : callable
        The functions of `annotation_client.utils`.
    clock : callable
        Returns seconds.
    """

    def __init__(
        self,
        send_progress: Callable,
        send_warning: Callable,
        send_error: Callable,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.send_progress, self.send_warning, self.send_error = (
            send_progress,
            send_warning,
            send_error,
        )
        self.clock = clock
        self.last_progress = -PROGRESS_INTERVAL_SECONDS
        self.share = 0.0  # that was shown last
        self.warnings = 0
        self.state = ''

    def progress(self, share: float, title: str, info: str, is_shown: bool = False) -> None:
        """Move the bar to `share`, 0 to 1.

        A call within PROGRESS_INTERVAL_SECONDS of the last one is ignored, unless `share` is 1 or
        `is_shown` is set.
        """
        now = self.clock()
        is_shown = is_shown or share == 1
        if not is_shown and now - self.last_progress < PROGRESS_INTERVAL_SECONDS:
            return
        self.last_progress, self.share = now, share
        self.send_progress(round(share, 4), title, info)

    def warn(self, message: Message, **values: object) -> None:
        """Show a warning until the user dismisses it. After MAX_WARNINGS, only log it."""
        text, hint = message.fill(**values)
        self.warnings += 1
        log.warning('%s %s', text, hint)
        if self.warnings <= MAX_WARNINGS:
            self.send_warning(text, title='Warning', info=hint)

    def note_state(self, state: str) -> None:
        """Keep the text that says what is on the server and what remains, and write it to the log.

        The last lines of a cancelled job do not reach the page. So progress lines and errors show
        this text.
        """
        self.state = state
        log.info('%s', state)

    @property
    def state_line(self) -> str:
        """The state, if it is short enough for a progress line."""
        if len(self.state) <= MAX_STATE_CHARACTERS:
            return self.state
        return 'The log of the job lists what remains.'

    def fail(self, error: BaseException) -> None:
        """Show the error that ends the job, what to do, and the state."""
        text, hint = describe_error(error)
        self.send_error(text, title=TITLE, info=f'{hint} {self.state}'.strip())

    def close(self) -> None:
        """Tell how many warnings the user did not see."""
        hidden = self.warnings - MAX_WARNINGS
        if hidden > 0:
            text, hint = messages.MORE_WARNINGS.fill(count=hidden)
            self.send_warning(text, title='Warning', info=hint)


def describe_error(error: BaseException) -> tuple[str, str]:
    """Return what happened and what to do, for the user."""
    if isinstance(error, JobError):
        return error.message, error.hint
    name = type(error).__name__
    return str(error) or name, f'{name}: the log of the job has the details.'
