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
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from girder_client import HttpError

from annotation_client import annotations, tiles, workers
from annotation_client.utils import sendError, sendProgress, sendWarning
from fewshot.models import MODELS
from fewshot.parameters import Location, Parameters, build_interface, checkpoint_path, explain, read_parameters
from fewshot.tally import Tally, count

if TYPE_CHECKING:
    import numpy as np
    import torch
    from segment_anything import SamPredictor

    from fewshot.candidates import Candidate
    from fewshot.crops import Box, CutMask
    from fewshot.duplicates import Found
    from fewshot.examples import Examples
    from fewshot.frames import Frame
    from fewshot.prototype import Lesson

__all__ = ['MODELS', 'annotation_to_mask', 'compute', 'encode_image_with_sam1', 'ensure_rgb',
           'extract_crop_with_context', 'interface', 'pool_features_with_mask', 'sendError', 'sendProgress',
           'sendWarning']
UPLOAD_SIZE = 1_000  # annotations a request
EXAMPLES_SHARE = 0.05  # of the progress bar
Report = Callable[[float, str], None]  # how far a piece is, 0 to 1, and what is being done

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

    from fewshot import frames, stored
    locations = frames.list_locations(parameters, dataset.tiles)
    layers, problem = frames.read_layers(dataset.client, datasetId, dataset.tiles)
    if problem:
        sendWarning(problem, title='Channels', info='Every channel is shown in a colour of its own, from percentile '
                    '0.1 to 99.9. Open the dataset and set its layers if the result is poor.')
    examples = fetch_examples(store, datasetId, dataset.tiles, parameters)
    known = stored.list_outlines(store, datasetId, locations, {*parameters.tags, *parameters.training_tags}
                                 ) if parameters.skip_duplicates else {}
    with tally.time('load'):
        predictor = load_model(parameters)
    propertyId = prepare_scores(store, datasetId) if parameters.save_scores else None
    fix_layers = cache(partial(frames.fix_layers, dataset, datasetId, layers))

    def load(piece: frames.Piece) -> frames.Frame:
        with naming(f'loading the image of {piece.location}'):
            shown = fix_layers(piece.location) if piece.tile else layers
            return frames.load_frame(dataset, datasetId, shown, piece.location, piece.tile)

    def send(location: Location, found: 'list[Found]') -> None:
        with naming(f'uploading the objects of {location}'):
            kept = drop_doubles(found, parameters, tally)
            upload(store, datasetId, location, kept, known.get(location, []), propertyId, parameters, tally)

    with ThreadPoolExecutor(1) as background:  # one thread, so that one connection to the server is enough
        pieces = [frames.Piece(location, tile) for location in locations for tile in examples.tiles]
        incoming = frames.load_ahead(load, [*examples.by_piece, *pieces], background)
        with tally.time('prototype'):
            lesson = learn(incoming, examples, predictor, parameters, tally)
        look = partial(find_objects, predictor, lesson, parameters, tally)
        frame_shape = dataset.tiles['sizeY'], dataset.tiles['sizeX']
        search_batch(incoming, locations, examples.tiles, frame_shape, look,
                     lambda *arguments: background.submit(send, *arguments), tally)
    finish(tally, lesson, parameters)


def search_batch(incoming: 'Iterator[Frame]', locations: list[Location], tiles: 'list[Box | None]',
                 frame_shape: tuple[int, int], look: 'Callable[[Frame, Report], list[Found]]',
                 send: 'Callable[[Location, list[Found]], Future]', tally: Tally) -> None:
    """Look at every frame of the batch, tile by tile, and send what is found in it while the next is looked at."""
    from fewshot.duplicates import place_in_frame
    outgoing: Future | None = None
    for number, location in enumerate(locations):
        found: list[Found] = []
        for part, tile in enumerate(tiles):
            report = make_reporter(location, (number, part), (len(locations), len(tiles)), outgoing)
            report(0, 'Loading the image')
            with tally.time('download'):
                frame = next(incoming)
            inside = look(frame, report)
            found += place_in_frame(inside, part, tile, frame_shape) if tile else inside
        with tally.time('upload'):
            if outgoing:
                outgoing.result()
        outgoing = send(location, found)
    with tally.time('upload'):
        if outgoing:
            outgoing.result()


