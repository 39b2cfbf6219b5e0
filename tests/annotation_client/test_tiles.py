import itertools
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from annotation_client.connection import ServerError
from annotation_client.tiles import UPennContrastDataset, frame_numbers, unpickle_array
from tests.annotation_client.conftest import Answer, FakeServerStarter
from tests.conftest import Server, StartServer
from tests.datasets import write_dataset

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


def test_a_part_of_the_image_is_cut_at_its_edges(server: Server) -> None:
    edges: dict[str, Any] = {'left': 25, 'top': 4, 'right': 40, 'bottom': 9, 'units': 'base_pixels'}
    region = open_dataset(server, 'words').getRegion(frame=0, **edges)
    np.testing.assert_array_equal(region[..., 0], IMAGES['words'][4:9, 25:30])


def test_each_coordinate_leads_to_its_own_pixels(server: Server) -> None:
    dataset, stack = open_dataset(server, 'stack'), IMAGES['stack']
    for xy, t, z, c in itertools.product(*map(range, stack.shape[:4])):
        frame = dataset.coordinatesToFrameIndex(xy, Z=z, T=t, channel=c)
        np.testing.assert_array_equal(dataset.getRegion(dataset.datasetId, frame=frame)[..., 0], stack[xy, t, z, c])


def test_coordinates_left_out_are_zero(server: Server) -> None:
    dataset = open_dataset(server, 'stack')
    assert dataset.coordinatesToFrameIndex(1) == dataset.coordinatesToFrameIndex(1, 0, 0, 0)
    assert dataset.coordinatesToFrameIndex(XY=0) == 0


@pytest.mark.parametrize(
    ('name', 'place'),
    [('stack', (2, 0, 0, 0)), ('stack', (0, 2, 0, 0)), ('stack', (0, 0, 3, 0)), ('stack', (0, 0, 0, 2)),
     ('stack', (-1, 0, 0, 0)), ('words', (0, 0, 0, 1)), ('words', (1, 0, 0, 0))],
)
def test_coordinates_without_a_frame_are_named(name: str, place: tuple[int, ...], server: Server) -> None:
    dataset = open_dataset(server, name)
    xy, z, t, c = place
    with pytest.raises(KeyError, match=f'{dataset.datasetId} has no frame at XY {xy}, Z {z}, Time {t}, channel {c} '):
        dataset.coordinatesToFrameIndex(*place)


@pytest.mark.parametrize('name', ['words', 'colours'])
def test_an_image_of_one_plane_has_frame_0_only(name: str, server: Server) -> None:
    dataset = open_dataset(server, name)
    assert 'frames' not in dataset.tiles
    assert dataset.coordinatesToFrameIndex(0, 0, 0, 0) == 0


@pytest.mark.parametrize(
    ('tiles', 'expected'),
    [
        ({}, {(0, 0, 0, 0): 0}),
        ({'frames': [{'Frame': 0}, {'Frame': 1, 'IndexC': 1}]}, {(0, 0, 0, 0): 0, (0, 0, 0, 1): 1}),
        ({'frames': [{'IndexT': 1, 'IndexXY': 2, 'IndexZ': 3}, {}]}, {(2, 3, 1, 0): 0, (0, 0, 0, 0): 1}),
        # planes that differ in an axis of which the page knows nothing: the first counts
        ({'frames': [{'IndexS': 0}, {'IndexS': 1}]}, {(0, 0, 0, 0): 0}),
    ],
)
def test_an_index_that_a_frame_lacks_is_zero(tiles: dict, expected: dict) -> None:
    assert frame_numbers(tiles) == expected


def test_metadata_and_item_are_those_of_the_image(server: Server) -> None:
    dataset = open_dataset(server, 'stack')
    assert (dataset.tiles['sizeX'], dataset.tiles['sizeY'], len(dataset.tiles['frames'])) == (30, 20, 24)
    assert dataset.dataset['folderId'] == server.datasets['stack']
    assert dataset.client.get(f'item/{dataset.dataset["_id"]}/tiles') == dataset.tiles


