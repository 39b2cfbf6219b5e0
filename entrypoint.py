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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from annotation_client import annotations, tiles, workers
from annotation_client.utils import sendError, sendProgress, sendWarning
from fewshot.models import MODELS
from fewshot.parameters import Location, Parameters, build_interface, checkpoint_path, explain, read_parameters
from fewshot.tally import Tally, count

if TYPE_CHECKING:
    import torch
    from segment_anything import SamPredictor

    from fewshot.candidates import Candidate
    from fewshot.crops import CutMask
    from fewshot.examples import Examples
    from fewshot.frames import Frame

__all__ = ['MODELS', 'annotation_to_mask', 'compute', 'encode_image_with_sam1', 'ensure_rgb',
           'extract_crop_with_context', 'interface', 'pool_features_with_mask', 'sendError', 'sendProgress',
           'sendWarning']
UPLOAD_SIZE = 1_000  # annotations a request
EXAMPLES_SHARE = 0.05  # of the progress bar
SMALLEST_IN_FRAME = 32  # two cells of the feature grid, pixels of the model's input

log = logging.getLogger('sam_fewshot')


def __getattr__(name: str) -> Any:
    """The steps that need numpy or torch, loaded when somebody asks for them here."""
    homes = {'ensure_rgb': 'frames', 'annotation_to_mask': 'polygons', 'extract_crop_with_context': 'crops',
             'encode_image_with_sam1': 'encoder', 'pool_features_with_mask': 'encoder'}
    if name not in homes:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'fewshot.{homes[name]}'), name)


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

    from fewshot.examples import Examples
    examples = Examples(tagged, dataset.tiles)

    def load(location: Location) -> 'Frame':
        with naming(f'loading the image of {location}'):
            return frames.load_frame(dataset, datasetId, layers, location)

    def send(location: Location, kept: 'list[Candidate]') -> None:
        with naming(f'uploading the objects of {location}'):
            upload(store, datasetId, location, kept, parameters, tally)

    with tally.time('load'):
        predictor = load_model(parameters)
    with ThreadPoolExecutor(1) as background:  # one thread, so that one connection to the server is enough
        incoming = frames.load_ahead(load, [*examples.by_location, *locations], background)
        with tally.time('prototype'):
            prototype = learn_prototype(incoming, examples, predictor, parameters, tally)
        outgoing: Future | None = None
        for number, location in enumerate(locations):
            report = make_reporter(location, number, len(locations), outgoing)
            report(0, 'Loading the image')
            with tally.time('download'):
                frame = next(incoming)
            kept = find_objects(frame, predictor, prototype, parameters, tally, report)
            with tally.time('upload'):
                if outgoing:
                    outgoing.result()
            outgoing = background.submit(send, location, kept)
        with tally.time('upload'):
            if outgoing:
                outgoing.result()
    finish(tally, parameters)


@contextmanager
def naming(doing: str) -> Iterator[None]:
    """Say in the note of an error that leaves the block what was being done."""
    try:
        yield
    except Exception as error:
        error.add_note(f'It happened while {doing}.')
        raise


def load_model(parameters: Parameters) -> 'SamPredictor':
    """The model, on a GPU if there is one. Raises ValueError for a checkpoint file of something else."""
    from fewshot import encoder
    checkpoint = parameters.checkpoint
    log.info('model: %s (%s), encoder in %s', checkpoint.name, checkpoint.title, parameters.precision)
    sendProgress(0.0, 'Loading the model', checkpoint.title)
    predictor = encoder.load_predictor(checkpoint, checkpoint_path(checkpoint), parameters.precision)
    if predictor.device.type == 'cpu' and checkpoint.name in MODELS:
        sendWarning('No GPU was found', title='Slow', info='This model needs minutes an object without one.')
    return predictor


def make_reporter(location: Location, number: int, total: int, outgoing: Future | None) -> Callable[[float, str], None]:
    """A function that tells the user how far (0 to 1) and with what the worker is in frame `number` of `total`.

    It raises what has become of the upload of the frame before, `outgoing`, if that has failed.
    """
    def report(share: float, info: str) -> None:
        if outgoing and outgoing.done():
            outgoing.result()
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


