"""The SAM few-shot worker: from a few tagged outlines to an outline around every object like them.

    job arguments ─▶ parameters ─▶ frames ─┬─▶ tagged polygons ─▶ masks ─▶ crops ─▶ features ─▶ prototype
                                           └─▶ each batch frame ─▶ candidates ─▶ crops ─▶ features ─▶ similarity
                                               ─▶ polygons ─▶ upload

The annotation server starts it once a job. Whatever needs torch is imported in the middle of a job, for an interface
request must answer at once.
"""
import argparse
import importlib
import json
import logging
import os  # noqa: F401 - tests patch it here
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from annotation_client import annotations, tiles, workers
from annotation_client.utils import sendError, sendProgress, sendWarning
from fewshot.models import MODELS
from fewshot.parameters import Location, Parameters, build_interface, checkpoint_path, explain, read_parameters

if TYPE_CHECKING:
    import torch
    from segment_anything import SamPredictor

    from fewshot.candidates import Candidate
    from fewshot.frames import Frame, Layer

__all__ = ['MODELS', 'annotation_to_mask', 'compute', 'encode_image_with_sam1', 'ensure_rgb',
           'extract_crop_with_context', 'interface', 'pool_features_with_mask', 'sendError', 'sendProgress',
           'sendWarning']
UPLOAD_SIZE = 1_000  # annotations a request
EXAMPLES_SHARE = 0.05  # of the progress bar

log = logging.getLogger('sam_fewshot')


def __getattr__(name: str) -> Any:
    """The steps that need numpy or torch, loaded when somebody asks for them here."""
    homes = {'ensure_rgb': 'frames', 'annotation_to_mask': 'polygons', 'extract_crop_with_context': 'crops',
             'encode_image_with_sam1': 'encoder', 'pool_features_with_mask': 'encoder'}
    if name not in homes:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'fewshot.{homes[name]}'), name)


@dataclass
class Tally:
    """What a job has done so far, for its messages and its log."""

    examples: int = 0
    frames: int = 0
    candidates: int = 0
    in_area: int = 0  # candidates within the area limits
    kept: int = 0  # of those, similar enough
    uploaded: int = 0
    highest: float = -1.0  # similarity of any candidate within the area limits
    seconds: dict[str, float] = field(default_factory=dict)  # by step

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        """Count the seconds of the block under a step's name."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0) + time.monotonic() - start


def interface(image: str, apiUrl: str, token: str) -> None:
    """Give the server the form of this worker, which is stored under the image's name."""
    workers.UPennContrastWorkerPreviewClient(apiUrl=apiUrl, token=token).setWorkerImageInterface(
        image, build_interface())


def compute(datasetId: str, apiUrl: str, token: str, params: dict) -> None:
    """Run one job: find what looks like the tagged examples in every frame of the batch and upload the outlines.

    Any failure is sent to the user's page once and then raised: ValueError for settings and data, FileNotFoundError
    for a missing checkpoint.
    """
    tally = Tally()
    try:
        run(datasetId, apiUrl, token, params, tally)
    except Exception as error:
        info = getattr(error, '__notes__', None) or [f'{type(error).__name__}: the log of the job tells more.']
        if tally.frames:
            info = [*info, f'On the server: {count(tally.uploaded, "object")} of {count(tally.frames, "frame")}.']
        sendError(str(error) or type(error).__name__, title='SAM few-shot segmentation', info=' '.join(info))
        raise


