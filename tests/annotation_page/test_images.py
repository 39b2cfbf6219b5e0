"""New images over HTTP, and the pixels of the page beside those of the worker."""

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
import tifffile
from PIL import Image

from annotation_client.tiles import UPennContrastDataset
from annotation_page.tiles import count_pages
from annotation_page.uploads import UploadError, choose_name, receive_image, split_name
from fewshot.geometry import Location, Tile
from fewshot.images.frames import FrameLoader
from fewshot.images.layers import choose_layers
from fewshot.server import Server
from tests.annotation_page.conftest import PageServer, StartPage
from tests.annotation_server.conftest import make_pixels
from tests.datasets import make_layer, write_dataset


def encode(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    if kind == 'png':
        Image.fromarray(pixels).save(file, 'png')
    else:
        tifffile.imwrite(file, pixels, ome=kind == 'ome.tif')
    return file.getvalue()


PLANE = np.arange(600, dtype=np.uint8).reshape(20, 30)


@pytest.fixture
def server(start_page: StartPage, tmp_path) -> PageServer:
    return start_page(tmp_path)


@pytest.fixture
def session(server: PageServer) -> requests.Session:
    session = requests.Session()
    session.get(server.link)
    return session


def add(session, server, name: str, content: bytes) -> requests.Response:
    return session.post(f'{server.origin}/page/images', params={'name': name}, data=content)


def read_tile(session, server, dataset: str, **place: int) -> np.ndarray:
    query = {'xy': 0, 'z': 0, 't': 0, 'level': 0, 'x': 0, 'y': 0, **place}
    answer = session.get(f'{server.origin}/page/{dataset}/tile', params=query)
    assert answer.status_code == 200, answer.text
    return np.array(Image.open(io.BytesIO(answer.content)))


@pytest.mark.parametrize('kind', ['tif', 'tiff', 'ome.tif', 'png'])
def test_an_image_is_added_and_shown(session, server, kind):
    answer = add(
        session, server, f'my cells.{kind}', encode(PLANE, 'png' if kind == 'png' else kind)
    )
    assert answer.status_code == 200, answer.text
    tile = read_tile(session, server, answer.json()['dataset'])
    assert (tile[:20, :30, 3] == 255).all()
    assert not tile[20:, :, 3].any()
    assert tile[0, 0, 0] < tile[10, 0, 0]
    assert (server.folder / f'my cells.{kind}').exists()
    assert list((server.folder / 'uploads').iterdir()) == []


def test_a_png_with_a_long_side_is_added(session, server):
    content = encode(np.zeros((10, 5000), np.uint8), 'png')
    answer = add(session, server, 'long.png', content)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ('metadata', 'pages'),
    [
        ({}, 1),
        ({'frames': [{}, {}, {}]}, 3),
        ({'frames': [{}] * 6, 'IndexRange': {'IndexZ': 3, 'IndexC': 2}}, 1),
        ({'frames': [{}] * 6, 'IndexRange': {'IndexQ': 3, 'IndexC': 2}}, 3),
    ],
    ids=str,
)
def test_pages_without_a_known_axis_are_counted(metadata, pages):
    assert count_pages(metadata) == pages


def test_a_name_that_is_taken_gets_a_number(session, server):
    for _ in range(2):
        assert add(session, server, 'a.tif', encode(PLANE, 'tif')).status_code == 200
    assert add(session, server, 'A.PNG', encode(PLANE, 'png')).status_code == 200
    assert sorted(path.name for path in server.folder.glob('*.*') if path.suffix != '.sqlite') == [
        'A 3.png',
        'a 2.tif',
        'a.tif',
    ]


@pytest.mark.parametrize(
    ('name', 'content', 'problem'),
    [
        ('a.jpg', b'', '"a.jpg" is not a TIFF or PNG image'),
        ('a', b'', '"a" is not a TIFF or PNG image'),
        ('.tif', b'', 'is not a TIFF or PNG image'),
        ('..', b'', 'is not a TIFF or PNG image'),
        ('a.yml', b'sources: [{path: /etc/passwd}]', 'is not a TIFF or PNG image'),
        ('a.tif', b'', '"a.tif" cannot be read as an image'),
        ('a.png', b'\x89PNG\r\n\x1a\n broken', '"a.png" cannot be read as an image'),
        ('a.tif', b'sources: [{path: /etc/passwd}]', '"a.tif" cannot be read as an image'),
        ('a.tif', encode(np.zeros((9, 9), bool), 'tif'), '"a.tif" cannot be read as an image'),
    ],
)
def test_anything_else_is_refused_with_a_reason(session, server, name, content, problem):
    before = sorted(server.folder.iterdir())
    answer = add(session, server, name, content)
    assert answer.status_code == 400
    assert problem in answer.json()['message']
    assert sorted(set(server.folder.iterdir()) - {server.folder / 'uploads'}) == before