def learn_prototype(incoming: 'Iterator[Frame]', examples: 'Examples', predictor: 'SamPredictor',
                    parameters: Parameters, tally: Tally) -> 'torch.Tensor':
    """The vector (C,) that stands for the examples, whose frames are the next of `incoming`.

    Polygons that cannot be used are left out, with one warning. Raises ValueError when none is left.
    """
    import torch

    from fewshot import prototype

    def report(before: int, done: int) -> None:
        sendProgress(EXAMPLES_SHARE * (before + done) / examples.count, 'Learning from the examples',
                     f'{before + done} of {examples.count}')

    vectors: list[torch.Tensor] = []
    sides: list[float] = []  # of the examples' boxes, pixels of the model's input
    for location in examples.by_location:
        frame = next(incoming)
        objects = examples.cut(location, frame.rgb.shape)
        vectors.append(describe(frame, objects, predictor, parameters, partial(report, len(sides))))
        sides += [parameters.checkpoint.input_size / max(frame.rgb.shape) * max(one.mask.shape) for one in objects]
    if not sides:
        examples.refuse()
    warn_of_examples(examples, sides, parameters)
    tally.examples = len(sides)
    return prototype.make_prototype(torch.cat(vectors))


def warn_of_examples(examples: 'Examples', sides: list[float], parameters: Parameters) -> None:
    """Say which examples were left out, and when they are too small to be described in the whole frame.

    `sides` are the longer sides of the others' boxes in pixels of the model's input.
    """
    if examples.skipped:
        sendWarning(f'{examples.skipped.total()} of {examples.skipped.total() + len(sides)} examples were left out',
                    title='Examples', info=f'{examples.reasons}.')
    small = sum(side < SMALLEST_IN_FRAME for side in sides)
    if parameters.whole_frame and small:
        sendWarning(f'{small} of {len(sides)} examples are small for the Feature Source whole frame', title='Examples',
                    info=f'The model sees the frame shrunk to {parameters.checkpoint.input_size} pixels, and these '
                    f'examples at less than {SMALLEST_IN_FRAME}, so that what it says of them is largely about their '
                    'surroundings. Choose object crops if wrong objects are kept.')


def describe(frame: 'Frame', objects: 'Sequence[CutMask | Candidate]', predictor: 'SamPredictor',
             parameters: Parameters, report: Callable[[int], None],
             features: 'torch.Tensor | None' = None) -> 'torch.Tensor':
    """The vectors (n, C) of objects in a frame, from the source that the user chose.

    Parameters
    ----------
    report : called with the number of objects done
    features : of the whole frame, if they are known
    """
    from fewshot import encoder
    if not parameters.whole_frame:
        return encoder.describe_objects(predictor, frame.rgb, objects, parameters.occupancy, report)
    if features is None:
        features = encoder.encode_image_with_sam1(predictor, frame.rgb)
    return encoder.pool_objects(features, frame.rgb.shape, objects)


def find_objects(frame: 'Frame', predictor: 'SamPredictor', prototype: 'torch.Tensor', parameters: Parameters,
                 tally: Tally, report: Callable[[float, str], None]) -> 'list[Candidate]':
    """The candidates of a frame that have the right size and are like the prototype."""
    from fewshot import candidates, encoder
    from fewshot.prototype import measure_similarities
    with tally.time('propose'):
        features = encoder.encode_image_with_sam1(predictor, frame.rgb)
        proposed = candidates.propose_candidates(
            predictor.model, features, frame.rgb.shape, parameters,
            lambda share: report(share / 2, f'Proposing outlines: {share:.0%}'))
    in_area = [candidate for candidate in proposed if candidates.has_allowed_area(candidate, parameters)]
    with tally.time('describe'):
        vectors = describe(
            frame, in_area, predictor, parameters, lambda done: report(
                (1 + done / len(in_area)) / 2, f'Comparing with the examples: {done} of {len(in_area)}'), features)
        similarities = measure_similarities(vectors, prototype).tolist()
    kept = [candidate for candidate, similarity in zip(in_area, similarities, strict=True)
            if similarity >= parameters.threshold]
    tally.candidates += len(proposed)
    tally.in_area += len(in_area)
    tally.kept += len(kept)
    tally.highest = max([tally.highest, *similarities])
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
    tally.frames += 1
    log.info('%s: %d objects, %d MB at most so far', location, len(kept),
             resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


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
    logging.captureWarnings(True)
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
