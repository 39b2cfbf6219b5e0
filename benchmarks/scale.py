"""Measure the load of a large batch on the server: `python -m benchmarks.scale`.

A batch of small frames is split into jobs that run without a model. A replacement for the model
waits a millisecond per frame and outlines bright objects. So the module measures the connection
to the server: frames and requests per second, and the server's processor time and memory.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from annotation_client.annotations import UPennContrastAnnotationClient
from demo.processes import ROOT, running_server
from fewshot.settings import KEEP
from tests.end_to_end.stand_in import CORNERS, FRAMES, SIDE, draw_frame, outline_example
from tests.worker import make_params

TICKS = 100  # of processor time per second, as the kernel counts


def write_frames(folder: Path, count: int) -> None:
    """Write a dataset named cells with `count` positions, which repeat FRAMES pictures."""
    folder.mkdir()
    for number in range(FRAMES):
        tifffile.imwrite(folder / f'frame{number}.tif', draw_frame(number))
    sources = [{'path': f'frame{number % FRAMES}.tif', 'xy': number} for number in range(count)]
    (folder / 'cells.yml').write_text(json.dumps({'sources': sources}))
    layer = {
        'id': 'a',
        'name': 'a',
        'channel': 0,
        'color': '#FFFFFF',
        'visible': True,
        'contrast': {'mode': 'absolute', 'blackPoint': 0, 'whitePoint': 255},
    }
    (folder / 'cells.layers.json').write_text(json.dumps({'layers': [layer]}))


def look_at(process: int) -> tuple[float, int]:
    """Return the seconds of processor time and the megabytes of memory of a process."""
    _, _, after_name = Path(f'/proc/{process}/stat').read_text().rpartition(')')
    fields = after_name.split()
    ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])
    return ticks / TICKS, pages * 4096 // 2**20


def find_server(folder: Path) -> int:
    """Return the process number of the server on a folder."""
    found = subprocess.run(
        ['pgrep', '-f', f'annotation_server {folder}'], capture_output=True, text=True, check=True
    )
    return int(found.stdout.split()[0])


def run_batch(frames: int, jobs: int, at_once: int) -> None:
    """Run a batch, print the server's load, and check that the server has every object once.

    Parameters
    ----------
    frames : int
    jobs : int
        Jobs into which the batch is split.
    at_once : int
        Jobs that run at a time.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / 'data'
        write_frames(folder, frames)
        worker = f'{sys.executable} -m tests.end_to_end.stand_in'
        options = ('--worker', worker, '--jobs-at-once', str(at_once))
        with running_server(folder, Path(name) / 'server.log', *options) as server:
            store = UPennContrastAnnotationClient(server['apiUrl'], server['token'])
            datasetId = server['datasets']['cells']
            store.createMultipleAnnotations([outline_example(datasetId)])
            settings = {
                'Batch XY': 'all',
                'Existing Outlines': KEEP,
                'Min Mask Area': 0,
                'Jobs': jobs,
            }
            params = {**make_params(**settings), 'tags': ['found']}
            start = time.monotonic()
            store.client.post(
                'upenn_annotation/compute', parameters={'datasetId': datasetId}, json=params
            )
            follow(store, datasetId, find_server(folder), start)
            seconds = time.monotonic() - start
            check(store, datasetId, frames)
            logs = ''.join(log.read_text() for log in (folder / 'jobs').glob('*.log'))
            memory = [int(found) for found in re.findall(r'(\d+) MB at most', logs)]
        print(
            f'\n{frames} frames, {jobs} jobs, {at_once} at once: {seconds:.0f} s, '
            f'{frames / seconds:.0f} frames per second, '
            f'{3 * frames / seconds:.0f} requests per second; a worker {max(memory)} MB at most'
        )


def follow(
    store: UPennContrastAnnotationClient, datasetId: str, process: int, start: float
) -> None:
    """Print the server's load every ten seconds until all jobs have ended.

    Parameters
    ----------
    store : UPennContrastAnnotationClient
    datasetId : str
    process : int
        The server's process.
    start : float
        Time of the monotonic clock from which seconds count.
    """
    print('| Seconds | Jobs running | Frames per second | Server, % of a core | Server, MB |')
    print('|---|---|---|---|---|')
    before, _ = look_at(process)
    made = 0
    while True:
        time.sleep(10)
        jobs = store.client.get('job')
        count = store.client.get(
            'upenn_annotation/count', parameters={'datasetId': datasetId, 'tags': '["found"]'}
        )['count']
        spent, memory = look_at(process)
        seconds = time.monotonic() - start
        running = sum(job['status'] == 2 for job in jobs)
        frames_per_second = (count - made) / len(CORNERS) / 10
        percent = (spent - before) * 10
        print(
            f'| {seconds:.0f} | {running} | {frames_per_second:.0f} | {percent:.0f} | {memory} |',
            flush=True,
        )
        before, made = spent, count
        if all(job['status'] > 2 for job in jobs):
            assert all(job['status'] == 3 for job in jobs), jobs
            return


def check(store: UPennContrastAnnotationClient, datasetId: str, frames: int) -> None:
    """Check that every frame has its objects once.

    Raises
    ------
    AssertionError
        An object is missing, is there twice, or lies outside its frame.
    """
    made = store.getAnnotationsByDatasetId(datasetId, shape='polygon', tags=['found'])
    places = set()
    for one in made:
        x = min(point['x'] for point in one['coordinates'])
        y = min(point['y'] for point in one['coordinates'])
        places.add((one['location']['XY'], x, y))
    assert len(made) == len(places) == frames * len(CORNERS), (len(made), len(places))
    assert {xy for xy, *_ in places} == set(range(frames))
    assert np.all([0 <= x < SIDE and 0 <= y < SIDE for _, x, y in places])


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.scale', description=(__doc__ or '').splitlines()[0]
    )
    parser.add_argument('--frames', type=int, default=10_000, help='default: 10000')
    parser.add_argument('--jobs', type=int, default=8, help='jobs of the batch (default: 8)')
    parser.add_argument(
        '--at-once', type=int, default=2, help='jobs that run at a time (default: 2)'
    )
    options = parser.parse_args()
    os.environ.setdefault('SAM_CHECKPOINT_DIR', str(ROOT / 'models'))
    run_batch(options.frames, options.jobs, options.at_once)


if __name__ == '__main__':
    main()
