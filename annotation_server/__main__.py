"""Serve a folder of images as datasets, to try and test the worker without NimbusImage.

FOLDER/NAME.tif           each image is a dataset: .tif, .tiff, .png, .jpg, or a .yml file that
                          joins several images in large_image's format
FOLDER/NAME.dataset/      each subfolder is a dataset of all of its files. It shows the .json or
                          .yml file that joins them, else the first file. It may be empty
FOLDER/NAME.layers.json   the dataset's configurations: layers, contrasts and rights (see
                          annotation_server/layers.py). Without this file it has no view
FOLDER/annotations.sqlite everything that clients store
FOLDER/jobs/              the output of the jobs

When it is ready, the server prints a link. It opens a page to outline objects, run the worker and
save the result. With --json there is no page, and the server prints one line of JSON: "apiUrl",
"token" (the owner's), "datasets" {name: id} and "users" {name: token}. On every dataset, owner and
admin may do everything, writer may change it, reader may read it, and stranger may do nothing.
"""

import argparse
import json
import logging
import os
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from annotation_server.app import create_app
from annotation_server.images import find_datasets
from annotation_server.jobs import REPOSITORY, Jobs
from annotation_server.layers import read_configurations
from annotation_server.store import Store

# The usual value of a proxy. A shorter time would close the connection of a client that computes.
IDLE_SECONDS = 75


def main(
    argv: Sequence[str] | None = None, wrap: Callable[[FastAPI], ASGIApp] = lambda app: app
) -> None:
    """Serve a folder on loopback until SIGTERM or Ctrl-C.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, by default those of the process.
    wrap : callable, optional
        Gets the server's application and returns the one to serve. Tests inject faults with it.
    """
    arguments = read_arguments(argv)
    logging.basicConfig(format='%(levelname)s: %(message)s')
    # large_image logs each optional package that is not installed.
    logging.getLogger('large_image').setLevel(logging.ERROR)
    try:
        files = find_datasets(arguments.folder)
        configurations = {name: read_configurations(arguments.folder, name) for name in files}
        listener = socket.create_server(('127.0.0.1', arguments.port))
        # It saves 40 ms per request. asyncio does it only for sockets that name their protocol.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, ValueError, OverflowError) as error:
        sys.exit(f'annotation_server: {error}')
    with closing(Store(arguments.folder / 'annotations.sqlite')) as store, listener:
        datasets = {
            name: store.add_dataset(name, [path.name for path in paths], configurations[name])
            for name, paths in files.items()
        }
        serve(store, files, datasets, listener, arguments, wrap)


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments of the command line. End with status 2 if they are not valid."""
    parser = argparse.ArgumentParser(
        prog='python -m annotation_server',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('folder', type=Path, help='folder of images')
    parser.add_argument(
        '--port', type=int, default=0, help='port on 127.0.0.1 (default: a free one)'
    )
    parser.add_argument(
        '--worker',
        metavar='COMMAND',
        type=shlex.split,
        default=[sys.executable, 'entrypoint.py'],
        help='the program that a job runs, in the folder of the repository (default: '
        'entrypoint.py, with the Python that runs the server)',
    )
    parser.add_argument(
        '--jobs-at-once',
        metavar='K',
        type=int,
        default=1,
        help='number of jobs that run at the same time (default: 1); with 0, jobs are refused',
    )
    parser.add_argument(
        '--json',
        action='store_true',
        help='for programs: serve no page, and print the address, the tokens and the datasets',
    )
    arguments = parser.parse_args(argv)
    if not arguments.folder.is_dir():
        parser.error(f'{arguments.folder} is not a folder')
    if arguments.jobs_at_once < 0:
        parser.error(f'--jobs-at-once must be 0 or more, not {arguments.jobs_at_once}')
    return arguments


def serve(
    store: Store,
    files: dict[str, list[Path]],
    datasets: dict[str, str],
    listener: socket.socket,
    arguments: argparse.Namespace,
    wrap: Callable[[FastAPI], ASGIApp],
) -> None:
    """Answer requests and run jobs until a signal ends the process."""
    port = listener.getsockname()[1]
    api_url = f'http://127.0.0.1:{port}/api/v1'
    users = store.tokens()
    ready = json.dumps(
        {'apiUrl': api_url, 'token': users['owner'], 'datasets': datasets, 'users': users}
    )
    command = [*arguments.worker, '--apiUrl', api_url]
    # uvicorn raises the signal again after it has shut down. The process then ends with status 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    with closing(Jobs(command, arguments.jobs_at_once, arguments.folder / 'jobs')) as jobs:
        if arguments.json:
            app = wrap(create_app(store, files, lambda: print(ready, flush=True), jobs))
        else:
            # It needs NiceGUI, which other programs do not install.
            from annotation_page.app import add_page, make_link

            # The worker takes the small model of this repository, unless another one is named.
            os.environ.setdefault('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))
            link = f'Open this link in a browser: {make_link(users["owner"], port)}'
            api = create_app(store, files, lambda: print(link, flush=True), jobs)
            app = add_page(api, datasets, arguments.folder, port)
        uvicorn.Server(
            uvicorn.Config(
                app, log_level='warning', access_log=False, timeout_keep_alive=IDLE_SECONDS
            )
        ).run(sockets=[listener])


if __name__ == '__main__':
    main()
