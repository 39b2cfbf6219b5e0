"""The memory of whole jobs of the worker, with the small model: `python -m benchmarks.memory`.

Large frames at once and in tiles, a job each, then many small ones in a job, through the worker's own log. Ends with
status 1 above a limit.
"""

import json
import re
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.frames import draw_frame, running_lab
from demo.dataset import write_dataset
from demo.processes import ROOT, run_worker

LIMITS = {1024: 2500, 8192: 5000}  # MB by the frame's side in pixels
PART = 1024  # pixels of a frame that are repeated all over it: a large frame has many objects, no large ones
POINTS = 64  # per side
TILED_SIDE, TILE_SIZE, TILE_POINTS = 20 * PART, 2 * PART, 16
BATCH, BATCH_SIDE, BATCH_POINTS = 100, 128, 16
GROWTH = 50  # MB that a batch may add after its second frame
TILED_GROWTH = (
    150  # MB that tiles may add to a frame of their size: one is loaded while another is searched
)


def measure(draw: Callable[[], np.ndarray], part: int, points: int, **changes: Any) -> list[int]:
    """The worker's memory in MB, the most from its start to the end of each frame.

    Parameters
    ----------
    draw : a function that can be pickled and gives the frames, (n, side, side)
    part : pixels of the first frame, from its upper left corner, that are `draw_frame(part)`
    changes : to the form
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ProcessPoolExecutor(
            1
        ) as other:  # the system counts what this process ever held as the worker's
            other.submit(write_frames, folder / 'data', draw).result()
        with running_lab(folder / 'data', part) as lab:
            job = lab.describe_job(points, 'found', **{'Batch XY': 'all', **changes})
            run_worker(
                [
                    '--apiUrl',
                    lab.apiUrl,
                    '--token',
                    lab.token,
                    '--request',
                    'compute',
                    '--datasetId',
                    lab.datasetId,
                    '--parameters',
                    json.dumps(job),
                ],
                ROOT / 'models',
                folder / 'worker.log',
            )
        return [
            int(memory)
            for memory in re.findall(r'(\d+) MB at most', (folder / 'worker.log').read_text())
        ]


def write_frames(data: Path, draw: Callable[[], np.ndarray]) -> None:
    """Draw frames and write them to a folder."""
    write_dataset(data, draw())


def draw_large(side: int) -> np.ndarray:
    """One frame, (1, side, side), that repeats `draw_frame(PART)`."""
    return np.tile(draw_frame(PART), (side // PART, side // PART))[None]


def draw_batch(count: int, side: int) -> np.ndarray:
    """Small frames that differ, the first of them `draw_frame(side)`: (count, side, side)."""
    frame = draw_frame(side)
    return np.stack([np.roll(frame, number, axis=1) for number in range(count)])


def main() -> None:
    """Measure, print, and end with status 1 where a limit is passed."""
    problems = []
    for side, limit in LIMITS.items():
        most = measure(partial(draw_large, side), PART, POINTS)[-1]
        print(
            f'{side}×{side}, {POINTS} points per side: {most} MB at most, limit {limit}', flush=True
        )
        problems += [f'A frame of {side}×{side} takes {most} MB.'] if most > limit else []
    whole, tiled = (
        measure(partial(draw_large, side), PART, TILE_POINTS, **{'Tile Size': TILE_SIZE})[-1]
        for side in (TILE_SIZE, TILED_SIDE)
    )
    print(
        f'{TILE_SIZE}×{TILE_SIZE}, {TILE_POINTS} points per side: {whole} MB at most; {TILED_SIDE}×{TILED_SIDE} in '
        f'tiles of that size: {tiled} MB',
        flush=True,
    )
    problems += [f'Tiles add {tiled - whole} MB.'] if tiled - whole > TILED_GROWTH else []
    after = measure(partial(draw_batch, BATCH, BATCH_SIDE), BATCH_SIDE, BATCH_POINTS)
    print(
        f'{BATCH} frames of {BATCH_SIDE}×{BATCH_SIDE}, {BATCH_POINTS} points per side: {after[1]} MB at most after '
        f'frame 2, {after[-1]} MB after frame {len(after)}'
    )
    problems += (
        [f'A batch grows by {after[-1] - after[1]} MB.'] if after[-1] - after[1] > GROWTH else []
    )
    sys.exit(' '.join(problems) or None)


if __name__ == '__main__':
    main()
