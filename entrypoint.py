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
import math
import os  # noqa: F401 - tests patch it here
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, NoReturn

from girder_client import HttpError
from setproctitle import setproctitle

from annotation_client import annotations, tiles, workers
from annotation_client.utils import sendError, sendProgress, sendWarning
from fewshot.cancel import ending_on_sigterm
from fewshot.job import Job, describe_notes
from fewshot.outcomes import BatchEndedError
from fewshot.page import EXAMPLES_SHARE, Page, Report, make_reporter
from fewshot.parameters import Location, Parameters, build_interface, explain, read_parameters
from fewshot.sam.checkpoints import MODELS, check_file, checkpoint_path
from fewshot.tally import Tally, count

if TYPE_CHECKING:
    import torch
    from segment_anything import SamPredictor

    from fewshot.duplicates import Found
    from fewshot.examples import Examples
    from fewshot.frames import Coming, Frame
    from fewshot.geometry import CutMask
    from fewshot.prototype import Lesson
    from fewshot.sam.proposals import Candidate

__all__ = ['MODELS', 'annotation_to_mask', 'compute', 'encode_image_with_sam1', 'ensure_rgb',
           'extract_crop_with_context', 'interface', 'pool_features_with_mask', 'sendError', 'sendProgress',
           'sendWarning']
TITLE = 'SAM few-shot segmentation'
SECRET_LENGTH = 12  # characters of an argument that might hold the token

log = logging.getLogger('sam_fewshot')


def __getattr__(name: str) -> Any:
    """The steps that need numpy or torch, loaded when somebody asks for them here."""
    homes = {'ensure_rgb': 'frames', 'annotation_to_mask': 'polygons', 'extract_crop_with_context': 'sam.crops',
             'encode_image_with_sam1': 'sam.features', 'pool_features_with_mask': 'sam.features'}
    if name not in homes:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'fewshot.{homes[name]}'), name)


def interface(image: str, apiUrl: str, token: str) -> None:
    """Give the server the form of this worker, which is stored under the image's name."""
    workers.UPennContrastWorkerPreviewClient(apiUrl=apiUrl, token=token).setWorkerImageInterface(
        image, build_interface())


def compute(datasetId: str, apiUrl: str, token: str, params: dict) -> None:
    """Run one job: find what looks like the tagged examples in every frame of the batch and upload the outlines.

    A frame that fails is left out, and the job fails at its end. Any failure is sent to the user's page once and then
    raised: ValueError for settings and data, FileNotFoundError for a missing checkpoint, RuntimeError for frames.
    """
    job = Job(Page(sendProgress, sendWarning))
    try:
        with ending_on_sigterm(lambda: sendError('The job was cancelled', TITLE, job.describe_state()), job.sending):
            run(datasetId, apiUrl, token, params, job)
    except Exception as error:
        sendError(str(error) or type(error).__name__, title=TITLE,
                  info=f'{describe_notes(error)} {job.describe_state()}'.strip())
        raise