def run(datasetId: str, apiUrl: str, token: str, params: dict, tally: Tally) -> None:
    """The job itself, from its parameters to its last message. What it has done stands in `tally` at any time."""
    parameters = read_parameters(params)
    dataset = tiles.UPennContrastDataset(apiUrl=apiUrl, token=token, datasetId=datasetId)
    store = annotations.UPennContrastAnnotationClient(apiUrl=apiUrl, token=token)

    from fewshot import frames
    locations = frames.list_locations(parameters, dataset.tiles)
    layers, problem = frames.read_layers(dataset.client, datasetId, dataset.tiles)
    if problem:
        sendWarning(problem, title='Channels', info='Every channel is shown in a colour of its own, from percentile '
                    '0.1 to 99.9. Open the dataset and set its layers if the result is poor.')
    tagged = fetch_tagged_polygons(store, datasetId, parameters)

    with tally.time('load'):
        from fewshot import encoder
        log.info('model: %s (%s)', parameters.checkpoint.name, parameters.checkpoint.title)
        sendProgress(0.0, 'Loading the model', parameters.checkpoint.title)
        predictor = encoder.load_predictor(parameters.checkpoint, checkpoint_path(parameters.checkpoint))
        if predictor.device.type == 'cpu' and parameters.checkpoint.name in MODELS:
            sendWarning('No GPU was found', title='Slow', info='This model needs minutes an object without one.')
    with tally.time('prototype'):
        prototype = learn_prototype(dataset, datasetId, layers, tagged, predictor, parameters, tally)

    for number, location in enumerate(locations):
        report = make_reporter(location, number, len(locations))
        report(0, 'Loading the image')
        with tally.time('download'):
            frame = frames.load_frame(dataset, datasetId, layers, location)
        kept = find_objects(frame, predictor, prototype, parameters, tally, report)
        with tally.time('upload'):
            upload(store, datasetId, location, kept, parameters, tally)
        tally.frames += 1
        log.info('%s (%d of %d): %d objects, %d MB at most so far', location, tally.frames, len(locations), len(kept),
                 resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    finish(tally, parameters)


def make_reporter(location: Location, number: int, total: int) -> Callable[[float, str], None]:
    """A function that tells the user how far (0 to 1) and with what the worker is in frame `number` of `total`."""
    def report(share: float, info: str) -> None:
        done = EXAMPLES_SHARE + (1 - EXAMPLES_SHARE) * (number + share) / total
        sendProgress(round(done, 4), f'{location} ({number + 1} of {total})', info)
    return report


def fetch_tagged_polygons(store: Any, datasetId: str, parameters: Parameters) -> list[dict]:
    """The polygons that carry any of the training tags, each once.

    Raises ValueError when there is none.
    """
    found = {}
    for tag in parameters.training_tags:
        for annotation in store.getAnnotationsByDatasetId(datasetId, shape='polygon', tags=[tag]):
            found[annotation['_id']] = annotation
    if not found:
        raise explain(ValueError('No polygon carries the Training Tag'),
                      f'Looked for: {", ".join(parameters.training_tags)}. Outline 5 to 20 objects as polygons (not as '
                      'points or lines) and give them this tag.')
    return list(found.values())


def learn_prototype(dataset: Any, datasetId: str, layers: 'list[Layer]', tagged: list[dict],
                    predictor: 'SamPredictor', parameters: Parameters, tally: Tally) -> 'torch.Tensor':
    """The vector that stands for the examples; each location is downloaded once.

    Polygons that cannot be used are left out, with one warning. Raises ValueError when none is left.
    """
    from fewshot import crops, encoder, frames, polygons, prototype
    by_location: dict[Location, list[dict]] = {}
    for annotation in tagged:
        by_location.setdefault(polygons.location_of(annotation), []).append(annotation)
    vectors: list[torch.Tensor] = []
    skipped: Counter[str] = Counter()
    for location, group in sorted(by_location.items()):
        if not frames.has_location(dataset.tiles, location):
            skipped['on a frame that the dataset does not have'] += len(group)
            continue
        frame = frames.load_frame(dataset, datasetId, layers, location)
        for annotation in group:
            sendProgress(EXAMPLES_SHARE * len(vectors) / len(tagged), 'Learning from the examples',
                         f'{len(vectors) + 1} of {len(tagged)}, at {location}')
            try:
                box, mask = polygons.cut_annotation(annotation, frame.rgb.shape)
            except ValueError as error:
                skipped[str(error)] += 1
                continue
            crop_image, crop_mask = crops.extract_crop(frame.rgb, box, mask, parameters.occupancy)
            vectors.append(encoder.describe_object(predictor, crop_image, crop_mask))
    reasons = ', '.join(f'{times} {reason}' for reason, times in skipped.items())
    if not vectors:
        raise explain(ValueError('None of the examples can be used'),
                      f'Seen: {reasons}. Outline the examples again, inside the image.')
    if skipped:
        sendWarning(f'{skipped.total()} of {len(tagged)} examples were left out', title='Examples', info=f'{reasons}.')
    tally.examples = len(vectors)
    return prototype.make_prototype(vectors)


def find_objects(frame: 'Frame', predictor: 'SamPredictor', prototype: 'torch.Tensor', parameters: Parameters,
                 tally: Tally, report: Callable[[float, str], None]) -> 'list[Candidate]':
    """The candidates of a frame that have the right size and are like the prototype."""
    from fewshot import candidates, crops, encoder
    from fewshot.prototype import measure_similarity
    with tally.time('propose'):
        proposed = candidates.propose_candidates(
            predictor.model, frame.rgb, parameters, lambda share: report(share / 2, f'Proposing outlines: {share:.0%}'))
    in_area = [candidate for candidate in proposed if candidates.has_allowed_area(candidate, parameters)]
    kept = []
    with tally.time('describe'):
        for number, candidate in enumerate(in_area):
            report((1 + number / len(in_area)) / 2, f'Comparing with the examples: {number + 1} of {len(in_area)}')
            crop_image, crop_mask = crops.extract_crop(frame.rgb, candidate.box, candidate.mask, parameters.occupancy)
            vector = encoder.describe_object(predictor, crop_image, crop_mask)
            similarity = measure_similarity(vector, prototype)
            tally.highest = max(tally.highest, similarity)
            if similarity >= parameters.threshold:
                kept.append(candidate)
    tally.candidates += len(proposed)
    tally.in_area += len(in_area)
    tally.kept += len(kept)
    return kept


def upload(store: Any, datasetId: str, location: Location, kept: 'list[Candidate]', parameters: Parameters,
           tally: Tally) -> None:
    """Outline what was kept at a location, send it to the server, and connect it where the job says so."""
    from fewshot import polygons
    records = [
        polygons.make_annotation(
            polygons.trace_mask(candidate.box, candidate.mask, parameters.smoothing), location, parameters, datasetId)
        for candidate in kept]
    for start in range(0, len(records), UPLOAD_SIZE):
        made = store.createMultipleAnnotations(records[start:start + UPLOAD_SIZE])
        tally.uploaded += len(made)
        if parameters.connect_to:
            store.connectToNearest(parameters.connect_to, [annotation['_id'] for annotation in made])


def finish(tally: Tally, parameters: Parameters) -> None:
    """The job's last message and its summary in the log; a warning that says why when nothing was found."""
    seconds = {step: round(spent, 2) for step, spent in tally.seconds.items()}
    log.info('job summary %s', json.dumps({**vars(tally), 'seconds': seconds}))
    frames = count(tally.frames, 'frame')
    if not tally.uploaded:
        by_area, by_threshold = tally.candidates - tally.in_area, tally.in_area - tally.kept
        highest = f' The highest similarity was {tally.highest:.3f}.' if tally.in_area else ''
        sendWarning(
            f'No object was found in {frames}', title='Nothing found',
            info=f'{tally.candidates} candidates: {by_area} outside the area limits, {by_threshold} less similar than '
                 f'{parameters.threshold:g}.{highest}')
    sendProgress(1.0, 'Done', f'{count(tally.uploaded, "object")} in {frames}')


def count(number: int, thing: str) -> str:
    """A number of things in words: 1 frame, 2 frames."""
    return f'{number} {thing}{"" if number == 1 else "s"}'


def main() -> None:
    """Read the arguments as the server passes them and answer the request."""
    parser = argparse.ArgumentParser(description='SAM few-shot segmentation')
    parser.add_argument('--datasetId', help='the dataset to work on (compute)')
    parser.add_argument('--apiUrl', required=True, help="address of the server's REST interface")
    parser.add_argument('--token', required=True, help='what the server lets the job in with')
    parser.add_argument('--request', required=True, choices=['interface', 'compute'])
    parser.add_argument('--parameters', required=True, help='JSON; for an interface request the name of the image')
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(levelname)s %(message)s')
    try:
        params = json.loads(arguments.parameters)
    except json.JSONDecodeError as error:
        sendError('The parameters of the job are not JSON', info=str(error))
        raise
    if arguments.request == 'interface':
        interface(params['image'], arguments.apiUrl, arguments.token)
    else:
        compute(arguments.datasetId, arguments.apiUrl, arguments.token, params)


if __name__ == '__main__':
    main()
