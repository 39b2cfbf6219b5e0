"""Run the worker's main job on a labelled image, without NimbusImage: `python -m demo`.

The demo uploads outlines of nuclei to an annotation server, as a user would draw them. The worker
finds the other nuclei. The demo compares the result with the labels, prints a table, and draws
demo/out/overlay.png.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from annotation_client.annotations import UPennContrastAnnotationClient
from demo.dataset import (
    NAME,
    Example,
    choose_examples,
    forget_examples,
    read_image,
    to_annotation,
    to_outline,
    write_dataset,
)
from demo.picture import draw_picture
from demo.processes import ROOT, read_summary, run_worker, running_server, show_in_page
from demo.scoring import IOU, STRICT_IOU, Score, score
from fewshot.settings import FAST

OUT = Path(__file__).parent / 'out'
IMAGE = 'sam-fewshot:demo'  # the worker's name on the server
EXAMPLE_TAG, FOUND_TAG = 'example', 'nucleus'
EXAMPLES = 8
SMALL_MODEL = 'sam_vit_mini2'
POINTS_PER_SIDE = 64  # one every 8 pixels; fewer points take less time and find fewer nuclei
DEFAULT_THRESHOLD = 0.5  # the field's default
THRESHOLDS = {SMALL_MODEL: 0.8}  # the small model gives high similarities to most objects


def choose_settings(examples: Sequence[Example], model: str) -> dict:
    """Return the form as a user would fill it in who knows the areas of the examples."""
    areas = [example.area for example in examples]
    return {
        'Training Tag': [EXAMPLE_TAG],
        'Batch XY': '',
        'Batch Z': '',
        'Batch Time': '',
        'Model': model,
        'Similarity Threshold': THRESHOLDS.get(model, DEFAULT_THRESHOLD),
        'Target Occupancy': 0.20,
        'Points per side': POINTS_PER_SIDE,
        'Min Mask Area': min(areas) // 2,
        'Max Mask Area': 2 * max(areas),
        'Smoothing': 0.3,
    }


def describe_job(dataset_id: str, settings: dict) -> dict:
    """Return the parameters that the server gives to a worker for one job."""
    here = {'XY': 0, 'Z': 0, 'Time': 0}
    return {
        'datasetId': dataset_id,
        'type': 'segmentation',
        'id': 'demo',
        'name': 'Nuclei like these',
        'image': IMAGE,
        'channel': 0,
        'assignment': here,
        'tile': here,
        'tags': [FOUND_TAG],
        'workerInterface': settings,
        'connectTo': {'tags': [], 'layer': None, 'channel': None},
        'scales': {},
    }


def print_table(summary: dict, result: Score, strict: Score, seconds: float) -> None:
    """Print the worker's counts, the seconds of each step, and the scores of the result."""
    rows = [(name, summary[name]) for name in ('examples', 'candidates', 'kept', 'uploaded')]
    rows += [(f'seconds to {step}', f'{spent:.1f}') for step, spent in summary['seconds'].items()]
    rows += [
        ('seconds in all', f'{seconds:.1f}'),
        ('found nuclei', len(result.right)),
        ('found, but no nuclei', len(result.wrong)),
        ('missed nuclei', len(result.missed)),
        (f'precision at IoU {IOU}', f'{result.precision:.2f}'),
        (f'recall at IoU {IOU}', f'{result.recall:.2f}'),
        (f'F1 at IoU {IOU}', f'{result.f1:.2f}'),
        (f'F1 at IoU {STRICT_IOU}', f'{strict.f1:.2f}'),
    ]
    print('\n' + '\n'.join(f'  {name:<22}{value:>8}' for name, value in rows))


def run(model: str, checkpoints: Path, out: Path = OUT) -> tuple[Score, Score]:
    """Run the demo from the image to the picture.

    Parameters
    ----------
    model : str
        Name of the checkpoint.
    checkpoints : Path
        Folder with its file.
    out : Path
        Folder for the dataset, the logs and the picture. It is emptied first.

    Returns
    -------
    result, strict : Score
        At IoU and at STRICT_IOU.
    """
    start = time.monotonic()
    shutil.rmtree(out, ignore_errors=True)
    image, labels = read_image()
    write_dataset(out / 'data', image[None])
    examples = choose_examples(labels, EXAMPLES)
    settings = {**choose_settings(examples, model), 'Speed': FAST}

    with running_server(out / 'data', out / 'server.log') as server:
        print(f'The annotation server runs at {server["apiUrl"]}')
        dataset_id = server['datasets'][NAME]
        access = ['--apiUrl', server['apiUrl'], '--token', server['token']]
        client = UPennContrastAnnotationClient(server['apiUrl'], server['token'])
        client.createMultipleAnnotations(
            [to_annotation(example, dataset_id, EXAMPLE_TAG) for example in examples]
        )
        print(f'Outlined {len(examples)} nuclei')

        run_worker(
            [*access, '--request', 'interface', '--parameters', json.dumps({'image': IMAGE})],
            checkpoints,
            out / 'interface.log',
        )
        fields = client.client.get('worker_interface', parameters={'image': IMAGE})
        print(
            f'The worker described its interface: {len(fields)} fields. '
            'Now it searches for more nuclei:'
        )

        job = describe_job(dataset_id, settings)
        request = ['--request', 'compute', '--datasetId', dataset_id]
        run_worker(
            [*access, *request, '--parameters', json.dumps(job)], checkpoints, out / 'worker.log'
        )
        polygons = client.getAnnotationsByDatasetId(dataset_id, shape='polygon', tags=[FOUND_TAG])

    found = [to_outline(one) for one in polygons]
    others, smallest = forget_examples(labels, examples), settings['Min Mask Area']
    result, strict = (score(found, others, smallest, least) for least in (IOU, STRICT_IOU))
    print_table(read_summary(out / 'worker.log'), result, strict, time.monotonic() - start)
    picture = draw_picture(image, labels, examples, found, result, model)
    picture.save(out / 'overlay.png', optimize=True)
    print(f'\nThe picture: {os.path.relpath(out / "overlay.png", ROOT)}')
    return result, strict


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        prog='python -m demo', description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument('--model', default=SMALL_MODEL, help='name of the checkpoint')
    parser.add_argument(
        '--checkpoints', type=Path, default=ROOT / 'models', help='folder with the checkpoint file'
    )
    arguments = parser.parse_args()
    run(arguments.model, arguments.checkpoints.resolve())
    if arguments.model == SMALL_MODEL:
        print(
            '\nThis was the small model. It is meant for trying the worker, not for results.'
            '\nTo run the demo with SAM ViT-H on a GPU:'
            '\n  .venv/bin/python -m demo --model sam_vit_h_4b8939 --checkpoints FOLDER'
            '\nFOLDER contains sam_vit_h_4b8939.pth. The Docker image has this file and uses it.'
        )
    show_in_page(OUT / 'data', is_terminal=sys.stdout.isatty())