def run(datasetId: str, apiUrl: str, token: str, params: dict, job: Job) -> None:
    """The job itself, from its parameters to its last message. What it has done stands in `job` at any time."""
    parameters = read_parameters(params)
    dataset = tiles.UPennContrastDataset(apiUrl=apiUrl, token=token, datasetId=datasetId)
    store = annotations.UPennContrastAnnotationClient(apiUrl=apiUrl, token=token)

    from fewshot import frames, stored
    locations = frames.list_locations(parameters, dataset.tiles)
    layers, problem = frames.read_layers(dataset.client, datasetId, dataset.tiles)
    if problem:
        job.page.warn(problem, 'Channels', 'Every channel is shown in a colour of its own, from percentile 0.1 to '
                      '99.9. Open the dataset and set its layers if the result is poor.')
    examples = fetch_examples(store, datasetId, dataset.tiles, parameters)
    with job.tally.time('load'):
        predictor = load_model(parameters, job.page)

    from fewshot.uploads import Uploads, upload_frame
    uploads = Uploads(store, datasetId, parameters.tags)
    propertyId = prepare_scores(store, datasetId, job.page) if parameters.save_scores else None
    if parameters.jobs > 1:
        from fewshot.shares import start_shares
        locations, job.others = start_shares(
            store, datasetId, params, parameters.jobs, locations, examples.annotations, job.page)
    known = stored.list_outlines(store, datasetId, locations, {*parameters.tags, *parameters.training_tags}
                                 ) if parameters.skip_duplicates else {}
    fix_layers = cache(partial(frames.fix_layers, dataset, datasetId, layers))

    def load(piece: frames.Piece) -> frames.Frame:
        with naming(f'loading the image of {piece.location}'):
            shown = fix_layers(piece.location) if piece.tile else layers
            return frames.load_frame(dataset, datasetId, shown, piece.location, piece.tile)

    def upload(location: Location, found: 'list[Found]') -> int:
        return upload_frame(uploads, location, found, known.get(location, []), propertyId, parameters, job)

    job.begin(locations)
    with ThreadPoolExecutor(1) as background:  # one thread, so that one connection to the server is enough
        pieces = [frames.Piece(location, tile) for location in locations for tile in examples.tiles]
        incoming = frames.load_ahead(load, [*examples.by_piece, *pieces], background,
                                     lambda piece: piece.location not in job.outcomes.failed)
        with job.tally.time('prototype'):
            lesson = learn(incoming, examples, predictor, parameters, job)
        look = partial(find_objects, predictor, lesson, parameters, job.tally)
        frame_shape = dataset.tiles['sizeY'], dataset.tiles['sizeX']
        search_batch(incoming, len(examples.tiles), frame_shape, look,
                     lambda *arguments: background.submit(send, upload, job, *arguments), job)
    finish(job, lesson, parameters)


def search_batch(incoming: 'Iterator[Coming]', tiles: int, frame_shape: tuple[int, int],
                 look: 'Callable[[Frame, Report], list[Found]]',
                 send: 'Callable[[Location, list[Found], int, float], Future]', job: Job) -> None:
    """Look at every frame of the batch, in so many tiles, and send what is found while the next is looked at.

    A frame that fails is left out. Raises BatchEndedError when the next would fail too.
    """
    outgoing: Future | None = None
    for number, (location, pieces) in enumerate(groupby(incoming, key=lambda coming: coming.piece.location)):
        start, before = time.monotonic(), job.tally.candidates
        try:
            found = search_frame(location, pieces, frame_shape, look, job, partial(
                make_reporter, job.page, job.forecast, location, number, tiles, outgoing))
        except BatchEndedError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it costs this frame and no other
            job.skip(location, error)
            continue
        with job.tally.time('upload'):
            if outgoing:
                outgoing.result()
        if number == 0 and (slow := job.forecast.warn_of_limit(1, 1 + len(job.others))):
            job.page.warn(slow[0], 'Time', slow[1])
        outgoing = send(location, found, job.tally.candidates - before, time.monotonic() - start)
    with job.tally.time('upload'):
        if outgoing:
            outgoing.result()


def search_frame(location: Location, pieces: 'Iterator[Coming]', frame_shape: tuple[int, int],
                 look: 'Callable[[Frame, Report], list[Found]]', job: Job,
                 report_on: Callable[[int], Report]) -> 'list[Found]':
    """What is found at a location, tile by tile, in pixels of the frame."""
    from fewshot.duplicates import place_in_frame
    found: list[Found] = []
    for part, (piece, coming) in enumerate(pieces):
        report = report_on(part)
        report(0, 'Loading the image')
        with job.tally.time('download'):
            frame = coming.result()
        with naming(f'searching {location}'):
            inside = look(frame, report)
        found += place_in_frame(inside, part, piece.tile, frame_shape) if piece.tile else inside
    return found


