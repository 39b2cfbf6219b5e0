"""What a large batch asks of the server: `python -m benchmarks.scale`.

A batch of small frames is split over jobs that run without a model: a stand-in waits a millisecond and outlines what is
bright. This measures the connection to the server: frames, requests, the server's processor and memory.
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
from tests.end_to_end.stand_in import CORNERS, FRAMES, SIDE, draw_frame, outline_example
from tests.worker import make_params

TICKS = 100  # of processor time a second, as the kernel counts


def write_frames(folder: Path, count: int) -> None:
    """A dataset of so many positions, named cells; the same twelve pictures again and again."""
    folder.mkdir()
    for number in range(FRAMES):
        tifffile.imwrite(folder / f'frame{number}.tif', draw_frame(number))
    sources = [{'path': f'frame{number % FRAMES}.tif', 'xy': number} for number in range(count)]
    (folder / 'cells.yml').write_text(json.dumps({'sources': sources}))
    layers = [
        {
            'id': 'a',
            'name': 'a',
            'channel': 0,
            'color': '#FFFFFF',
            'visible': True,
            'contrast': {'mode': 'absolute', 'blackPoint': 0, 'whitePoint': 255},
        }
    ]
    (folder / 'cells.layers.json').write_text(json.dumps({'layers': layers}))


def look_at(process: int) -> tuple[float, int]:
    """Seconds of processor time and megabytes of memory of a process."""
    fields = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS, int(fields[21]) * 4096 // 2**20


def find_server(folder: Path) -> int:
    """The number of the server's process."""
    found = subprocess.run(
        ['pgrep', '-f', f'annotation_server {folder}'], capture_output=True, text=True, check=True
    )
    return int(found.stdout.split()[0])


def run_batch(frames: int, jobs: int, at_once: int) -> None:
    """Run a batch, print what the server bore each ten seconds, and check that every object is there once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / 'data'
        write_frames(folder, frames)
        options = (
            '--worker',
            f'{sys.executable} -m tests.end_to_end.stand_in',
            '--jobs-at-once',
            str(at_once),
        )
        with running_server(folder, Path(name) / 'server.log', *options) as server:
            store = UPennContrastAnnotationClient(server['apiUrl'], server['token'])
            datasetId = server['datasets']['cells']
            store.createMultipleAnnotations([outline_example(datasetId)])
            params = {
                **make_params(
                    **{'Batch XY': 'all', 'Duplicates': 'keep', 'Min Mask Area': 0, 'Jobs': jobs}
                ),
                'tags': ['found'],
            }
            start = time.monotonic()
            store.client.post(
                'upenn_annotation/compute', parameters={'datasetId': datasetId}, json=params
            )
            follow(store, datasetId, find_server(folder), start)
            seconds = time.monotonic() - start
            check(store, datasetId, frames)
            memory = [
                int(found)
                for log in (folder / 'jobs').glob('*.log')
                for found in re.findall(r'(\d+) MB at most', log.read_text())
            ]
        print(
            f'\n{frames} frames, {jobs} jobs, {at_once} at once: {seconds:.0f} s, {frames / seconds:.0f} frames a '
            f'second, {3 * frames / seconds:.0f} requests a second; a worker {max(memory)} MB at most'
        )


def follow(
    store: UPennContrastAnnotationClient, datasetId: str, process: int, start: float
) -> None:
    """Print the server's load until all jobs have ended."""
    print(
        '| Seconds | Jobs running | Frames a second | Server, % of a core | Server, MB |\n|---|---|---|---|---|'
    )
    before, made = look_at(process)[0], 0
    while True:
        time.sleep(10)
        jobs = store.client.get('job')
        count = store.client.get(
            'upenn_annotation/count', parameters={'datasetId': datasetId, 'tags': '["found"]'}
        )['count']
        spent, memory = look_at(process)
        print(
            f'| {time.monotonic() - start:.0f} | {sum(job["status"] == 2 for job in jobs)} | '
            f'{(count - made) / len(CORNERS) / 10:.0f} | {(spent - before) * 10:.0f} | {memory} |',
            flush=True,
        )
        before, made = spent, count
        if all(job['status'] > 2 for job in jobs):
            assert all(job['status'] == 3 for job in jobs), jobs
            return


def check(store: UPennContrastAnnotationClient, datasetId: str, frames: int) -> None:
    """Raise an AssertionError unless every frame has its objects once."""
    made = store.getAnnotationsByDatasetId(datasetId, shape='polygon', tags=['found'])
    places = {
        (
            one['location']['XY'],
            min(point['x'] for point in one['coordinates']),
            min(point['y'] for point in one['coordinates']),
        )
        for one in made
    }
    assert len(made) == len(places) == frames * len(CORNERS), (len(made), len(places))
    assert {xy for xy, *_ in places} == set(range(frames))
    assert np.all([0 <= x < SIDE and 0 <= y < SIDE for _, x, y in places])


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.scale', description=(__doc__ or '').splitlines()[0]
    )
    parser.add_argument('--frames', type=int, default=10_000)
    parser.add_argument('--jobs', type=int, default=8)
    parser.add_argument('--at-once', type=int, default=2, help='as many GPUs as there would be')
    options = parser.parse_args()
    os.environ.setdefault('SAM_CHECKPOINT_DIR', str(ROOT / 'models'))
    run_batch(options.frames, options.jobs, options.at_once)


if __name__ == '__main__':
    main()