@pytest.mark.parametrize('name', ['../a.tif', '/etc/a.tif', '..\\a.tif', 'b/../../a.tif'])
def test_an_image_cannot_leave_the_folder(session, server, name):
    assert add(session, server, name, encode(PLANE, 'tif')).status_code == 200
    assert (server.folder / 'a.tif').exists()
    assert not (server.folder.parent / 'a.tif').exists()


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('cells.tif', ('cells', '.tif')),
        ('cells.OME.TIFF', ('cells', '.ome.tiff')),
        ('a\x00b<i>.png', ('a_b_i_', '.png')),
        (' . a .png', ('a', '.png')),
        ('ä' * 300 + '.png', ('ä' * 120, '.png')),
    ],
)
def test_names_become_safe(name, expected):
    assert split_name(name) == expected


def test_a_name_is_compared_as_the_server_lists_it():
    assert choose_name('a.ome.tif', ['a.ome', 'a']) == ('a 2.ome', 'a 2.ome.tif')
    with pytest.raises(UploadError):
        choose_name('a.txt', [])


def test_an_image_that_is_too_large_is_refused(tmp_path):
    async def body():
        for _ in range(5):
            yield b'a' * 2**20

    with pytest.raises(UploadError, match='is larger than 3 MB'):
        asyncio.run(receive_image(tmp_path, 'a.tif', body(), [], limit=3 * 2**20))
    assert [path.name for path in tmp_path.iterdir()] == ['uploads']
    assert list((tmp_path / 'uploads').iterdir()) == []


@pytest.mark.parametrize('path', ['tile', 'outlines'])
def test_a_dataset_that_does_not_exist_has_nothing(session, server, path):
    query = {'xy': 0, 'z': 0, 't': 0, 'level': 0, 'x': 0, 'y': 0}
    answer = session.get(f'{server.origin}/page/{"f" * 24}/{path}', params=query)
    assert answer.status_code == 404


LAYERS = [
    make_layer(0, '#FF8000', black=2, white=97),
    make_layer(1, '#00FF40', mode='absolute', black=20, white=30_000),
]


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32'])
def test_the_page_shows_what_the_worker_sees(start_page, tmp_path, dtype):
    pixels = make_pixels((2, 1, 2, 2, 40, 50), dtype)
    write_dataset(tmp_path, 'stack', pixels, LAYERS)
    server = start_page(tmp_path)
    session = requests.Session()
    session.get(server.link)
    dataset = server.dataset_id('stack')
    api = f'{server.origin}/api/v1'
    image = UPennContrastDataset(api, server.token, dataset)
    layers, problem = choose_layers(Server(api, server.token, dataset), 2)
    assert problem is None
    with ThreadPoolExecutor(1) as background:
        loader = FrameLoader(image, dataset, layers, background)
        for xy, z in ((0, 0), (1, 1)):
            seen = loader.load(Tile(Location(xy, z, 0)))
            shown = read_tile(session, server, dataset, xy=xy, z=z)
            assert (shown[:40, :50, :3] == seen).all()


def test_a_large_image_is_cut_to_tiles_and_halved(start_page, tmp_path):
    pixels = np.zeros((1000, 1300), np.uint8)
    pixels[600:, 700:] = 200
    layers = [make_layer(0, mode='absolute', black=0, white=200)]
    write_dataset(tmp_path, 'large', pixels, layers)
    server = start_page(tmp_path)
    session = requests.Session()
    session.get(server.link)
    dataset = server.dataset_id('large')
    corner = read_tile(session, server, dataset, x=2, y=1)
    assert corner.shape == (512, 512, 4)
    assert (corner[: 1000 - 512, : 1300 - 1024, 3] == 255).all()
    assert not corner[1000 - 512 :, :, 3].any()
    assert corner[88, 0, 0] == 255
    assert corner[87, 0, 0] == 0
    overview = read_tile(session, server, dataset, level=2)
    assert (overview[:, :, 3] > 0).sum() == 250 * 325
    assert (overview[160:250, 180:325, 0] == 255).all()
    assert (overview[:149, :174, 0] == 0).all()
    query = {'xy': 0, 'z': 0, 't': 0, 'level': 0, 'x': 3, 'y': 0}
    answer = session.get(f'{server.origin}/page/{dataset}/tile', params=query)
    assert answer.status_code == 404
