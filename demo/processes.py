"""The two programs that the demo starts: the annotation server, and the worker as the server would start it."""
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
BAR = 24  # characters
LAST_LINES = 15  # of a log, shown when something failed


class ProgressBar:
    """The worker's progress: a bar that moves on a terminal; elsewhere a line every ten percent."""

    def __init__(self, stream) -> None:
        self.stream = stream
        self.moves = stream.isatty()
        self.tenth = -1

    def show(self, fraction: float, title: str, info: str) -> None:
        """Draw the bar at a fraction from 0 to 1."""
        filled = round(fraction * BAR)
        line = f'  [{"#" * filled}{"." * (BAR - filled)}] {fraction:4.0%}  {title}  {info}'
        if self.moves:
            self.stream.write(f'\r{line[:100]:<100}')
        elif int(fraction * 10) != self.tenth:
            self.stream.write(line.rstrip() + '\n')
        self.tenth = int(fraction * 10)
        self.stream.flush()

    def say(self, line: str) -> None:
        """Print a line of its own below the bar."""
        self.stream.write(('\n' if self.moves and self.tenth >= 0 else '') + line + '\n')
        self.stream.flush()


def last_lines(log: Path) -> str:
    """The end of a log, indented."""
    return '\n'.join(f'    {line}' for line in log.read_text(errors='replace').splitlines()[-LAST_LINES:])


@contextlib.contextmanager
def running_server(folder: Path, log: Path, *options: str) -> Iterator[dict]:
    """The annotation server on a folder: yields its `apiUrl`, `token` and `datasets` (name to id); ends it after."""
    with log.open('w') as errors:
        server = subprocess.Popen(
            [sys.executable, '-m', 'annotation_server', str(folder), *options], cwd=ROOT, stdout=subprocess.PIPE,
            stderr=errors, text=True)
    try:
        line = server.stdout.readline() if server.stdout else ''
        if not line:
            sys.exit(f'The annotation server did not start. The end of {log}:\n{last_lines(log)}')
        yield json.loads(line)
    finally:
        server.terminate()
        server.wait()


def run_worker(arguments: list[str], checkpoints: Path, log: Path, program: Path = ROOT / 'entrypoint.py') -> None:
    """Run the worker, show what it tells the user, write the rest to the log.

    Raises SystemExit with the end of the log when the worker fails.
    """
    bar = ProgressBar(sys.stdout)
    environment = {**os.environ, 'SAM_CHECKPOINT_DIR': str(checkpoints)}
    with log.open('w') as errors:
        worker = subprocess.Popen(
            [sys.executable, str(program), *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
            stderr=errors, text=True)
        for line in worker.stdout or []:
            show_message(line, bar)
    if worker.wait():
        sys.exit(f'\nThe worker failed with status {worker.returncode}. The end of {log}:\n{last_lines(log)}')
    if bar.moves and bar.tenth >= 0:
        bar.say('')


def show_message(line: str, bar: ProgressBar) -> None:
    """Show one line of the worker's output as the web page would: a bar, a notice, or the line as it is."""
    try:
        message = json.loads(line)
    except json.JSONDecodeError:
        message = None
    if not isinstance(message, dict):
        bar.say(f'  {line.rstrip()}')
        return
    if 'progress' in message:
        bar.show(message['progress'], message.get('title') or '', message.get('info') or '')
    for kind in ('warning', 'error'):
        if kind in message:
            bar.say(f'  {kind}: {message[kind]} {message.get("info") or ""}'.rstrip())


def read_summary(log: Path) -> dict:
    """The counts and seconds of the `job summary` line that the worker logs when it is done."""
    for line in reversed(log.read_text().splitlines()):
        _, found, summary = line.partition('job summary ')
        if found:
            return json.loads(summary)
    raise ValueError(f'{log} has no line with "job summary": the worker ended without saying what it did')