@pytest.mark.parametrize(
    ('meta', 'shown'),
    [({'selectedLargeImageId': 'c'}, 'c'), ({}, 'b'), ({'selectedLargeImageId': None}, 'b'),
     ({'selectedLargeImageId': 'deleted'}, 'b')],
)
def test_the_image_shown_is_the_selected_one_or_the_first(
    meta: dict, shown: str, fake_server: FakeServerStarter
) -> None:
    items = [{'_id': 'a'}, {'_id': 'b', 'largeImage': {'fileId': '1'}}, {'_id': 'c', 'largeImage': {'fileId': '2'}}]
    server = fake_server(Answer(200, {'meta': meta}), Answer(200, items), Answer(200, {'sizeX': 5}))
    assert UPennContrastDataset(server.apiUrl, 'token', 'd1').dataset['_id'] == shown
    assert [request.path for request in server.requests] == [
        '/api/v1/folder/d1', '/api/v1/item?folderId=d1&limit=0', f'/api/v1/item/{shown}/tiles']


@pytest.mark.parametrize('items', [[], [{'_id': 'a', 'name': 'notes.txt'}]])
def test_a_dataset_without_images_is_an_error_that_says_so(items: list, fake_server: FakeServerStarter) -> None:
    server = fake_server(Answer(200, {'name': 'My cells', 'meta': {}}), Answer(200, items))
    with pytest.raises(ValueError, match=rf'My cells \(d1\) has no image: .* none of its {len(items)} items'):
        UPennContrastDataset(server.apiUrl, 'token', 'd1')


@pytest.mark.parametrize('datasetId', ['0' * 24, 'nonsense'])
def test_a_dataset_that_does_not_exist_is_named(datasetId: str, server: Server) -> None:
    sentence = f'GET folder/{datasetId} for dataset {datasetId} failed with status 400: Invalid'
    with pytest.raises(ServerError, match=sentence):
        UPennContrastDataset(server.apiUrl, server.token, datasetId)


def test_a_frame_that_does_not_exist_is_an_error_with_the_dataset(server: Server) -> None:
    dataset = open_dataset(server, 'words')
    with pytest.raises(ServerError, match=f'/tiles/region for dataset {dataset.datasetId} failed with status 400: '):
        dataset.getRegion(frame=5)


def test_pixels_of_another_dataset_are_refused(server: Server) -> None:
    dataset, other = open_dataset(server, 'words'), server.datasets['bytes']
    with pytest.raises(ValueError, match=f'This is dataset {dataset.datasetId}, pixels were asked of {other}'):
        dataset.getRegion(other)


NUMBERS = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(endianness='?'),
    arrays.unsigned_integer_dtypes(endianness='?'),
    arrays.floating_dtypes(endianness='?'),
)


@settings(deadline=None)
@given(
    arrays.arrays(NUMBERS, arrays.array_shapes(min_dims=2, max_dims=3)),
    st.sampled_from([np.ascontiguousarray, np.asfortranarray, lambda pixels: pixels[::-1, ::2]]),
)
def test_an_array_of_numbers_is_read_exactly(pixels: np.ndarray, layout: Any) -> None:
    pixels = layout(pixels)
    read = unpickle_array(pickle.dumps(pixels, protocol=5))
    native = pixels.dtype.newbyteorder('=')  # numpy itself swaps the bytes of some arrays as it reads them
    assert (read.dtype.newbyteorder('='), read.shape) == (native, pixels.shape)
    assert read.astype(native).tobytes() == pixels.astype(native).tobytes()  # bit by bit, NaNs too


@pytest.mark.parametrize('layout', [np.ascontiguousarray, lambda pixels: pixels[:, ::2]])
@pytest.mark.parametrize('package', ['core', '_core'])
def test_arrays_of_numpy_1_and_numpy_2_are_both_read(package: str, layout: Any) -> None:
    pixels = layout(np.arange(12, dtype=np.uint16).reshape(3, 4))
    pickled = pickle.dumps(pixels, protocol=5)
    pickled = pickled[:2] + pickled[11:]  # without its frame, which says how long it is
    names = br'(.)numpy\._?core\.(numeric|multiarray)'

    def rename(found: re.Match[bytes]) -> bytes:
        name = f'numpy.{package}.'.encode() + found[2]
        return bytes([len(name)]) + name

    renamed, count = re.subn(names, rename, pickled, flags=re.DOTALL)
    assert count == 1
    np.testing.assert_array_equal(unpickle_array(renamed), pixels)


