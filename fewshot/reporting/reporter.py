"""Messages to the page: one line beside the bar, few warnings, and the last line of the log."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from fewshot import messages
from fewshot.errors import JobError
from fewshot.messages import Message

TITLE = 'SAM few-shot'
# The page shows about so many characters of a title and its info, and cuts the rest.
MAX_LINE_CHARACTERS = 65
MAX_TEXT_CHARACTERS, MAX_HINT_CHARACTERS = 120, 160  # of a warning
MAX_WARNINGS, MAX_LOST_FRAMES = 2, 5  # per job, as the page opens a notice for each
# girder_worker passes a line on when another one comes at least half a second later. So lines come
# no faster, and the last one is repeated.
MIN_GAP_SECONDS = 0.5
REPEAT_SECONDS = 1.0

log = logging.getLogger('sam_fewshot')


class Warned(NamedTuple):
    """A warning, with its values filled in."""

    message: Message
    text: str
    hint: str


class Reporter:
    """Sends messages to the page, no faster and no more than a person can read.

    It may be used by several threads. After `finish` or `fail` it sends nothing.

    Parameters
    ----------
    send_progress, send_warning, send_error : callable
        The functions of `annotation_client.utils`.
    clock : callable
        Returns seconds.
    wait : callable
        Waits until an event is set, at most so many seconds. Returns whether it is set.
    """

    def __init__(
        self,
        send_progress: Callable,
        send_warning: Callable,
        send_error: Callable,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ):
        self.send_progress, self.send_warning, self.send_error = (
            send_progress,
            send_warning,
            send_error,
        )
        self.clock, self.wait = clock, wait
        self.warnings: list[Warned] = []  # all, in their order
        self.shown: list[Message] = []  # those on the page, without lost frames
        self.state = ''
        self._line: tuple[float, str, str] | None = None
        self._sent_at = -MIN_GAP_SECONDS
        self._is_over = False
        self._lock = threading.RLock()  # one line at a time

    # Progress

    def progress(self, share: float, title: str, info: str) -> None:
        """Move the bar to `share`, 0 to 1, and show a line of at most MAX_LINE_CHARACTERS.

        A line that comes too early is shown by `repeating`, unless another one replaces it.
        """
        with self._lock:
            info = shorten(info, MAX_LINE_CHARACTERS - len(title) - 1)
            self._line = round(share, 4), title, info
            self.repeat()

    def repeat(self) -> None:
        """Send the current line, unless a line was sent less than MIN_GAP_SECONDS ago."""
        with self._lock:
            now = self.clock()
            if self._line is None or self._is_over or now - self._sent_at < MIN_GAP_SECONDS:
                return
            self._sent_at = now
            self.send_progress(*self._line)

    @contextmanager
    def repeating(self) -> Iterator[None]:
        """Send the current line every REPEAT_SECONDS while the block runs.

        A thread does this, so the page shows the line during a long step, too.
        """
        block_ended = threading.Event()

        def repeat() -> None:
            while not self.wait(block_ended, REPEAT_SECONDS):
                self.repeat()

        thread = threading.Thread(target=repeat, name='repeats the progress line', daemon=True)
        thread.start()
        try:
            yield
        finally:
            block_ended.set()
            thread.join()

    # Warnings

    def warn(self, message: Message, **values: object) -> None:
        """Write a warning to the log, and keep it for `show_warnings`.

        The page shows at once the first MAX_LOST_FRAMES lost frames, and `messages.AT_ONCE`.
        """
        text, hint = message.fill(**values)
        with self._lock:
            log.warning('%s %s', text, hint)
            warned = Warned(message, text, hint)
            self.warnings.append(warned)
            if message is messages.FRAME_FAILED:
                if self._count(message) <= MAX_LOST_FRAMES:
                    self._show(warned)
            elif message in messages.AT_ONCE:
                self._show_once(warned, MAX_WARNINGS)

    def show_warnings(self, most: int) -> None:
        """Show the most important warnings until `most` of the job are on the page."""
        with self._lock:
            kept = [one for one in self.warnings if one.message is not messages.FRAME_FAILED]
            for warned in sorted(kept, key=lambda one: messages.PRIORITY.index(one.message)):
                self._show_once(warned, most)

    def _count(self, message: Message) -> int:
        return sum(one.message is message for one in self.warnings)

    def _show_once(self, warned: Warned, most: int) -> None:
        """Show a warning if it is the first of its kind, and fewer than `most` were shown."""
        if warned.message not in self.shown and len(self.shown) < most:
            self.shown.append(warned.message)
            more = self._count(warned.message) - 1
            if more:
                warned = warned._replace(text=f'{warned.text} And {more} more.')
            self._show(warned)

    def _show(self, warned: Warned) -> None:
        if not self._is_over:
            text = shorten(warned.text, MAX_TEXT_CHARACTERS)
            self.send_warning(text, title=TITLE, info=shorten(warned.hint, MAX_HINT_CHARACTERS))

    # State

    def note_state(self, state: str) -> None:
        """Keep the text that says what is on the server and what remains, and write it to the log.

        The last lines of a cancelled job do not reach the page or its log. So the log has this text
        after each frame.
        """
        self.state = state
        log.info('%s', state)

    # The end

    def finish(self, result: str, text: str) -> None:
        """Show the last warnings and the result, and write the last line of the log.

        Parameters
        ----------
        result : str
            A few words for the bar.
        text : str
            All about the result.
        """
        with self._lock:
            self.show_warnings(MAX_WARNINGS)
            if not self._is_over:
                self.send_progress(1.0, 'Done', f'{result}. Press Log for details.')
            self._end(text)

    def fail(self, error: BaseException) -> None:
        """Show the error that ends the job, what to do, and the state. Write them to the log."""
        text, hint = describe_error(error)
        hint = f'{hint} {self.state}'.strip()
        with self._lock:
            self.show_warnings(MAX_WARNINGS)
            if not self._is_over:
                self.send_error(text, title=TITLE, info=hint)
            self._end(f'{text} {hint}'.strip())

    def _end(self, text: str) -> None:
        """Write the last line of the log, as a plain sentence, and send nothing after it."""
        if not self._is_over:
            self._is_over = True
            for warned in self.warnings:  # again, as the log of a long job loses its beginning
                if warned.message not in (*self.shown, messages.FRAME_FAILED):
                    log.warning('Not shown: %s %s', warned.text, warned.hint)
            print(text, file=sys.stderr, flush=True)


def shorten(text: str, most: int) -> str:
    """Return a text of at most so many characters.

    Examples
    --------
    >>> shorten('A long text', 8)
    'A long …'
    """
    return text if len(text) <= most else text[: most - 1] + '…'


def describe_error(error: BaseException) -> tuple[str, str]:
    """Return what happened and what to do, for the user."""
    if isinstance(error, JobError):
        return error.message, error.hint
    name = type(error).__name__
    return str(error) or name, f'{name}: the log of the job has the details.'
