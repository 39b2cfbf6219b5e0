"""Compare a second run with another threshold with the first: `python -m benchmarks.repeated`.

Both are worker processes on one frame, and their seconds include the start of the process. The
first computes everything, the second uses the proposals that the first stored. For the small model
a fresh run with the second threshold follows, and its outlines and scores must be the same. The
exit status is 1 if they differ or a limit is exceeded. `make bench` runs this module.

At the size of ViT-B the weights are random. The thresholds are chosen so that they find masks.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import entrypoint
from demo.processes import ROOT
from fewshot.sam.checkpoints import KNOWN, Checkpoint, Costs
from fewshot.store.files import ITEM, SWITCH

if TYPE_CHECKING:
    from benchmarks.frames import Lab
    from fewshot.sam.segmenter import Segmenter

SIDE = 1024  # of the frame, pixels
POINTS, REAL_POINTS = 64, 32  # per side, for the small model and at the size of ViT-B
FASTER, REAL_FASTER = 20, 100  # at least
MAX_SECONDS, MAX_MEMORY_MB = 3, 400  # of the second run with the small model
THRESHOLDS = 0.5, 0.85
RANDOM_NMS = 0.1  # box NMS for random weights; few masks, because each takes seconds to describe
# The program of a job at the size of ViT-B gets its checkpoint from this environment variable.
RANDOM = 'BENCHMARK_RANDOM_CHECKPOINT'


@dataclass(frozen=True)
class Run:
    """A run of the worker."""

    seconds: float
    memory: int  # MB at most
    objects: list[tuple]  # outline and scores of each


def run_worker(lab: 'Lab', tag: str, params: dict, program: list[str], **environment: str) -> Run:
    """Run a worker process and wait for its end.

    Raises
    ------
    SystemExit
        The worker failed.
    """
    access = ['--apiUrl', lab.apiUrl, '--token', lab.token]
    job = ['--request', 'compute', '--datasetId', lab.datasetId, '--parameters', json.dumps(params)]
    # The system would count the memory of this process for its child, but not for the child's.
    command = ['sh', '-c', '"$@"; exit $?', 'sh', sys.executable, *program, *access, *job]
    start = time.monotonic()
    ended = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, 'SAM_CHECKPOINT_DIR': str(ROOT / 'models'), **environment},
    )
    seconds = time.monotonic() - start
    if ended.returncode:
        sys.exit(f'The worker failed. The end of its log:\n{ended.stderr[-2000:]}')
    (memory,) = re.findall(r'(\d+) MB at most', ended.stderr)
    return Run(seconds, int(memory), read_objects(lab, tag))


def read_objects(lab: 'Lab', tag: str) -> list[tuple]:
    """Return outline and scores of each object with a tag, oldest first."""
    client = lab.store.client
    values = client.get(
        'annotation_property_values', parameters={'datasetId': lab.datasetId, 'limit': 0}
    )
    scores = {one['annotationId']: [*one['values'].values()] for one in values}
    found = lab.store.getAnnotationsByDatasetId(lab.datasetId, shape='polygon', tags=[tag])
    return [(one['coordinates'], scores[one['_id']]) for one in found]


def measure_stored(lab: 'Lab') -> int:
    """Return the bytes of all files in the store."""
    client = lab.store.client
    query = {'folderId': lab.datasetId, 'name': ITEM, 'limit': 1}
    (item,) = client.get('item', parameters=query)
    files = client.get(f'item/{item["_id"]}/files', parameters={'limit': 0})
    return sum(one['size'] for one in files)


def compare(
    lab: 'Lab', side: int, points: int, program: list[str], with_fresh: bool, **environment: str
) -> tuple[Run, Run, bool]:
    """Run twice, print the costs, and return both runs and whether a fresh run finds the same."""
    runs = []
    for tag, threshold in zip(('first', 'second'), THRESHOLDS, strict=True):
        changes: dict[str, Any] = {'Similarity Threshold': threshold}
        params = lab.describe_job(points, tag, **changes)
        if environment:
            params['workerInterface']['Model'] = json.loads(environment[RANDOM])['name']
        runs.append(run_worker(lab, tag, params, program, **environment))
        if tag == 'first':
            stored = measure_stored(lab)
    first, second = runs
    print(
        f'{side}×{side}, {points} points per side: {first.seconds:.1f} → {second.seconds:.2f} s, '
        f'{first.seconds / second.seconds:.0f}× faster, {first.memory} → {second.memory} MB, '
        f'{len(first.objects)} → {len(second.objects)} objects, {stored / 1e6:.2f} MB stored',
        flush=True,
    )
    is_same = True
    if with_fresh:
        params = lab.describe_job(points, 'fresh', **changes)
        fresh = run_worker(lab, 'fresh', params, program, **{SWITCH: '0'})
        is_same = fresh.objects == second.objects
        print(f'A fresh run finds {"the same" if is_same else "other objects or scores"}.')
    return first, second, is_same


def make_random_checkpoint(folder: Path) -> tuple[Checkpoint, float]:
    """Write random weights of ViT-B's size. Return the checkpoint and the logit of its masks."""
    import hashlib

    from segment_anything import SamPredictor

    from benchmarks.frames import draw_frame
    from benchmarks.real_sizes import VIT_B, settle_cuts, write_random_weights
    from demo.dataset import color_picture
    from fewshot.sam.features import encode_image_with_sam1
    from fewshot.sam.model import load_model

    checkpoint = replace(VIT_B, name='sam_vit_b_random')
    path = folder / checkpoint.file
    write_random_weights(checkpoint, path)
    with path.open('rb') as file:
        sha256 = hashlib.file_digest(file, 'sha256').hexdigest()
    rgb = color_picture(draw_frame(SIDE))
    predictor = SamPredictor(load_model(checkpoint, str(path)))
    features = encode_image_with_sam1(predictor, rgb)
    cut, mask_threshold = settle_cuts(predictor, features, random=True)
    return replace(
        checkpoint,
        pred_iou_thresh=cut,
        stability_score_thresh=0.0,
        box_nms_thresh=RANDOM_NMS,
        size=path.stat().st_size,
        sha256=sha256,
    ), mask_threshold


