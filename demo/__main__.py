"""Run the worker's main job on a labelled image, without NimbusImage: `python -m demo`.

The demo uploads outlines of nuclei to an annotation server, as a user would draw them. The worker
finds the other nuclei. The demo compares the result with the labels, prints a table, and draws
demo/out/overlay.png.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from annotation_client.annotations import UPennContrastAnnotationClient
from demo.dataset import (
    NAME,
    SIDE,
    Example,
    choose_examples,
    cut,
    forget_examples,
    read_image,
    to_annotation,
    to_outline,
    write_dataset,
)
from demo.picture import draw_picture
from demo.processes import ROOT, read_summary, run_worker, running_server, show_in_page
from demo.scoring import Score, score

OUT = Path(__file__).parent / 'out'
IMAGE = 'sam-fewshot:demo'  # the worker's name on the server
EXAMPLE_TAG, FOUND_TAG = 'example', 'nucleus'
EXAMPLES = 12
EXAMPLES_PER_POSITION = 4
SMALL_MODEL = 'sam_vit_mini2'
SMALLEST = 30  # Min Mask Area: the default, because positions cut many nuclei to small parts
POINTS_PER_SIDE = 32  # one every 4 pixels; fewer points take less time and find fewer nuclei
DEFAULT_THRESHOLD = 0.5  # the field's default
THRESHOLDS = {SMALL_MODEL: 0.85}  # the small model gives high similarities to most objects


def choose_settings(examples: list[Example], model: str) -> dict:
    """Return the form as a user would fill it in who knows the areas of the examples."""
    return {
        'Training Tag': [EXAMPLE_TAG],
        'Batch XY': 'all',
        'Batch Z': '',
        'Batch Time': '',
        'Model': model,
        'Similarity Threshold': THRESHOLDS.get(model, DEFAULT_THRESHOLD),
        'Target Occupancy': 0.20,
        'Points per side': POINTS_PER_SIDE,
        'Min Mask Area': SMALLEST,
        'Max Mask Area': 2 * max(example.area for example in examples),
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


def download_polygons(
    client: UPennContrastAnnotationClient,
    dataset_id: str,
    tag: str,
    positions: int,
) -> list[list[dict]]:
    """Return the polygons with a tag per position, as the server has them."""
    found: list[list[dict]] = [[] for _ in range(positions)]
    for annotation in client.getAnnotationsByDatasetId(dataset_id, shape='polygon', tags=[tag]):
        found[annotation['location']['XY']].append(annotation)
    return found


def print_table(summary: dict, result: Score, seconds: float) -> None:
    """Print the worker's counts, the seconds of each step, and the scores of the result."""
    rows = [(name, summary[name]) for name in ('examples', 'candidates', 'kept', 'uploaded')]
    rows += [(f'seconds to {step}', f'{spent:.1f}') for step, spent in summary['seconds'].items()]
    rows += [
        ('seconds in all', f'{seconds:.1f}'),
        ('found nuclei', len(result.right)),
        ('found, but no nuclei', len(result.wrong)),
        ('missed nuclei', len(result.missed)),
        ('precision at IoU 0.5', f'{result.precision:.2f}'),
        ('recall at IoU 0.5', f'{result.recall:.2f}'),
        ('F1 at IoU 0.5', f'{result.f1:.2f}'),
    ]
    print('\n' + '\n'.join(f'  {name:<22}{value:>8}' for name, value in rows))


def run(model: str, checkpoints: Path) -> None:
    """Run the demo from the image to the picture."""
    start = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    image, labels = read_image()
    positions, labels_cut = cut(image, SIDE), cut(labels, SIDE)
    write_dataset(OUT / 'data', positions)
    examples = choose_examples(labels_cut, EXAMPLES, EXAMPLES_PER_POSITION)

    with running_server(OUT / 'data', OUT / 'server.log') as server:
        print(f'The annotation server runs at {server["apiUrl"]}')
        dataset_id = server['datasets'][NAME]
        access = ['--apiUrl', server['apiUrl'], '--token', server['token']]
        client = UPennContrastAnnotationClient(server['apiUrl'], server['token'])
        client.createMultipleAnnotations(
            [to_annotation(example, dataset_id, EXAMPLE_TAG) for example in examples]
        )
        used = len({example.position for example in examples})
        print(f'Outlined {len(examples)} nuclei in the first {used} of {len(positions)} positions')

        run_worker(
            [*access, '--request', 'interface', '--parameters', json.dumps({'image': IMAGE})],
            checkpoints,
            OUT / 'interface.log',
        )
        fields = client.client.get('worker_interface', parameters={'image': IMAGE})
        print(
            f'The worker described its interface: {len(fields)} fields. '
            'Now it searches for more nuclei:'
        )

        job = describe_job(dataset_id, choose_settings(examples, model))
        request = ['--request', 'compute', '--datasetId', dataset_id]
        run_worker(
            [*access, *request, '--parameters', json.dumps(job)], checkpoints, OUT / 'worker.log'
        )
        polygons = download_polygons(client, dataset_id, FOUND_TAG, len(positions))

    found = [[to_outline(one) for one in here] for here in polygons]
    result = score(found, forget_examples(labels_cut, examples), SMALLEST)
    print_table(read_summary(OUT / 'worker.log'), result, time.monotonic() - start)
    picture = draw_picture(image, labels_cut, examples, found, result, model)
    picture.save(OUT / 'overlay.png', optimize=True)
    print(f'\nThe picture: {(OUT / "overlay.png").relative_to(ROOT)}')


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
