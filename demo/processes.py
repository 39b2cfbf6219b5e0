"""The two programs that the demo starts: the annotation server and the worker."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).parents[1]
BAR_FORMAT = '  {percentage:3.0f}% |{bar:24}| {desc}'
LAST_LINES = 15  # of a log, shown when a program fails


def last_lines(log: Path) -> str:
    """Return the end of a log, indented."""
    lines = log.read_text(errors='replace').splitlines()
    return '\n'.join(f'    {line}' for line in lines[-LAST_LINES:])


@contextlib.contextmanager
def running_server(folder: Path, log: Path, *options: str) -> Iterator[dict]:
    """Run the annotation server on a folder.

    Yields
    ------
    dict
        Its `apiUrl`, `token` and `datasets` ({name: id}).
    """
    with log.open('w') as errors:
        server = subprocess.Popen(
            [sys.executable, '-m', 'annotation_server', str(folder), '--json', *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        line = server.stdout.readline() if server.stdout else ''
        if not line:
            sys.exit(f'The annotation server did not start. The end of {log}:\n{last_lines(log)}')
        yield json.loads(line)
    finally:
        server.terminate()
        server.wait()


def show_in_page(folder: Path, is_terminal: bool) -> None:
    """Serve a folder and its page until the user presses Ctrl+C. The server prints the link.

    Without a terminal nobody could press it. Then only the command is printed.
    """
    if not is_terminal:
        print(f'\nLook at the result in a page: make try FOLDER={os.path.relpath(folder, ROOT)}')
        return
    print('\nLook at the result in a page. Press Ctrl+C to end it.', flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # the server gets it too, and ends
        subprocess.run([sys.executable, '-m', 'annotation_server', str(folder)], cwd=ROOT)


def run_worker(
    arguments: list[str], checkpoints: Path, log: Path, program: Path = ROOT / 'entrypoint.py'
) -> None:
    """Run the worker, show its messages, and write the rest to the log.

    Raises
    ------
    SystemExit
        The worker failed. The text has the end of the log.
    """
    environment = {**os.environ, 'SAM_CHECKPOINT_DIR': str(checkpoints)}
    with log.open('w') as errors:
        worker = subprocess.Popen(
            [sys.executable, str(program), *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        with tqdm(total=1, bar_format=BAR_FORMAT, file=sys.stdout, disable=None) as bar:
            for line in worker.stdout or []:
                show_message(line, bar)
    if worker.wait():
        sys.exit(
            f'The worker failed with status {worker.returncode}. '
            f'The end of {log}:\n{last_lines(log)}'
        )


def show_message(line: str, bar: tqdm) -> None:
    """Show one line of the worker's output: progress, a notice, or the line as it is."""
    try:
        message = json.loads(line)
    except json.JSONDecodeError:
        message = None
    if not isinstance(message, dict):
        write_above(f'  {line.rstrip()}', bar)
        return
    if 'progress' in message:
        bar.n = message['progress']
        bar.set_description_str(f'{message.get("title") or ""}  {message.get("info") or ""}')
    for kind in ('warning', 'error'):
        if kind in message:
            text = f'  {kind}: {message[kind]} {message.get("info") or ""}'
            write_above(text.rstrip(), bar)


def write_above(text: str, bar: tqdm) -> None:
    """Write a line of its own above the bar."""
    bar.write(text, file=sys.stdout)


def read_summary(log: Path) -> dict:
    """Return the counts and seconds of the line `job summary` in the worker's log."""
    for line in reversed(log.read_text().splitlines()):
        _, found, summary = line.partition('job summary ')
        if found:
            return json.loads(summary)
    raise ValueError(f'{log} has no line with "job summary". Read it for the reason.')
