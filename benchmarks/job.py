"""Measure one job in its own process: `python -m benchmarks.job specified|worker FOLDER`.

The standard input has the job as JSON: apiUrl, token, datasetId and params. The module writes
findings.npz and costs.json to FOLDER.
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
    """The costs of one job.

    Attributes
    ----------
    seconds : dict
        By step: those of STEPS, and `rest`.
    memory : float
        The maximum above the memory of the loaded model, MB.
    requests : int
    traffic : float
        Bodies of requests and answers, MB.
    gpu_memory : float
        The maximum that PyTorch reserved, MB. 0 without a GPU.
    """

    seconds: dict[str, float]
    memory: float
    requests: int
    traffic: float
    gpu_memory: float = 0.0

    @property
    def total(self) -> float:
        """Seconds without loading the model."""
        return sum(self.seconds.values()) - self.seconds['load']

    @property
    def other(self) -> float:
        """Seconds of all steps except loading the model, proposing and describing."""
        return self.total - self.seconds['propose'] - self.seconds['describe']


def read_memory(name: str) -> float:
    """Read the memory of this process in MB.

    Parameters
    ----------
    name : str
        VmRSS for the present memory, VmHWM for the maximum since the start or since the last
        call of `forget_most_memory`.
    """
    found = re.search(rf'{name}:\s+(\d+) kB', Path('/proc/self/status').read_text())
    assert found, f'/proc/self/status has no {name}'
    return int(found[1]) / 1024


def forget_most_memory() -> None:
    """Reset VmHWM to the present memory of this process."""
    Path('/proc/self/clear_refs').write_text('5')


@contextlib.contextmanager
def counting(sizes: list[int]) -> Iterator[None]:
    """Append to `sizes` the bytes of each request to the server and its answer, in the block."""

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


def read_gpu_memory() -> float:
    """Return the most memory of the GPU that PyTorch reserved in this process, MB."""
    import torch

    return torch.cuda.max_memory_reserved() / 1e6 if torch.cuda.is_available() else 0.0


def run(side: str, job: dict) -> 'tuple[Findings, Costs]':
    """Run a job with the module `benchmarks.specified` or `benchmarks.worker`, and measure it."""
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
    memory = read_memory('VmHWM') - held[0]
    traffic = sum(sizes) / 1e6
    return findings, Costs(seconds, memory, len(sizes), traffic, read_gpu_memory())


if __name__ == '__main__':
    side, folder = sys.argv[1], Path(sys.argv[2])
    findings, costs = run(side, json.load(sys.stdin))
    from benchmarks.findings import save_findings

    save_findings(findings, folder / 'findings.npz')
    (folder / 'costs.json').write_text(json.dumps(asdict(costs)))