@contextmanager
def naming(doing: str) -> Iterator[None]:
    """Say in the note of an error that leaves the block what was being done."""
    try:
        yield
    except Exception as error:
        error.add_note(f'It happened while {doing}.')
        raise


def fetch_examples(store: Any, datasetId: str, tiles: Mapping, parameters: Parameters) -> 'Examples':
    """The tagged polygons; `tiles` is the dataset's tile metadata. Raises ValueError when there is no example."""
    from fewshot import stored
    tagged = stored.fetch_polygons(store, datasetId, parameters.training_tags)
    if not tagged:
        raise explain(ValueError('No polygon carries the Training Tag'),
                      f'Looked for: {", ".join(parameters.training_tags)}. Outline 5 to 20 objects as polygons (not as '
                      'points or lines) and give them this tag.')
    counter = stored.fetch_polygons(store, datasetId, parameters.negative_tags)

    from fewshot.examples import Examples
    return Examples(tagged, counter, tiles, parameters.tile_size)


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


def prepare_scores(store: Any, datasetId: str) -> str | None:
    """The id of the property that holds the scores; None, with a warning, where the user may not have one."""
    from fewshot.scores import find_property
    try:
        return find_property(store, datasetId)
    except HttpError as error:
        log.warning('no scores: status %s', error.status)
        sendWarning('The scores of the objects will not be saved', title='Scores', info=f'The server answered with '
                    f'status {error.status}. Saving scores needs the right to change the dataset. The outlines are '
                    'uploaded all the same.')
        return None


def make_reporter(location: Location, number: tuple[int, int], total: tuple[int, int],
                  outgoing: Future | None) -> Report:
    """A function that tells the user how far (0 to 1) and with what the worker is in one tile of one frame.

    It raises what has become of the upload of the frame before, `outgoing`, if that has failed.

    Parameters
    ----------
    number, total : of the frame in the batch and of the tile in the frame, from 0, and how many there are
    """
    def report(share: float, info: str) -> None:
        if outgoing and outgoing.done():
            outgoing.result()
        done = EXAMPLES_SHARE + (1 - EXAMPLES_SHARE) * (number[0] + (number[1] + share) / total[1]) / total[0]
        tile = f'Tile {number[1] + 1} of {total[1]}. ' if total[1] > 1 else ''
        sendProgress(round(done, 4), f'{location} ({number[0] + 1} of {total[0]})', tile + info)
    return report


def learn(incoming: 'Iterator[Frame]', examples: 'Examples', predictor: 'SamPredictor', parameters: Parameters,
          tally: Tally) -> 'Lesson':
    """What the examples teach, whose pieces of frames are the next of `incoming`.

    Polygons that cannot be used are left out, with one warning. Raises ValueError when none is left.
    """
    import torch

    from fewshot.advice import advise_on_examples
    from fewshot.prototype import make_lesson

    def report(before: int, done: int) -> None:
        sendProgress(round(EXAMPLES_SHARE * (before + done) / examples.count, 4), 'Learning from the examples',
                     f'{before + done} of {examples.count}')

    vectors: list[torch.Tensor] = []
    is_counter: list[bool] = []
    objects: list[CutMask] = []
    scale = 1.0  # pixels of the model's input for one of the frame
    for piece in examples.by_piece:
        frame = next(incoming)
        cut = examples.cut(piece, frame.rgb.shape)
        vectors.append(describe(
            frame, [one for one, _ in cut], predictor, parameters, partial(report, len(is_counter))))
        is_counter += [counter for _, counter in cut]
        objects += [one for one, counter in cut if not counter]
        scale = min(scale, parameters.checkpoint.input_size / max(frame.rgb.shape))
    if not objects:
        examples.refuse()
    if examples.skipped:
        sendWarning(f'{examples.skipped.total()} of {examples.count} examples were left out', title='Examples',
                    info=f'{examples.reasons}.')
    for message, info in advise_on_examples(objects, scale, parameters):
        sendWarning(message, title='Examples', info=info)
    tally.examples = len(objects)
    return make_lesson(torch.cat(vectors), is_counter)


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


