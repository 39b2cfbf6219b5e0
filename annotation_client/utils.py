"""Messages to the user's page: one JSON object a line on stdout, shown as the job runs."""
import json
import sys


def sendProgress(progress: float, title: str, info: str | None) -> None:
    """Move the job's bar. `progress` is 0 to 1: what lies outside is clipped, and NaN is 0."""
    fraction = min(1.0, max(0.0, float(progress)))  # max keeps its first argument beside a NaN
    _send_line({'progress': fraction, 'title': _text(title), 'info': _text(info)})


def sendWarning(warning_message: object, title: str = 'Warning', info: object = None) -> None:
    """Show a warning until the user dismisses it. One notice a call: send few."""
    _send_line({'warning': _text(warning_message), 'title': _text(title), 'info': _text(info), 'type': 'warning'})


def sendError(error_message: object, title: str = 'Error', info: object = None) -> None:
    """Show an error until the user dismisses it. It does not fail the job: raise after it."""
    _send_line({'error': _text(error_message), 'title': _text(title), 'info': _text(info), 'type': 'error'})


def _text(value: object) -> str:
    return '' if value is None else str(value)


def _send_line(message: dict) -> None:
    # one write per line, as two threads may send at the same time
    sys.stdout.write(json.dumps(message) + '\n')
    sys.stdout.flush()
