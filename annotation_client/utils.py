"""Messages to the user's page: one JSON object per line on stdout, shown while the job runs."""

import json
import sys


def sendProgress(progress: float, title: str, info: str | None) -> None:
    """Move the bar of the job.

    Parameters
    ----------
    progress : float
        0 to 1. Values outside are clipped, and NaN counts as 0.
    title, info : str
        The current step of the job.
    """
    fraction = min(1.0, max(0.0, float(progress)))  # max returns its first argument for a NaN
    _send_line({'progress': fraction, 'title': _text(title), 'info': _text(info)})


def sendWarning(warning_message: object, title: str = 'Warning', info: object = None) -> None:
    """Show a warning until the user dismisses it. Send few, as each call opens a notice."""
    _send_line(
        {
            'warning': _text(warning_message),
            'title': _text(title),
            'info': _text(info),
            'type': 'warning',
        }
    )


def sendError(error_message: object, title: str = 'Error', info: object = None) -> None:
    """Show an error until the user dismisses it. Raise after it, or the job counts as a success."""
    _send_line(
        {
            'error': _text(error_message),
            'title': _text(title),
            'info': _text(info),
            'type': 'error',
        }
    )


def _text(value: object) -> str:
    return '' if value is None else str(value)


def _send_line(message: dict) -> None:
    # One write per line, because two threads may send at the same time.
    sys.stdout.write(json.dumps(message) + '\n')
    sys.stdout.flush()
