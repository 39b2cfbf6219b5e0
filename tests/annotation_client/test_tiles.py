"""Images of datasets: metadata, frames and regions."""

import itertools
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotation_client.connection import ServerError
from annotation_client.tiles import (
    UPennContrastDataset,
    check_metadata,
    compare_region,
    frame_numbers,
)
from tests.annotation_client.conftest import Answer, FakeServerStarter
from tests.conftest import Server, StartServer
from tests.datasets import write_dataset

PLANE = {'sizeX': 30, 'sizeY': 20, 'dtype': 'uint8'}  # the least metadata of an image
RANDOM = np.random.default_rng(1)
FLOATS = RANDOM.normal(size=(20, 30)).astype(np.float32)
FLOATS[3, 4:7] = np.nan, np.inf, -1e30
IMAGES = {
    'bytes': RANDOM.integers(0, 256, (20, 30), np.uint8),
    'words': RANDOM.integers(0, 65536, (20, 30), np.uint16),
    'floats': FLOATS,
    'colours': RANDOM.integers(0, 256, (20, 30, 3), np.uint8),
    'stack': RANDOM.integers(0, 65536, (2, 3, 2, 2, 20, 30), np.uint16),  # XY, T, Z, C
}


@pytest.fixture(scope='module')
def server(start_module_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp('images')
    for name, pixels in IMAGES.items():
        write_dataset(folder, name, pixels)
    return start_module_server(folder)


def open_dataset(server: Server, name: str) -> UPennContrastDataset:
    return UPennContrastDataset(server.apiUrl, server.token, server.datasets[name])


@pytest.mark.parametrize('name', ['bytes', 'words', 'floats', 'colours'])
def test_pixels_are_those_of_the_file(name: str, server: Server) -> None:
    pixels = IMAGES[name] if name == 'colours' else IMAGES[name][..., np.newaxis]
    dataset = open_dataset(server, name)
    for region in (dataset.getRegion(), dataset.getRegion(server.datasets[name], frame=0)):
        assert region.dtype == pixels.dtype
        np.testing.assert_array_equal(region, pixels)


def test_region_is_cut_at_the_edges(server: Server) -> None:
    edges: dict[str, Any] = {'left': 25, 'top': 4, 'right': 40, 'bottom': 9, 'units': 'base_pixels'}
    region = open_dataset(server, 'words').getRegion(frame=0, **edges)
    np.testing.assert_array_equal(region[..., 0], IMAGES['words'][4:9, 25:30])


def test_coordinates_lead_to_their_frame(server: Server) -> None:
    dataset, stack = open_dataset(server, 'stack'), IMAGES['stack']
    for xy, t, z, c in itertools.product(*map(range, stack.shape[:4])):
        frame = dataset.coordinatesToFrameIndex(xy, Z=z, T=t, channel=c)
        np.testing.assert_array_equal(
            dataset.getRegion(dataset.datasetId, frame=frame)[..., 0], stack[xy, t, z, c]
        )


def test_missing_coordinates_are_zero(server: Server) -> None:
    dataset = open_dataset(server, 'stack')
    assert dataset.coordinatesToFrameIndex(1) == dataset.coordinatesToFrameIndex(1, 0, 0, 0)
    assert dataset.coordinatesToFrameIndex(XY=0) == 0


@pytest.mark.parametrize(
    ('name', 'place'),
    [
        ('stack', (2, 0, 0, 0)),
        ('stack', (0, 2, 0, 0)),
        ('stack', (0, 0, 3, 0)),
        ('stack', (0, 0, 0, 2)),
        ('stack', (-1, 0, 0, 0)),
        ('words', (0, 0, 0, 1)),
        ('words', (1, 0, 0, 0)),
    ],
)
def test_missing_frame_is_named(name: str, place: tuple[int, ...], server: Server) -> None:
    dataset = open_dataset(server, name)
    xy, z, t, c = place
    with pytest.raises(
        KeyError,
        match=f'{dataset.datasetId} has no frame at XY {xy}, Z {z}, Time {t}, channel {c} ',
    ):
        dataset.coordinatesToFrameIndex(*place)


@pytest.mark.parametrize('name', ['words', 'colours'])
def test_image_of_one_plane_has_frame_0(name: str, server: Server) -> None:
    dataset = open_dataset(server, name)
    assert 'frames' not in dataset.tiles
    assert dataset.coordinatesToFrameIndex(0, 0, 0, 0) == 0


@pytest.mark.parametrize(
    ('tiles', 'expected'),
    [
        ({}, {(0, 0, 0, 0): 0}),
        ({'frames': [{'Frame': 0}, {'Frame': 1, 'IndexC': 1}]}, {(0, 0, 0, 0): 0, (0, 0, 0, 1): 1}),
        (
            {'frames': [{'IndexT': 1, 'IndexXY': 2, 'IndexZ': 3}, {}]},
            {(2, 3, 1, 0): 0, (0, 0, 0, 0): 1},
        ),
        # planes that differ in an axis of which the page knows nothing: the first counts
        ({'frames': [{'IndexS': 0}, {'IndexS': 1}]}, {(0, 0, 0, 0): 0}),
    ],
)
def test_missing_index_is_zero(tiles: dict, expected: dict) -> None:
    assert frame_numbers(tiles) == expected


def test_metadata_are_those_of_the_image(server: Server) -> None:
    dataset = open_dataset(server, 'stack')
    assert (dataset.tiles['sizeX'], dataset.tiles['sizeY'], len(dataset.tiles['frames'])) == (
        30,
        20,
        24,
    )
    assert dataset.dataset['folderId'] == server.datasets['stack']
    assert dataset.client.get(f'item/{dataset.dataset["_id"]}/tiles') == dataset.tiles


@pytest.mark.parametrize(
    ('meta', 'shown'),
    [
        ({'selectedLargeImageId': 'c'}, 'c'),
        ({}, 'b'),
        ({'selectedLargeImageId': None}, 'b'),
        ({'selectedLargeImageId': 'deleted'}, 'b'),
    ],
)
def test_selected_or_first_image_is_shown(
    meta: dict, shown: str, fake_server: FakeServerStarter
) -> None:
    items = [
        {'_id': 'a'},
        {'_id': 'b', 'largeImage': {'fileId': '1'}},
        {'_id': 'c', 'largeImage': {'fileId': '2'}},
    ]
    server = fake_server(Answer(200, {'meta': meta}), Answer(200, items), Answer(200, PLANE))
    assert UPennContrastDataset(server.apiUrl, 'token', 'd1').dataset['_id'] == shown
    assert [request.path for request in server.requests] == [
        '/api/v1/folder/d1',
        '/api/v1/item?folderId=d1&limit=0',
        f'/api/v1/item/{shown}/tiles',
    ]


@pytest.mark.parametrize('items', [[], [{'_id': 'a', 'name': 'notes.txt'}]])
def test_dataset_without_images_is_refused(items: list, fake_server: FakeServerStarter) -> None:
    server = fake_server(Answer(200, {'name': 'My cells', 'meta': {}}), Answer(200, items))
    with pytest.raises(
        ValueError, match=rf'My cells \(d1\) has no image among its {len(items)} items'
    ):
        UPennContrastDataset(server.apiUrl, 'token', 'd1')


@pytest.mark.parametrize('datasetId', ['0' * 24, 'nonsense'])
def test_missing_dataset_is_named(datasetId: str, server: Server) -> None:
    sentence = f'GET folder/{datasetId} for dataset {datasetId} failed with status 400: Invalid'
    with pytest.raises(ServerError, match=sentence):
        UPennContrastDataset(server.apiUrl, server.token, datasetId)


def test_refused_region_names_the_dataset(server: Server) -> None:
    dataset = open_dataset(server, 'words')
    with pytest.raises(
        ServerError, match=f'/tiles/region for dataset {dataset.datasetId} failed with status 400: '
    ):
        dataset.getRegion(frame=5)


def test_other_dataset_is_refused(server: Server) -> None:
    dataset, other = open_dataset(server, 'words'), server.datasets['bytes']
    with pytest.raises(
        ValueError, match=f'This is dataset {dataset.datasetId}. Open dataset {other}'
    ):
        dataset.getRegion(other)


@pytest.mark.parametrize(
    ('tiles', 'seen'),
    [
        ([], r'the answer is \[\], expected an object'),
        ({**PLANE, 'sizeX': '30'}, "sizeX is '30', expected an integer from 1 to 10000000"),
        ({**PLANE, 'dtype': 'complex64'}, "dtype is 'complex64', expected a type of numbers"),
        ({**PLANE, 'frames': [{}, 1]}, r'frames\[1\] is 1, expected an object'),
        (
            {**PLANE, 'frames': [{}], 'IndexRange': {'IndexZ': 2}},
            'IndexRange.IndexZ is 2, but the frames have 1',
        ),
    ],
)
def test_bad_metadata_are_refused_with_the_value(
    tiles: Any, seen: str, fake_server: FakeServerStarter
) -> None:
    items = [{'_id': 'b', 'largeImage': {'fileId': '1'}}]
    server = fake_server(Answer(200, {'meta': None}), Answer(200, items), Answer(200, tiles))
    with pytest.raises(
        ValueError, match=f'The metadata of the image of dataset d1 are not usable: {seen}'
    ):
        UPennContrastDataset(server.apiUrl, 'token', 'd1')


@pytest.mark.parametrize(
    'tiles',
    [
        PLANE,
        {'sizeX': 30, 'sizeY': 20},
        {**PLANE, 'frames': [], 'dtype': None},
        {**PLANE, 'dtype': '>u2'},
        {**PLANE, 'frames': [{}, {'IndexZ': 1}]},
        {**PLANE, 'frames': [{}, {'IndexZ': 1}], 'IndexRange': {'IndexZ': 2}},
    ],
)
def test_optional_metadata_may_be_missing(tiles: dict) -> None:
    check_metadata(tiles)
    assert frame_numbers(tiles)[0, 0, 0, 0] == 0


EDGES = {
    'left': 25,
    'top': 4,
    'right': 40,
    'bottom': 9,
    'units': 'base_pixels',
}  # of an image of 30 x 20


@pytest.mark.parametrize(
    ('shape', 'dtype', 'region', 'dataset', 'wrong'),
    [
        ((20, 30, 1), 'uint16', {}, 'uint16', ''),
        ((20, 30), 'uint16', {'frame': 3}, None, ''),
        ((20, 30, 3), 'float32', {}, 'float32', ''),
        ((20, 30, 4), 'uint8', {}, 'uint8', ''),
        ((30, 20, 1), 'uint8', {}, 'uint8', 'asked for 20 x 30 pixels, got 30 x 20'),
        ((0, 30, 1), 'uint8', {}, 'uint8', 'got 0 x 30'),
        ((20, 30, 5), 'uint8', {}, 'uint8', 'expected 1 to 4 bands, got 5'),
        ((20, 30, 0), 'uint8', {}, 'uint8', 'expected 1 to 4 bands, got 0'),
        ((20, 30, 1), 'uint8', {}, 'uint16', 'expected uint16, got uint8'),
        ((5, 5, 1), 'uint8', EDGES, 'uint8', ''),
        ((5, 15, 1), 'uint8', EDGES, 'uint8', 'asked for 5 x 5 pixels, got 5 x 15'),
        ((0, 0, 3), 'float64', {**EDGES, 'left': 31}, 'uint8', ''),
        ((5, 5, 3), 'uint8', {**EDGES, 'left': 31}, 'uint8', 'asked outside the image'),
        ((7, 10, 1), 'uint8', {'width': 10, 'height': 10}, 'uint8', ''),
        ((7, 10, 1), 'uint8', {'width': 10}, 'float32', ''),  # the server scales it so
        ((7, 10, 1), 'uint8', {'width': 10}, 'uint16', 'expected uint16'),
        ((40, 60, 1), 'uint8', {'width': 60, 'height': 60}, 'uint8', ''),
        (
            (7, 11, 1),
            'uint8',
            {'width': 10, 'height': 10},
            'uint8',
            'in a smaller size, got 7 x 11',
        ),
        (
            (10, 10, 1),
            'uint8',
            {'width': 10, 'height': 10},
            'uint8',
            'in a smaller size, got 10 x 10',
        ),
        ((0, 0, 1), 'uint8', {'width': 10, 'height': 10}, 'uint8', 'in a smaller size, got 0 x 0'),
    ],
)
def test_pixels_are_compared_with_the_region(
    shape: tuple, dtype: str, region: dict, dataset: str | None, wrong: str
) -> None:
    said = compare_region(shape, dtype, region, {**PLANE, 'dtype': dataset})
    assert wrong in said
    assert bool(wrong) == bool(said)


def test_pixels_of_another_size_are_refused(fake_server: FakeServerStarter) -> None:
    content = pickle.dumps(np.zeros((5, 6, 1), np.uint8), protocol=5)
    items = [{'_id': 'b', 'largeImage': {'fileId': '1'}}]
    server = fake_server(
        Answer(200, {}), Answer(200, items), Answer(200, PLANE), Answer(200, content)
    )
    dataset = UPennContrastDataset(server.apiUrl, 'token', 'd1')
    with pytest.raises(
        ValueError,
        match=r"Region \{'frame': 0\} of dataset d1 .* asked for 20 x 30 pixels, got 5 x 6",
    ):
        dataset.getRegion(frame=0)


@pytest.mark.parametrize('name', ['bytes', 'words', 'floats', 'colours'])
def test_scaled_region_is_accepted(name: str, server: Server) -> None:
    small = open_dataset(server, name).getRegion(frame=0, width=12, height=12)
    assert small.shape == (8, 12, 3 if name == 'colours' else 1)


@pytest.mark.parametrize(
    ('folder', 'items'), [([], []), (None, []), ({}, {'_id': 'b'}), ({}, None)]
)
def test_answer_that_is_no_folder_is_refused(
    folder: Any, items: Any, fake_server: FakeServerStarter
) -> None:
    server = fake_server(Answer(200, folder), Answer(200, items))
    with pytest.raises(ValueError, match='did not answer with dataset d1'):
        UPennContrastDataset(server.apiUrl, 'token', 'd1')


class Command:
    """Pickles as a call of `os.system`."""

    def __reduce__(self) -> tuple:
        return os.system, ('touch touched',)


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'exhausted'),
        (b'<html>Login</html>', '.'),
        (pickle.dumps(np.zeros((5, 5)), protocol=5)[:-20], '.'),
        (pickle.dumps(Command()), 'it asks for posix.system'),
    ],
)
def test_answer_that_is_no_array_names_region_and_dataset(
    content: bytes,
    reason: str,
    fake_server: FakeServerStarter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    items = [{'_id': 'a', 'largeImage': {}}, {'_id': 'b', 'largeImage': {'fileId': '1'}}]
    server = fake_server(
        Answer(200, {'meta': {}}), Answer(200, items), Answer(200, PLANE), Answer(200, content)
    )
    dataset = UPennContrastDataset(server.apiUrl, 'token', 'd1')
    with pytest.raises(
        ValueError, match=rf"Region \{{'frame': 3\}} of dataset d1 is not an array.*{reason}"
    ):
        dataset.getRegion(frame=3)
    assert list(tmp_path.iterdir()) == []
    assert server.requests[-1].path == '/api/v1/item/b/tiles/region?frame=3&encoding=pickle%3A5'
