"""The SAM few-shot worker: from a few tagged outlines to an outline around every object like them.

The annotation server starts it once per job. `fewshot/job.py` is the job itself.
"""

import os
import signal

if __name__ == '__main__':
    # This comes before the imports: they take long enough for a user to cancel, and the first
    # process of a container ignores SIGTERM unless it has a handler.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))

import argparse
import importlib
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from setproctitle import setproctitle

from annotation_client import workers
from annotation_client.utils import sendError, sendProgress, sendWarning
from fewshot import messages
from fewshot.reporting.cancellation import ending_on_sigterm
from fewshot.reporting.reporter import TITLE, Reporter
from fewshot.sam.checkpoints import MODELS, checkpoint_path
from fewshot.sam.hardware import let_threads_sleep
from fewshot.server import Server
from fewshot.settings import Settings, build_interface, read_settings

if TYPE_CHECKING:
    from fewshot.sam.segmenter import Segmenter

# Names that other code expects here, and may patch here. NimbusImage's own tests of its workers use
# them.
CONTRACT_HOMES = {
    'ensure_rgb': 'fewshot.images.layers',
    'annotation_to_mask': 'fewshot.polygons',
    'extract_crop_with_context': 'fewshot.sam.crops',
    'encode_image_with_sam1': 'fewshot.sam.features',
    'pool_features_with_mask': 'fewshot.sam.features',
}
__all__ = [
    'MODELS',
    'annotation_to_mask',
    'compute',
    'encode_image_with_sam1',
    'ensure_rgb',
    'extract_crop_with_context',
    'interface',
    'os',
    'pool_features_with_mask',
    'sendError',
    'sendProgress',
    'sendWarning',
]
# An argument of this length might be the token.
MIN_TOKEN_CHARACTERS = 12

log = logging.getLogger('sam_fewshot')


def __getattr__(name: str) -> Any:
    """Return a contract name. Its module needs numpy or torch, so it is imported on first use."""
    if name not in CONTRACT_HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(CONTRACT_HOMES[name]), name)


def interface(image: str, apiUrl: str, token: str) -> None:
    """Send the form of this worker to the server, which stores it under the image's name.

    Parameters
    ----------
    image : str
        Name of the worker's Docker image.
    apiUrl, token : str
        Address of the REST interface, and a token.
    """
    client = workers.UPennContrastWorkerPreviewClient(apiUrl=apiUrl, token=token)
    client.setWorkerImageInterface(image, build_interface())


def load_segmenter(settings: Settings, reporter: Reporter) -> 'Segmenter':
    """Load SAM with the options of the settings."""
    from fewshot.sam import segmenter  # imports torch

    return segmenter.load_segmenter(
        settings.checkpoint,
        checkpoint_path(settings.checkpoint),
        settings.precision,
        points_per_side=settings.points_per_side,
        occupancy=settings.occupancy,
        whole_frame=settings.whole_frame,
    )


def compute(
    datasetId: str,
    apiUrl: str,
    token: str,
    params: dict,
    *,
    load_segmenter: Callable[[Settings, Reporter], 'Segmenter'] = load_segmenter,
    make_server: Callable[[str, str, str], Server] = Server,
) -> None:
    """Run one job. An error is sent to the user's page once and then raised.

    Parameters
    ----------
    datasetId : str
    apiUrl, token : str
        Address of the REST interface, and the token of the job.
    params : dict
        The parameters of the job as the server sends them.
    load_segmenter, make_server : callable
        Tests and benchmarks pass their own.

    Raises
    ------
    fewshot.errors.JobError
        The job cannot run, or frames failed.
    """
    reporter = Reporter(sendProgress, sendWarning, sendError)
    uploading = threading.Lock()
    try:
        with (
            ending_on_sigterm(lambda: reporter.fail(messages.CANCELLED.error()), uploading),
            reporter.repeating(),
        ):
            settings = read_settings(params)
            # these import numpy, which an interface request does not need
            from fewshot.job import run_job
            from fewshot.reporting.state import Stopwatch

            server = make_server(apiUrl, token, datasetId)
            run_job(
                server,
                partial(load_segmenter, settings, reporter),
                reporter,
                settings,
                params,
                Stopwatch(time.monotonic),
                uploading,
            )
    except Exception as error:
        log.exception('The job failed.')
        reporter.fail(error)
        raise


class Arguments(argparse.ArgumentParser):
    """A parser whose errors show no argument that is long enough to be the token."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        for word in sorted(sys.argv[1:], key=len, reverse=True):
            if len(word) >= MIN_TOKEN_CHARACTERS:
                message = message.replace(word, '…')
        super().error(message)


def main(load_segmenter: Callable[[Settings, Reporter], 'Segmenter'] = load_segmenter) -> None:
    """Read the arguments as the server passes them and answer the request."""
    parser = Arguments(description=TITLE, allow_abbrev=False)
    parser.add_argument('--datasetId', help='the dataset to work on (compute)')
    parser.add_argument('--apiUrl', required=True, help="address of the server's REST interface")
    parser.add_argument('--token', required=True, help='the token of the job')
    parser.add_argument('--request', required=True, choices=['interface', 'compute'])
    parser.add_argument(
        '--parameters', required=True, help='JSON; for an interface request the name of the image'
    )
    arguments = parser.parse_args()
    # Every user of the machine can read the arguments of a process, and the token is among them.
    setproctitle('sam_fewshot')
    let_threads_sleep()
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(levelname)s %(message)s')
    logging.captureWarnings(True)
    try:
        params = json.loads(arguments.parameters)
    except (ValueError, RecursionError) as error:
        log.exception('The job failed.')
        Reporter(sendProgress, sendWarning, sendError).fail(
            messages.PARAMETERS_NOT_JSON.error(problem=error)
        )
        sys.exit(1)
    if arguments.request == 'interface':
        interface(params['image'], arguments.apiUrl, arguments.token)
        return
    try:
        compute(
            arguments.datasetId,
            arguments.apiUrl,
            arguments.token,
            params,
            load_segmenter=load_segmenter,
        )
    except Exception:
        sys.exit(1)  # `compute` has written the traceback, and then the last line of the log


if __name__ == '__main__':
    main()