def send(upload: 'Callable[[Location, list[Found]], int]', job: Job, location: Location, found: 'list[Found]',
         candidates: int, seconds: float) -> None:
    """Upload what was found at a location among so many candidates in so many seconds, and log it.

    A frame that fails is left out. Raises BatchEndedError when the next would fail too.
    """
    try:
        with naming(f'uploading the objects of {location}'), job.sending:
            sent = upload(location, found)
        log.info('%s: %d candidates, %d like the examples, %d uploaded, %.1f s, %d MB at most', location, candidates,
                 len(found), sent, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    except Exception as error:  # noqa: BLE001 - whatever it is, it costs this frame and no other
        job.skip(location, error)


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
    if parameters.signed is not None:
        from fewshot.shares import keep_signed
        kept = {stored.id_of(one) for one in keep_signed([*tagged, *counter], parameters.signed)}
        tagged, counter = ([one for one in group if stored.id_of(one) in kept] for group in (tagged, counter))

    from fewshot.examples import Examples
    return Examples(tagged, counter, tiles, parameters.tile_size)


def load_model(parameters: Parameters, page: Page) -> 'SamPredictor':
    """The model, on a GPU if there is one. Raises ValueError for a checkpoint file of something else."""
    from segment_anything import SamPredictor

    from fewshot.sam import model
    checkpoint, path = parameters.checkpoint, checkpoint_path(parameters.checkpoint)
    log.info('model: %s (%s), encoder in %s', checkpoint.name, checkpoint.title, parameters.precision)
    page.show(0.0, 'Loading the model', checkpoint.title)
    check_file(checkpoint, path)
    predictor = SamPredictor(model.load_model(checkpoint, path, parameters.precision))
    if predictor.device.type == 'cpu' and checkpoint.name in MODELS:
        page.warn('No GPU was found', 'Slow', 'This model needs minutes an object without one.')
    return predictor


def prepare_scores(store: Any, datasetId: str, page: Page) -> str | None:
    """The id of the property that holds the scores; None, with a warning, where the user may not have one."""
    from fewshot.scores import find_property
    from fewshot.uploads import repeat
    try:
        return repeat(lambda: find_property(store, datasetId))
    except HttpError as error:
        page.warn('The scores of the objects will not be saved', 'Scores', f'The server answered with status '
                  f'{error.status}. Saving scores needs the right to change the dataset. The outlines are uploaded '
                  'all the same.')
        return None


def learn(incoming: 'Iterator[Coming]', examples: 'Examples', predictor: 'SamPredictor', parameters: Parameters,
          job: Job) -> 'Lesson':
    """What the examples teach, whose pieces of frames are the next of `incoming`.

    Polygons that cannot be used are left out, with one warning. Raises ValueError when none is left.
    """
    import torch

    from fewshot.advice import advise_on_examples
    from fewshot.prototype import make_lesson

    def report(before: int, done: int) -> None:
        job.page.show(round(EXAMPLES_SHARE * (before + done) / examples.count, 4), 'Learning from the examples',
                      f'{before + done} of {examples.count}')

    vectors: list[torch.Tensor] = []
    is_counter: list[bool] = []
    objects: list[CutMask] = []
    scale = math.inf  # pixels of the model's input for one of the frame, the least of all
    for piece, coming in islice(incoming, len(examples.by_piece)):
        frame = coming.result()
        cut = examples.cut(piece, frame.rgb.shape)
        vectors.append(describe(
            frame, [one for one, _ in cut], predictor, parameters, partial(report, len(is_counter))))
        is_counter += [counter for _, counter in cut]
        objects += [one for one, counter in cut if not counter]
        scale = min(scale, parameters.checkpoint.input_size / max(frame.rgb.shape))
    if not objects:
        examples.refuse()
    if examples.skipped:
        job.page.warn(f'{examples.skipped.total()} of {examples.count} examples were left out', 'Examples',
                      f'{examples.reasons}.')
    for message, info in advise_on_examples(objects, scale, parameters):
        job.page.warn(message, 'Examples', info)
    job.tally.examples = len(objects)
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
    from fewshot.sam import features as sam_features
    if not parameters.whole_frame:
        return sam_features.describe_objects(
            predictor.model, frame.rgb, objects, parameters.occupancy,
            lambda share: report(round(share * len(objects))))
    if features is None:
        features = sam_features.encode_image_with_sam1(predictor, frame.rgb)
    return sam_features.pool_objects(features, frame.rgb.shape, objects)


def find_objects(predictor: 'SamPredictor', lesson: 'Lesson', parameters: Parameters, tally: Tally, frame: 'Frame',
                 report: Report) -> 'list[Found]':
    """The candidates of a frame, or of a tile of one, that have the right size and are like the examples."""
    from fewshot import prototype
    from fewshot.duplicates import Found
    from fewshot.sam import features as sam_features
    from fewshot.sam import proposals
    with tally.time('propose'):
        features = sam_features.encode_image_with_sam1(predictor, frame.rgb)
        proposed = proposals.propose_candidates(
            predictor.model, features, frame.rgb.shape, parameters.checkpoint,
            points_per_side=parameters.points_per_side, min_area=parameters.min_area,
            report=lambda share: report(share / 2, f'Proposing outlines: {share:.0%}'))
    in_area = [candidate for candidate in proposed
               if proposals.has_allowed_area(candidate, parameters.min_area, parameters.max_area)]
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


def finish(job: Job, lesson: 'Lesson', parameters: Parameters) -> None:
    """The job's last message and its summary in the log; warnings where the threshold or the result asks for one.

    Raises RuntimeError when frames have failed.
    """
    from fewshot.advice import advise_on_threshold
    tally, page = job.tally, job.page
    seconds = {step: round(spent, 2) for step, spent in tally.seconds.items()}
    log.info('job summary %s', json.dumps({**vars(tally), 'seconds': seconds}))
    if tally.kept and (found := advise_on_threshold(lesson.examples, tally, parameters)):
        page.warn(found[0], 'Similarity Threshold', found[1])
    if not tally.kept:
        page.warn(f'No object was found in {count(tally.frames, "frame")}', 'Nothing found',
                  tally.explain_nothing(parameters.threshold))
    page.close()
    job.outcomes.raise_failures()
    done = tally.describe(lesson.examples)
    if job.others:
        done = f'{done.rstrip(".")}. The rest of the batch is searched by {", ".join(job.others)}.'
    page.show(1.0, 'Done', done)


class Arguments(argparse.ArgumentParser):
    """A parser whose errors show no argument that is long enough to be the token."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        for word in sorted(sys.argv[1:], key=len, reverse=True):
            if len(word) >= SECRET_LENGTH:
                message = message.replace(word, '…')
        super().error(message)


def main() -> None:
    """Read the arguments as the server passes them and answer the request."""
    parser = Arguments(description=TITLE, allow_abbrev=False)
    parser.add_argument('--datasetId', help='the dataset to work on (compute)')
    parser.add_argument('--apiUrl', required=True, help="address of the server's REST interface")
    parser.add_argument('--token', required=True, help='what the server lets the job in with')
    parser.add_argument('--request', required=True, choices=['interface', 'compute'])
    parser.add_argument('--parameters', required=True, help='JSON; for an interface request the name of the image')
    arguments = parser.parse_args()
    setproctitle('sam_fewshot')  # the arguments, which every user of the machine could read, hold the token
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(levelname)s %(message)s')
    logging.captureWarnings(True)
    try:
        params = json.loads(arguments.parameters)
    except (ValueError, RecursionError) as error:
        sendError('The parameters of the job are not JSON', title=TITLE, info=str(error))
        raise
    if arguments.request == 'interface':
        interface(params['image'], arguments.apiUrl, arguments.token)
    else:
        compute(arguments.datasetId, arguments.apiUrl, arguments.token, params)


if __name__ == '__main__':
    main()
