"""The memory of whole jobs of the worker, with the small model: `python -m benchmarks.memory`.

One large frame a job, then many small ones, through the worker's own log. Ends with status 1 above a limit.
"""
import json
import re
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.frames import draw_frame, running_lab
from demo.processes import ROOT, run_worker

LIMITS = {1024: 2500, 8192: 5000}  # MB by the frame's side in pixels
PART = 1024  # pixels of a frame that are repeated all over it: a large frame has many objects, no large ones
POINTS = 64  # per side
BATCH, BATCH_SIDE, BATCH_POINTS = 100, 128, 16
GROWTH = 50  # MB that a batch may add after its second frame


def measure(images: np.ndarray, points: int, part: int | None = None) -> list[int]:
    """The worker's memory in MB, the most from its start to the end of each of the frames, (n, side, side).

    `part` is as for `running_lab`.
    The system counts what this process held when it started the worker as the worker's, so be frugal here.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running_lab(folder, images, part) as lab:
            job = lab.describe_job(points, 'found', **{'Batch XY': 'all'})
            run_worker(['--apiUrl', lab.apiUrl, '--token', lab.token, '--request', 'compute', '--datasetId',
                        lab.datasetId, '--parameters', json.dumps(job)], ROOT / 'models', folder / 'worker.log')
        return [int(memory) for memory in re.findall(r'(\d+) MB at most', (folder / 'worker.log').read_text())]


def draw_batch(count: int, side: int) -> np.ndarray:
    """Small frames that differ, the first of them `draw_frame(side)`: (count, side, side)."""
    frame = draw_frame(side)
    return np.stack([np.roll(frame, number, axis=1) for number in range(count)])


def main() -> None:
    """Measure, print, and end with status 1 where a limit is passed."""
    problems = []
    for side, limit in LIMITS.items():
        most = measure(np.tile(draw_frame(PART), (side // PART, side // PART))[None], POINTS, PART)[-1]
        print(f'{side}×{side}, {POINTS} points per side: {most} MB at most, limit {limit}', flush=True)
        problems += [f'A frame of {side}×{side} takes {most} MB.'] if most > limit else []
    after = measure(draw_batch(BATCH, BATCH_SIDE), BATCH_POINTS)
    print(f'{BATCH} frames of {BATCH_SIDE}×{BATCH_SIDE}, {BATCH_POINTS} points per side: {after[1]} MB at most after '
          f'frame 2, {after[-1]} MB after frame {len(after)}')
    problems += [f'A batch grows by {after[-1] - after[1]} MB.'] if after[-1] - after[1] > GROWTH else []
    sys.exit(' '.join(problems) or None)


if __name__ == '__main__':
    main()
