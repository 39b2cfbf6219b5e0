"""One server for the tests of the server's routes, with one dataset of each kind."""

import re
from collections.abc import Callable
from typing import Any

import girder_client
import numpy as np
import pytest

from tests.conftest import Server, StartServer
from tests.datasets import make_layer, write_dataset

HEIGHT, WIDTH = 40, 50
PLANE = np.zeros((4, 4), np.uint8)
ABSENT_ID = 'f' * 24


def make_pixels(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return pixels with the whole range of their type. Floats have signs, NaN and infinities."""
    random = np.random.default_rng(0)
    if dtype != 'float32':
        return random.integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)
    pixels = random.normal(scale=1e6, size=shape).astype(dtype)
    pixels.flat[:3] = np.nan, np.inf, -np.inf
    return pixels


IMAGES = {
    f'{kind} {dtype}': make_pixels(shape, dtype)
    for dtype in ('uint8', 'uint16', 'float32')
    for kind, shape in {
        'plane': (HEIGHT, WIDTH),
        'rgb': (HEIGHT, WIDTH, 3),
        'stack': (2, 2, 2, 2, HEIGHT, WIDTH),
        'channels': (1, 1, 1, 3, HEIGHT, WIDTH),
        'single': (1, 1, 1, 1, HEIGHT, WIDTH),
    }.items()
}
LAYERS = [make_layer(0, '#FF0000'), make_layer(1, '#00FF00', visible=False)]
LAYER_CONTRASTS = {'layer-0': {'mode': 'absolute', 'blackPoint': 1, 'whitePoint': 2}}


@pytest.fixture(scope='module')
def server(start_module_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp('images')
    for name, pixels in IMAGES.items():
        with_layers = name == 'stack uint16'
        write_dataset(
            folder,
            name,
            pixels,
            LAYERS if with_layers else None,
            LAYER_CONTRASTS if with_layers else None,
        )
    return start_module_server(folder)


@pytest.fixture
def expired(server: Server) -> girder_client.GirderClient:
    """Return a client whose token the server does not know."""
    client = girder_client.GirderClient(apiUrl=server.apiUrl)
    client.setToken('no such token')
    return client


def make_annotation(dataset_id: str, **values: Any) -> dict[str, Any]:
    annotation = {
        'coordinates': [{'x': 1.5, 'y': 2}, {'x': 3, 'y': 2}, {'x': 2, 'y': 4.25}],
        'tags': ['cell'],
        'channel': 0,
        'location': {'XY': 0, 'Z': 0, 'Time': 0},
        'shape': 'polygon',
        'datasetId': dataset_id,
    }
    return {**annotation, **values}


def item_id(server: Server, name: str) -> str:
    return server.client.get('item', {'folderId': server.datasets[name], 'limit': 0})[0]['_id']


def refusal(call: Callable[..., Any], *arguments: Any, **named: Any) -> tuple[int, str, str]:
    """Return status, message and type of a refused call, with ids replaced by 'ID'."""
    with pytest.raises(girder_client.HttpError) as caught:
        call(*arguments, **named)
    body = caught.value.response.json()
    assert set(body) == {'message', 'type'}
    return caught.value.status, re.sub('[0-9a-f]{24}', 'ID', body['message']), body['type']
