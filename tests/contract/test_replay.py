"""Every recorded exchange, asked of the annotation server."""

import hashlib
import io
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import tifffile

from tests.conftest import Server, StartServer
from tests.contract.compare import Comparison, Names, optional_keys
from tests.contract.recordings import Exchange, read_exchanges
from tests.datasets import make_layer

HEIGHT, WIDTH = 48, 64
Y, X = np.mgrid[:HEIGHT, :WIDTH]
LAYER_ID = '9114efcd-60a9-4285-929e-5d7c8a0a3658'  # has a contrast of its own in the recorded view
LAYERS = [
    {**make_layer(channel, color, black=1, white=99.5, id=id), 'name': name}
    for channel, (name, color, id) in enumerate(
        [('DAPI', '#00FF00', LAYER_ID), ('Cy5', '#FF00FF', 'another')]
    )
]
CONTRAST = {'mode': 'absolute', 'blackPoint': 320, 'whitePoint': 2600}
EXCHANGES = read_exchanges()

# What the annotation server answers differently: {(chapter, note): why}.
EXCEPTIONS = {
    (
        'datasets',
        'as TIFF',
    ): 'It answers pickles alone: nothing in this repository asks for a TIFF file.',
    (
        'files',
        'replaced: announced',
    ): 'It takes a file in one call: nothing in this repository replaces one in parts.',
}
MOST_EXCEPTIONS = 10  # of those asked by these:
WHO_COUNTS = {'owner', 'nobody', 'expired'}


def write_plane(path: Path, pixels: np.ndarray) -> None:
    tifffile.imwrite(path, pixels, photometric='rgb' if pixels.ndim == 3 else 'minisblack')


def write_layers(folder: Path, name: str, sidecar: dict[str, Any]) -> None:
    (folder / f'{name}.layers.json').write_text(json.dumps(sidecar))


def write_multi(folder: Path) -> None:
    """Write two positions of (T, Z, C) = (3, 2, 2) frames, and the file that joins them."""
    folder.mkdir()
    t, z, c = np.mgrid[:3, :2, :2][..., None, None]
    for xy in range(2):
        pixels = (100 * Y + X + 5000 * (xy + 2 * t + 6 * z + 12 * c)).astype(np.uint16)
        tifffile.imwrite(
            folder / f'pos{xy}.ome.tif',
            pixels,
            metadata={'axes': 'TZCYX'},
            photometric='minisblack',
        )
    sources = [{'path': f'pos{xy}.ome.tif', 'xy': xy} for xy in range(2)]
    joined = {'channels': ['DAPI', 'Cy5'], 'sources': sources}
    (folder / 'multi-source2.json').write_text(
        json.dumps(joined).ljust(353)
    )  # as long as the recorded one