class Call:
    """Pickles as the call of a function, which is what a hostile pickle is made of."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None):
        self.reduced = (function, arguments, state)

    def __reduce__(self) -> tuple:
        return self.reduced


REBUILD, FROM_BUFFER = np.empty(0).__reduce__()[0], np.empty(0).__reduce_ex__(5)[0]
POINTERS = Call(np.dtype, 'O', False, True, state=(3, '|', None, None, None, -1, -1, 0))  # says: not objects


@pytest.mark.parametrize(
    ('value', 'reason'),
    [
        (Call(os.system, 'touch touched'), 'it asks for posix.system'),
        (Call(eval, "open('touched', 'w')"), 'it asks for builtins.eval'),
        (Call(getattr, np.ndarray, 'tofile'), 'it asks for builtins.getattr'),
        (Call(np.save, 'touched.npy', 1), 'it asks for numpy.save'),
        (np.ndarray.tofile, 'it asks for builtins.getattr'),
        (Path('touched'), 'it asks for pathlib.'),
        (np.array([[Call(os.system, 'touch touched')]]), "its dtype 'O8' is not one of numbers"),
        (Call(FROM_BUFFER, b'A' * 8, POINTERS, (1, 1), 'C'), "its dtype 'O' is not one of numbers"),
        (Call(REBUILD, np.ndarray, (1, 1), 'O'), r'it has shape \(1, 1\) and dtype object'),
        (np.array([['text']]), "its dtype 'U4' is not one of numbers"),
        (np.zeros((1, 1), [('x', 'f4')]), "its dtype 'V4' is not one of numbers"),
        (np.zeros((1, 1), complex), "its dtype 'c16' is not one of numbers"),
        (np.zeros((1, 1), 'M8[s]'), "its dtype 'M8' is not one of numbers"),
        (np.float32(1), 'it asks for numpy._core.multiarray.scalar'),
        (np.zeros(5), r'it has shape \(5,\)'),
        (np.zeros((1, 1, 1, 1)), r'it has shape \(1, 1, 1, 1\)'),
        (np.ndarray, 'it is of type type'),
        ({'pixels': [1, 2]}, 'it is of type dict'),
    ],
)
def test_a_pickle_of_anything_else_is_refused_and_runs_nothing(
    value: object, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError, match=reason):
        unpickle_array(pickle.dumps(value, protocol=5))
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_a_method_is_not_an_admitted_name() -> None:
    with pytest.raises(pickle.UnpicklingError, match='it asks for numpy.ndarray.tofile'):
        unpickle_array(b'\x80\x05\x8c\x05numpy\x8c\x0endarray.tofile\x93.')


def test_a_pickle_that_breaks_off_anywhere_is_refused() -> None:
    whole = pickle.dumps(np.zeros((2, 3), np.uint8), protocol=5)
    for length in range(len(whole)):
        with pytest.raises((pickle.UnpicklingError, EOFError)):
            unpickle_array(whole[:length])


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'Ran out of input'),
        (b'<html>Login</html>', '.'),
        (pickle.dumps(np.zeros((5, 5)), protocol=5)[:-20], '.'),
        (pickle.dumps(Call(os.system, 'touch touched')), 'it asks for posix.system'),
    ],
)
def test_an_answer_that_is_no_array_is_an_error_that_names_region_and_dataset(
    content: bytes, reason: str, fake_server: FakeServerStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    items = [{'_id': 'a', 'largeImage': {}}, {'_id': 'b', 'largeImage': {'fileId': '1'}}]
    server = fake_server(Answer(200, {'meta': {}}), Answer(200, items), Answer(200, {}), Answer(200, content))
    dataset = UPennContrastDataset(server.apiUrl, 'token', 'd1')
    with pytest.raises(ValueError, match=rf"Region \{{'frame': 3\}} of dataset d1 did not come as an array.*{reason}"):
        dataset.getRegion(frame=3)
    assert list(tmp_path.iterdir()) == []
    assert server.requests[-1].path == '/api/v1/item/b/tiles/region?frame=3&encoding=pickle%3A5'
