"""One job: what it has done, what has become of its frames, what its user is told."""
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from fewshot.errors import JobError
from fewshot.forecast import Forecast
from fewshot.outcomes import Outcomes
from fewshot.page import Page
from fewshot.parameters import Location
from fewshot.tally import Tally, count

LONGEST_STATE = 500  # characters of the state in a progress line

log = logging.getLogger('sam_fewshot')


@dataclass
class Job:
    """What a job knows of itself at any time. It is used by the thread that computes and the one that uploads."""

    page: Page
    tally: Tally = field(default_factory=Tally)
    outcomes: Outcomes = field(default_factory=lambda: Outcomes([]))
    forecast: Forecast = field(default_factory=lambda: Forecast(0))
    others: list[str] = field(default_factory=list)  # names of the jobs that search the other shares of the batch
    sending: threading.Lock = field(default_factory=threading.Lock)  # held while a frame is uploaded

    def begin(self, locations: Sequence[Location]) -> None:
        """From here on these are the frames of the batch."""
        self.outcomes = Outcomes(locations)
        self.forecast = Forecast(len(locations))

    def skip(self, location: Location, error: Exception) -> None:
        """Leave a frame out that failed, with a warning. Raises BatchEndedError when the batch cannot go on."""
        log.error('%s failed', location, exc_info=error)
        self.outcomes.note_failure(location, error)
        self.page.warn(f'The frame {location} was left out', 'Frame left out', f'{str(error).rstrip(".")}. '
                       f'{describe_notes(error)} The batch goes on; its end lists the frames that failed.')

    def describe_state(self) -> str:
        """Return what is on the server and what remains, as sentences; '' before the batch began."""
        if not self.outcomes.locations:
            return ''
        done = f'On the server: {count(self.tally.uploaded, "object")}; {count(self.tally.frames, "frame")} complete.'
        return f'{done} {self.outcomes.describe_rest()}'.strip()

    def note_state(self) -> None:
        """Keep the state for the progress lines, and write it to the log.

        The last lines of a cancelled job may not reach the page, so the state is shown after each frame.
        """
        if len(self.outcomes.locations) > 1 and self.outcomes.remaining:
            state = self.describe_state()
            log.info('%s', state)
            self.page.state = state if len(state) <= LONGEST_STATE else 'The log of the job lists what remains.'


def describe_notes(error: Exception) -> str:
    """What an error's hint and notes say, as sentences; where it has none, its type."""
    notes = list(getattr(error, '__notes__', []))
    if isinstance(error, JobError) and error.hint:
        notes.insert(0, error.hint)
    return ' '.join(notes or [f'{type(error).__name__}: the log of the job tells more.'])
