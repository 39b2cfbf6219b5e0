"""The worker as the server starts it, for tests: its arguments, its process, what it prints."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
NOWHERE = 'http://127.0.0.1:9/api/v1'  # nothing listens there


@dataclass(frozen=True)
class Ended:
    """A worker process that has ended."""

    status: int
    messages: list[dict[str, Any]]  # the JSON lines of stdout
    log: str  # stderr

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the messages of a kind: progress, warning or error."""
        return [message for message in self.messages if kind in message]


def make_params(**changes: Any) -> dict[str, Any]:
    """Return a job's parameters as the server sends them. `changes` replace values of the form."""
    form = {
        'Training Tag': ['example'],
        'Batch XY': '',
        'Batch Z': '',
        'Batch Time': '',
        'Model': 'sam_vit_mini2',
        'Similarity Threshold': 0.5,
        'Target Occupancy': 0.2,
        'Points per side': 16,
        'Min Mask Area': 30,
        'Max Mask Area': 0,
        'Smoothing': 0.3,
    }
    return {
        'type': 'segmentation',
        'id': 'b1946ac9-2492-4d23-8e1f-3a1c5f9d0e77',
        'name': 'My cells',
        'image': 'sam_fewshot:latest',
        'channel': 0,
        'assignment': {'XY': 0, 'Z': 0, 'Time': 0},
        'tags': ['cell'],
        'tile': {'XY': 0, 'Z': 0, 'Time': 0},
        'connectTo': {'tags': [], 'layer': None, 'channel': None},
        'workerInterface': {**form, **changes},
        'scales': {'pixelSize': {'value': 0.000325, 'unit': 'mm'}},
    }


def run_worker(
    request: str,
    parameters: Any,
    apiUrl: str = NOWHERE,
    token: str = 'no-token',
    datasetId: str | None = None,
    checkpoints: Path = REPOSITORY / 'models',
) -> Ended:
    """Run `entrypoint.py` as a process and wait. `parameters` may be text that is not JSON."""
    text = parameters if isinstance(parameters, str) else json.dumps(parameters)
    command = [
        sys.executable,
        'entrypoint.py',
        '--apiUrl',
        apiUrl,
        '--token',
        token,
        '--request',
        request,
        '--parameters',
        text,
        *(['--datasetId', datasetId] if datasetId else []),
    ]
    ended = subprocess.run(
        command,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, 'SAM_CHECKPOINT_DIR': str(checkpoints)},
    )
    return Ended(
        ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()], ended.stderr
    )
