"""python -m annotation_server FOLDER [--port N] [--no-properties]"""

import argparse
import json
import logging
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import uvicorn

from annotation_server.app import create_app
from annotation_server.images import find_images
from annotation_server.store import Store


def main() -> None:
    """Serve a folder on loopback until SIGTERM or Ctrl-C; once ready, print one JSON line: apiUrl, token, datasets."""
    parser = argparse.ArgumentParser(prog='python -m annotation_server', description=__doc__)
    parser.add_argument('folder', type=Path, help='folder of images; annotations.sqlite is kept in it')
    parser.add_argument('--port', type=int, default=0, help='port on 127.0.0.1 (default: a free one)')
    parser.add_argument(
        '--no-properties',
        dest='may_write_properties',
        action='store_false',
        help='refuse to store properties, their values and the metadata of configurations with 403, '
        'as for a user who may only annotate',
    )
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        parser.error(f'{arguments.folder} is not a folder')
    logging.basicConfig(format='%(levelname)s: %(message)s')
    logging.getLogger('large_image').setLevel(logging.ERROR)  # it reports every optional package it does without
    try:
        images = find_images(arguments.folder)
        layers = {name: read_layers(path) for name, path in images.items()}
        listener = socket.create_server(('127.0.0.1', arguments.port))
    except (OSError, ValueError, OverflowError) as error:
        parser.exit(1, f'annotation_server: {error}\n')
    with closing(Store(arguments.folder / 'annotations.sqlite')) as store, listener:
        datasets = {name: store.add_dataset(name, layers[name]) for name in images}
        serve(store, images, datasets, listener, arguments.may_write_properties)


def serve(
    store: Store,
    images: dict[str, Path],
    datasets: dict[str, str],
    listener: socket.socket,
    may_write_properties: bool,
) -> None:
    """Answer requests until a signal ends the process."""
    api_url = f'http://127.0.0.1:{listener.getsockname()[1]}/api/v1'
    ready = json.dumps({'apiUrl': api_url, 'token': store.token, 'datasets': datasets})
    app = create_app(store, images, lambda: print(ready, flush=True), may_write_properties)
    # uvicorn raises the signal again once it has shut down: let that end the process with status 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    uvicorn.Server(uvicorn.Config(app, log_level='warning', access_log=False)).run(sockets=[listener])


def read_layers(image: Path) -> dict[str, Any] | None:
    """Return what the file <stem>.layers.json beside an image says: {'layers': [...], 'layerContrasts': {...}}.

    Returns None without such a file. Raises ValueError if it is not as described.
    """
    path = image.with_name(f'{image.stem}.layers.json')
    if not path.exists():
        return None
    try:
        layers = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f'{path} is not JSON: {error}') from error
    if not isinstance(layers, dict) or not isinstance(layers.get('layers'), list):
        raise ValueError(f'{path} must hold a JSON object with a list "layers".')
    return layers


if __name__ == '__main__':
    main()