@pytest.fixture(scope='module')
def server(start_module_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Return the annotation server with the datasets of the recordings."""
    folder = tmp_path_factory.mktemp('datasets')
    write_plane(folder / 'plain.tif', (100 * Y + X).astype(np.uint16))
    write_plane(folder / 'rgb.tif', np.stack([4 * X, 5 * Y, X + Y], axis=-1).astype(np.uint8))
    write_plane(folder / 'real.tif', ((Y - 20.5) * (X + 0.25) / 7).astype(np.float32))
    write_multi(folder / 'multi.dataset')
    (folder / 'empty.dataset').mkdir()
    write_layers(folder, 'plain', {'layers': LAYERS[:1]})
    write_layers(folder, 'rgb', {'layers': LAYERS[:1]})
    write_layers(folder, 'multi', {'layers': LAYERS, 'layerContrasts': {LAYER_ID: CONTRAST}})
    return start_module_server(folder, '--worker', f'{sys.executable} -c pass')


def find_names(server: Server) -> Names:
    """Return the ids of the datasets, their items, views and configurations."""
    names = Names()
    names.bind('<unknown>', 'f' * 24)
    for name, dataset_id in server.datasets.items():
        names.bind(f'<{name}>', dataset_id)
        raw = iter(range(2))
        for item in server.client.get('item', {'folderId': dataset_id, 'limit': 0}):
            names.bind(
                f'<{name}.item>' if 'largeImage' in item else f'<{name}.raw{next(raw)}>',
                item['_id'],
            )
        for view in server.client.get('dataset_view', {'datasetId': dataset_id}):
            names.bind(f'<{name}.view>', view['_id'])
            names.bind(f'<{name}.configuration>', view['configurationId'])
    return names


def ask(server: Server, names: Names, exchange: Exchange) -> requests.Response:
    """Send a recorded request."""
    asked = {
        key: exchange.record[key]
        for key in ('method', 'path', 'query', 'body')
        if key in exchange.record
    }
    record = names.fill_in(asked)
    tokens = {**server.users, 'expired': 'no such token'}
    headers = {} if exchange.user == 'nobody' else {'Girder-Token': tokens[exchange.user]}
    body = b''
    if 'body' in record:
        body = json.dumps(record['body']).encode()
    elif record['path'] == '/file':
        body = bytes(record['query']['size'])
    elif 'not JSON' in exchange.note:
        body = b'not JSON'
    url = server.apiUrl + record['path']
    return requests.request(
        record['method'], url, params=record['query'], data=body, headers=headers, timeout=60
    )


def compare(exchange: Exchange, response: requests.Response, names: Names) -> Iterator[str]:
    """Yield how a response differs from the recorded one."""
    recorded = exchange.record
    kind = response.headers['Content-Type'].partition(';')[0]
    if (response.status_code, kind) != (recorded['status'], recorded['type']):
        yield f'{response.status_code} {kind}: {response.text[:300]}'
    elif 'answer' in recorded:
        optional = optional_keys(recorded['path'], recorded['status'])
        yield from Comparison(names, optional).find(recorded['answer'], response.json())
    elif 'array' in recorded:
        yield from compare_pixels(recorded['array'], response.content, kind)
    elif len(response.content) != recorded['bytes']:
        yield f'{len(response.content)} bytes: {response.content[:300]!r}'


def compare_pixels(recorded: dict[str, Any], content: bytes, kind: str) -> Iterator[str]:
    """Yield how an array differs from the recorded one."""
    array = tifffile.imread(io.BytesIO(content)) if kind == 'image/tiff' else pickle.loads(content)
    found: dict[str, Any] = {'dtype': str(array.dtype), 'shape': list(array.shape)}
    if 'sha256' in recorded:
        found['sha256'] = hashlib.sha256(array.tobytes()).hexdigest() if array.size else None
    if found != recorded:
        yield f'{found}, recorded was {recorded}'


def find_differences(server: Server) -> dict[Exchange, list[str]]:
    """Put all exchanges to a server, in order; return how the answers differ."""
    names = find_names(server)
    found = {}
    for exchange in EXCHANGES:
        response = ask(server, names, exchange)
        found[exchange] = list(compare(exchange, response, names))
    return found


@pytest.fixture(scope='module')
def differences(server: Server) -> dict[Exchange, list[str]]:
    return find_differences(server)


def is_exception(exchange: Exchange) -> bool:
    return (exchange.chapter, exchange.note) in EXCEPTIONS


@pytest.mark.parametrize('exchange', [one for one in EXCHANGES if not is_exception(one)], ids=str)
def test_the_answer_is_as_recorded(differences, exchange):
    assert not differences[exchange]


@pytest.mark.parametrize('exchange', [one for one in EXCHANGES if is_exception(one)], ids=str)
def test_an_exception_is_still_one(differences, exchange):
    assert differences[exchange], 'Remove it from EXCEPTIONS.'


def test_the_exceptions_are_few_and_name_one_exchange_each():
    found = [one for one in EXCHANGES if is_exception(one)]
    assert len(found) == len(EXCEPTIONS)
    assert sum(one.user in WHO_COUNTS for one in found) <= MOST_EXCEPTIONS
