"""One measured job in a process of its own: `python -m benchmarks.job specified|worker FOLDER`, the job on stdin.

The job is JSON: apiUrl, token, datasetId and params. FOLDER gets findings.npz and costs.json.
"""

import contextlib
import importlib
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from annotation_client.connection import DEFAULT_PATIENCE, keep_alive_session
from fewshot.reporting.state import Stopwatch

if TYPE_CHECKING:
    from benchmarks.findings import Findings

STEPS = ('load', 'prototype', 'download', 'propose', 'describe', 'upload')


@dataclass(frozen=True)
class Costs:
    """What one job took."""

    seconds: dict[str, float]  # by step, those of STEPS and `rest`
    memory: float  # most above the loaded model, MB
    requests: int
    traffic: float  # bodies of requests and answers, MB

    @property
    def total(self) -> float:
        """Seconds without loading the model."""
        return sum(self.seconds.values()) - self.seconds['load']

    @property
    def other(self) -> float:
        """Seconds of what is neither loading the model, nor proposing, nor describing."""
        return self.total - self.seconds['propose'] - self.seconds['describe']


def read_memory(name: str) -> float:
    """This process's memory in MB: VmRSS now, VmHWM the most since the start or the last `forget_most_memory`."""
    found = re.search(rf'{name}:\s+(\d+) kB', Path('/proc/self/status').read_text())
    assert found, f'/proc/self/status has no {name}'
    return int(found[1]) / 1024


def forget_most_memory() -> None:
    """Let VmHWM count from what this process holds now."""
    Path('/proc/self/clear_refs').write_text('5')


@contextlib.contextmanager
def counting(sizes: list[int]) -> Iterator[None]:
    """Within the block, append the size in bytes of each request to the server, with that of its answer."""

    def count(response: requests.Response, *_: object, **__: object) -> None:
        sent = response.request.body or b''
        assert isinstance(sent, str | bytes)
        sizes.append(len(sent) + len(response.content))

    hooks = keep_alive_session(DEFAULT_PATIENCE).hooks['response']
    hooks.append(count)
    try:
        yield
    finally:
        hooks.remove(count)


def run(side: str, job: dict) -> 'tuple[Findings, Costs]':
    """Run a job by the module of that name, and measure it."""
    stopwatch = Stopwatch(time.monotonic)
    sizes: list[int] = []
    held: list[float] = []

    def loaded() -> None:
        forget_most_memory()
        held.append(read_memory('VmRSS'))

    start = time.monotonic()
    with stopwatch.time('load'):
        module = importlib.import_module(f'benchmarks.{side}')
    with counting(sizes):
        findings = module.run(**job, stopwatch=stopwatch, loaded=loaded)
    rest = time.monotonic() - start - sum(stopwatch.seconds.values())
    seconds = {**{step: stopwatch.seconds[step] for step in STEPS}, 'rest': rest}
    return findings, Costs(seconds, read_memory('VmHWM') - held[0], len(sizes), sum(sizes) / 1e6)


if __name__ == '__main__':
    side, folder = sys.argv[1], Path(sys.argv[2])
    findings, costs = run(side, json.load(sys.stdin))
    from benchmarks.findings import save_findings

    save_findings(findings, folder / 'findings.npz')
    (folder / 'costs.json').write_text(json.dumps(asdict(costs)))
