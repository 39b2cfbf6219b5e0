"""Measure the memory of whole jobs of the worker, with the small model.

    python -m benchmarks.memory

There is one job per large frame, one for a large frame in tiles, and one for a batch of small
frames. The figures come from the worker's log. The exit status is 1 if a limit is exceeded.
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
from fewshot.settings import FASTEST

LIMITS = {1024: 2500, 8192: 5000}  # MB by the frame's side in pixels
# Pixels of the part that is repeated to fill a large frame. So the frame has many objects, and
# they are as large as in a small frame.
PART = 1024
POINTS = 64  # per side
TILED_SIDE, TILE_SIZE, TILE_POINTS = 20 * PART, 2 * PART, 16
BATCH, BATCH_SIDE, BATCH_POINTS = 100, 128, 16
GROWTH = 50  # MB that a batch may add after its second frame
# MB that tiles may add to a frame of their size. The next tile is loaded during the search.
TILED_GROWTH = 150


def measure(draw: Callable[[], np.ndarray], part: int, points: int, **changes: Any) -> list[int]:
    """Run a job on all frames, and measure the worker's maximum memory.

    Parameters
    ----------
    draw : callable
        Returns the frames, (N, side, side). It must be possible to pickle it.
    part : int
        Pixels. The upper left square of the first frame with this side is `draw_frame(part)`.
    points : int
        Points per side.
    **changes
        Values of the form.

    Returns
    -------
    list of int
        The maximum in MB from the start of the worker to the end of each frame.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Frames are drawn in another process, because the system adds the maximum of this
        # process to the worker's.
        with ProcessPoolExecutor(1) as other:
            other.submit(write_frames, folder / 'data', draw).result()
        with running_lab(folder / 'data', part) as lab:
            job = lab.describe_job(points, 'found', **{'Batch XY': 'all', **changes})
            access = ['--apiUrl', lab.apiUrl, '--token', lab.token]
            request = ['--request', 'compute', '--datasetId', lab.datasetId]
            run_worker(
                [*access, *request, '--parameters', json.dumps(job)],
                ROOT / 'models',
                folder / 'worker.log',
            )
        log = (folder / 'worker.log').read_text()
    return [int(memory) for memory in re.findall(r'(\d+) MB at most', log)]


def write_frames(data: Path, draw: Callable[[], np.ndarray]) -> None:
    """Draw frames and write them to a folder."""
    write_dataset(data, draw())


def draw_large(side: int) -> np.ndarray:
    """Return one frame, (1, side, side), that repeats `draw_frame(PART)`."""
    return np.tile(draw_frame(PART), (side // PART, side // PART))[None]


def draw_batch(count: int, side: int) -> np.ndarray:
    """Return small frames that differ, (count, side, side). The first is `draw_frame(side)`."""
    frame = draw_frame(side)
    return np.stack([np.roll(frame, number, axis=1) for number in range(count)])


def main() -> None:
    """Measure, print, and exit with status 1 if a limit is exceeded."""
    problems = []
    for side, limit in LIMITS.items():
        most = measure(partial(draw_large, side), PART, POINTS)[-1]
        print(
            f'{side}×{side}, {POINTS} points per side: {most} MB at most, limit {limit} MB',
            flush=True,
        )
        if most > limit:
            problems.append(f'A frame of {side}×{side} takes {most} MB. The limit is {limit} MB.')

    # With the features of the whole frame or tile. To encode every object would take hours.
    tiles = {'Tile Size': TILE_SIZE, 'Speed': FASTEST}
    whole = measure(partial(draw_large, TILE_SIZE), PART, TILE_POINTS, **tiles)[-1]
    tiled = measure(partial(draw_large, TILED_SIDE), PART, TILE_POINTS, **tiles)[-1]
    print(
        f'{TILE_SIZE}×{TILE_SIZE}, {TILE_POINTS} points per side: {whole} MB at most; '
        f'{TILED_SIDE}×{TILED_SIDE} in tiles of that size: {tiled} MB at most',
        flush=True,
    )
    if tiled - whole > TILED_GROWTH:
        problems.append(f'Tiles add {tiled - whole} MB. The limit is {TILED_GROWTH} MB.')

    batch = partial(draw_batch, BATCH, BATCH_SIDE)
    after = measure(batch, BATCH_SIDE, BATCH_POINTS, Speed=FASTEST)
    growth = after[-1] - after[1]
    print(
        f'{BATCH} frames of {BATCH_SIDE}×{BATCH_SIDE}, {BATCH_POINTS} points per side: '
        f'{after[1]} MB at most after frame 2, {after[-1]} MB after frame {len(after)}'
    )
    if growth > GROWTH:
        problems.append(f'The batch adds {growth} MB after frame 2. The limit is {GROWTH} MB.')
    sys.exit(' '.join(problems) or None)


if __name__ == '__main__':
    main()