def find_objects(predictor: 'SamPredictor', lesson: 'Lesson', parameters: Parameters, tally: Tally, frame: 'Frame',
                 report: Report) -> 'list[Found]':
    """The candidates of a frame, or of a tile of one, that have the right size and are like the examples."""
    from fewshot import candidates, encoder, prototype
    from fewshot.duplicates import Found
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
        similarities = prototype.measure_similarities(vectors, lesson.prototype).tolist()
        rivals = prototype.measure_rivals(vectors, lesson.counterexamples).tolist()
    found = [Found(candidate, similarity) for candidate, similarity, rival
             in zip(in_area, similarities, rivals, strict=True) if similarity >= parameters.threshold
             and similarity > rival]
    like = sum(similarity >= parameters.threshold for similarity in similarities)
    tally.candidates += len(proposed)
    tally.in_area += len(in_area)
    tally.unlike += len(in_area) - like
    tally.rivalled += like - len(found)
    tally.kept += len(found)
    tally.highest = max([tally.highest, *similarities])
    return found


def drop_doubles(found: 'list[Found]', parameters: Parameters, tally: Tally) -> 'list[Found]':
    """Each object once; where the user wants duplicates, once for each tile at least."""
    from fewshot.duplicates import find_doubles
    double = find_doubles(found, across_tiles_only=not parameters.skip_duplicates)
    tally.doubles += int(double.sum())
    return [one for one, again in zip(found, double, strict=True) if not again]


def upload(store: Any, datasetId: str, location: Location, found: 'list[Found]', known: 'list[np.ndarray]',
           propertyId: str | None, parameters: Parameters, tally: Tally) -> None:
    """Outline what was found at a location and send what is not known there, with its scores.

    It is connected where the job says so.
    """
    from fewshot import duplicates, polygons, scores
    outlines = [polygons.trace_mask(one.candidate.box, one.candidate.mask, parameters.smoothing) for one in found]
    is_known = duplicates.find_known(outlines, known)
    fresh = [(one, outline) for one, outline, again in zip(found, outlines, is_known, strict=True) if not again]
    tally.known += len(found) - len(fresh)
    for start in range(0, len(fresh), UPLOAD_SIZE):
        batch = fresh[start:start + UPLOAD_SIZE]
        made = [annotation['_id'] for annotation in store.createMultipleAnnotations([
            polygons.make_annotation(outline, location, parameters, datasetId) for _, outline in batch])]
        tally.uploaded += len(made)
        if parameters.connect_to:
            store.connectToNearest(parameters.connect_to, made)
        if propertyId:
            scores.save_scores(store, datasetId, propertyId, made, [one.scores for one, _ in batch])
    tally.note_similarities([one.similarity for one, _ in fresh])
    tally.frames += 1
    log.info('%s: %d objects, %d MB at most so far', location, len(fresh),
             resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def finish(tally: Tally, lesson: 'Lesson', parameters: Parameters) -> None:
    """The job's last message and its summary in the log; warnings where the threshold or the result asks for one."""
    from fewshot.advice import advise_on_threshold
    seconds = {step: round(spent, 2) for step, spent in tally.seconds.items()}
    log.info('job summary %s', json.dumps({**vars(tally), 'seconds': seconds}))
    if tally.kept and (found := advise_on_threshold(lesson.examples, tally, parameters)):
        sendWarning(found[0], title='Similarity Threshold', info=found[1])
    if not tally.kept:
        sendWarning(f'No object was found in {count(tally.frames, "frame")}', title='Nothing found',
                    info=tally.explain_nothing(parameters.threshold))
    sendProgress(1.0, 'Done', tally.describe(lesson.examples))


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