def write_checkpoint(checkpoint: Checkpoint, mask_threshold: float) -> str:
    """Return a checkpoint and the logit of its masks as JSON."""
    return json.dumps({**asdict(checkpoint), 'mask_threshold': mask_threshold})


def read_checkpoint(text: str) -> tuple[Checkpoint, float]:
    """Return what `write_checkpoint` wrote."""
    values = json.loads(text)
    mask_threshold = values.pop('mask_threshold')
    values['global_blocks'] = tuple(values['global_blocks'])
    values['costs'] = Costs(*values['costs'])
    return Checkpoint(**values), mask_threshold


def run_random() -> None:
    """Run the worker with the checkpoint in the environment."""
    checkpoint, mask_threshold = read_checkpoint(os.environ[RANDOM])
    KNOWN[checkpoint.name] = checkpoint

    def load(*arguments: Any) -> 'Segmenter':
        from segment_anything.modeling import Sam

        Sam.mask_threshold = mask_threshold
        return entrypoint.load_segmenter(*arguments)

    entrypoint.main(load_segmenter=load)


def measure(side: int = SIDE, points: int = POINTS, with_real_sizes: bool = True) -> list[str]:
    """Measure, print, and return what is not as it should be."""
    from benchmarks.frames import draw_frame, running_lab
    from demo.dataset import write_dataset

    problems = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / 'data', draw_frame(side)[None])
        with running_lab(folder / 'data', side) as lab:
            first, second, is_same = compare(lab, side, points, ['entrypoint.py'], with_fresh=True)
        if not is_same:
            problems.append('The second run differs from a fresh one.')
        if first.seconds < FASTER * second.seconds or second.seconds > MAX_SECONDS:
            problems.append(f'The second run takes {second.seconds:.1f} s.')
        if second.memory > MAX_MEMORY_MB:
            problems.append(f'The second run needs {second.memory} MB.')
    if not with_real_sizes:
        return problems
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values = write_checkpoint(*make_random_checkpoint(folder))
        write_dataset(folder / 'data', draw_frame(SIDE)[None])
        print('ViT-B with random weights:')
        with running_lab(folder / 'data', SIDE) as lab:
            first, second, _ = compare(
                lab,
                SIDE,
                REAL_POINTS,
                ['-m', 'benchmarks.repeated'],
                with_fresh=False,
                SAM_CHECKPOINT_DIR=str(folder),
                **{RANDOM: values},
            )
        if first.seconds < REAL_FASTER * second.seconds:
            problems.append(f'At the size of ViT-B the second run takes {second.seconds:.1f} s.')
    return problems


def main(measure: Callable[[], list[str]] = measure) -> None:
    """Measure, and exit with status 1 if a limit is exceeded."""
    problems = measure()
    if problems:
        sys.exit(' '.join(problems))
    print('The second run finds what a fresh run finds, within the limits.')


if __name__ == '__main__':
    if RANDOM in os.environ:
        run_random()
    else:
        main()
