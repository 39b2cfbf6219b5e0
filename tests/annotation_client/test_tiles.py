import itertools
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from annotation_client.connection import ServerError
from annotation_client.tiles import (
    UPennContrastDataset,
    check_metadata,
    compare_region,
    frame_numbers,
    unpickle_array,
)
from tests.annotation_client.conftest import Answer, FakeServerStarter
from tests.conftest import REPOSITORY, Server, StartServer
from tests.datasets import write_dataset

PLANE = {'sizeX': 30, 'sizeY': 20, 'dtype': 'uint8'}  # the least metadata that an image has
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
    server = fake_server(Answer(200, {'meta': meta}), Answer(200, items), Answer(200, PLANE))
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
        (np.array([[Call(os.system, 'touch touched')]]), r'it takes the step \w+ \(\d+\), which no array does'),
        (Call(FROM_BUFFER, b'A' * 8, POINTERS, (1, 1), 'C'), "its dtype 'O' is not one of numbers"),
        (Call(REBUILD, np.ndarray, (1, 1), 'O'), 'it is of type NoneType'),
        (Call(FROM_BUFFER, b'A' * 8, np.dtype('u1'), (2 ** 30, 2 ** 30), 'C'), 'it has shape .1073741824, 1073741824.'),
        (Call(FROM_BUFFER, b'A' * 8, np.dtype('u1'), (-1, 8), 'C'), r'it has shape \(-1, 8\)'),
        (Call(FROM_BUFFER, np.zeros((2, 4), np.uint8), np.dtype('u1'), (2, 4), 'C'), 'it is made of ndarray and'),
        (Call(FROM_BUFFER, b'A' * 8, 'O', (1, 1), 'C'), 'it is made of bytes and str'),
        (Call(REBUILD, np.ndarray, (2 ** 20, 2 ** 20), b'b'), 'it is of type NoneType'),
        (np.array([['text']]), "its dtype 'U4' is not one of numbers"),
        (np.zeros((1, 1), [('x', 'f4')]), 'which no array does'),
        (np.zeros((1, 1), complex), "its dtype 'c16' is not one of numbers"),
        (np.zeros((1, 1), 'M8[s]'), "its dtype 'M8' is not one of numbers"),
        (np.float32(1), 'it asks for numpy._core.multiarray.scalar'),
        (np.zeros(5), r'it has shape \(5,\)'),
        (np.zeros((1, 1, 1, 1)), r'it has shape \(1, 1, 1, 1\)'),
        (np.ndarray, 'it is of type type'),
        ({'pixels': [1, 2]}, 'it takes the step EMPTY_DICT'),
        ((1, 2), 'it is of type tuple'),
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
        with pytest.raises((pickle.UnpicklingError, EOFError, ValueError)):
            unpickle_array(whole[:length])


def in_memory_of(megabytes: int, content: bytes) -> str:
    """What a fresh process with so much room says of a pickle."""
    code = (
        'import resource, sys\n'
        'from annotation_client.tiles import unpickle_array\n'
        'import numpy\n'
        f'resource.setrlimit(resource.RLIMIT_AS, ({megabytes} * 2 ** 20,) * 2)\n'
        'try: unpickle_array(sys.stdin.buffer.read())\n'
        'except Exception as error: print(type(error).__name__, error)\n')
    environment = {**os.environ, 'OPENBLAS_NUM_THREADS': '1', 'OMP_NUM_THREADS': '1'}
    done = subprocess.run([sys.executable, '-c', code], input=content, capture_output=True, check=True, timeout=60,
                          cwd=REPOSITORY, env=environment)
    return done.stdout.decode()


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'\x80\x05N\x72\xff\xff\xff\x7f.', 'it takes the step LONG_BINPUT'),  # a memo of 2 ** 31 entries
        (b'\x80\x05p99999999999\n.', 'ValueError'),
        (b'\x80\x05' + b']' * 1_000_000 + b'a' * 999_999 + b'.', 'it takes the step EMPTY_LIST'),
        (b'\x80\x05' + b')' + b'\x85' * 1_000_000 + b'.', r'it takes the step TUPLE1 \(101\)'),
        (b'\x80\x05)' + b'2\x86' * 40 + b'.', 'it takes the step DUP'),  # doubles itself forty times
        (b'\x80\x05\x8e' + (2 ** 40).to_bytes(8, 'little') + b'abc.', 'ValueError expected 1099511627776 bytes'),
        (b'\x80\x05\x96' + (2 ** 40).to_bytes(8, 'little') + b'abc.', 'ValueError expected 1099511627776 bytes'),
        (b'\x80\x05\x8d' + (2 ** 40).to_bytes(8, 'little') + b'abc.', 'ValueError expected 1099511627776 bytes'),
        (b'\x80\x05\x95' + (2 ** 40).to_bytes(8, 'little') + b'N.', 'UnpicklingError'),
    ],
    ids=['memo', 'memo as text', 'nested lists', 'nested tuples', 'doubling', 'bytes', 'bytearray', 'text', 'frame'],
)
def test_a_pickle_that_would_fill_the_memory_is_refused_before_it_does(content: bytes, reason: str) -> None:
    assert re.search(reason, in_memory_of(1000, content))


@pytest.mark.parametrize(('tiles', 'seen'), [
    ([], r'no keys, but is \[\]'), ({**PLANE, 'sizeX': '30'}, "sizeX '30', which")])
def test_metadata_of_no_image_are_an_error_that_names_dataset_key_and_value(
    tiles: Any, seen: str, fake_server: FakeServerStarter
) -> None:
    items = [{'_id': 'b', 'largeImage': {'fileId': '1'}}]
    server = fake_server(Answer(200, {'meta': None}), Answer(200, items), Answer(200, tiles))
    with pytest.raises(ValueError, match=f'The image of dataset d1 cannot be used: its metadata has {seen}'):
        UPennContrastDataset(server.apiUrl, 'token', 'd1')


@pytest.mark.parametrize('tiles', [
    PLANE, {'sizeX': 30, 'sizeY': 20}, {**PLANE, 'frames': [], 'dtype': None}, {**PLANE, 'dtype': '>u2'},
    {**PLANE, 'frames': [{}, {'IndexZ': 1}]}, {**PLANE, 'frames': [{}, {'IndexZ': 1}], 'IndexRange': {'IndexZ': 2}},
])
def test_what_metadata_may_leave_out_is_no_error(tiles: dict) -> None:
    check_metadata(tiles)
    assert frame_numbers(tiles)[0, 0, 0, 0] == 0


EDGES = {'left': 25, 'top': 4, 'right': 40, 'bottom': 9, 'units': 'base_pixels'}  # of an image of 30 × 20


@pytest.mark.parametrize(('shape', 'dtype', 'region', 'dataset', 'wrong'), [
    ((20, 30, 1), 'uint16', {}, 'uint16', ''),
    ((20, 30), 'uint16', {'frame': 3}, None, ''),
    ((20, 30, 3), 'float32', {}, 'float32', ''),
    ((20, 30, 4), 'uint8', {}, 'uint8', ''),
    ((30, 20, 1), 'uint8', {}, 'uint8', 'of 20 × 30 pixels asked for, got 30 × 20'),
    ((0, 30, 1), 'uint8', {}, 'uint8', 'got 0 × 30'),
    ((20, 30, 5), 'uint8', {}, 'uint8', 'expected 1 to 4 bands, got 5'),
    ((20, 30, 0), 'uint8', {}, 'uint8', 'expected 1 to 4 bands, got 0'),
    ((20, 30, 1), 'uint8', {}, 'uint16', 'expected uint16, got uint8'),
    ((5, 5, 1), 'uint8', EDGES, 'uint8', ''),
    ((5, 15, 1), 'uint8', EDGES, 'uint8', 'of 5 × 5 pixels asked for, got 5 × 15'),
    ((0, 0, 3), 'float64', {**EDGES, 'left': 31}, 'uint8', ''),
    ((5, 5, 3), 'uint8', {**EDGES, 'left': 31}, 'uint8', 'asked outside the image'),
    ((7, 10, 1), 'uint8', {'width': 10, 'height': 10}, 'uint8', ''),
    ((7, 10, 1), 'uint8', {'width': 10}, 'float32', ''),  # the server scales it so
    ((7, 10, 1), 'uint8', {'width': 10}, 'uint16', 'expected uint16'),
    ((40, 60, 1), 'uint8', {'width': 60, 'height': 60}, 'uint8', ''),
    ((7, 11, 1), 'uint8', {'width': 10, 'height': 10}, 'uint8', 'in small, got 7 × 11'),
    ((10, 10, 1), 'uint8', {'width': 10, 'height': 10}, 'uint8', 'in small, got 10 × 10'),
    ((0, 0, 1), 'uint8', {'width': 10, 'height': 10}, 'uint8', 'in small, got 0 × 0'),
])
def test_pixels_are_compared_with_what_was_asked_for(
    shape: tuple, dtype: str, region: dict, dataset: str | None, wrong: str
) -> None:
    said = compare_region(shape, dtype, region, {**PLANE, 'dtype': dataset})
    assert wrong in said and bool(wrong) == bool(said)


def test_pixels_of_another_size_are_an_error_that_says_what_came(fake_server: FakeServerStarter) -> None:
    content = pickle.dumps(np.zeros((5, 6, 1), np.uint8), protocol=5)
    items = [{'_id': 'b', 'largeImage': {'fileId': '1'}}]
    server = fake_server(Answer(200, {}), Answer(200, items), Answer(200, PLANE), Answer(200, content))
    dataset = UPennContrastDataset(server.apiUrl, 'token', 'd1')
    with pytest.raises(ValueError, match=r"Region \{'frame': 0\} of dataset d1 .* of 20 × 30 pixels .*, got 5 × 6"):
        dataset.getRegion(frame=0)


@pytest.mark.parametrize('name', ['bytes', 'words', 'floats', 'colours'])
def test_a_small_picture_of_any_image_is_what_was_asked_for(name: str, server: Server) -> None:
    small = open_dataset(server, name).getRegion(frame=0, width=12, height=12)
    assert small.shape == (8, 12, 3 if name == 'colours' else 1)


@pytest.mark.parametrize(('folder', 'items'), [([], []), (None, []), ({}, {'_id': 'b'}), ({}, None)])
def test_a_folder_that_is_none_is_an_error(folder: Any, items: Any, fake_server: FakeServerStarter) -> None:
    server = fake_server(Answer(200, folder), Answer(200, items))
    with pytest.raises(ValueError, match='did not answer with dataset d1'):
        UPennContrastDataset(server.apiUrl, 'token', 'd1')


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'exhausted'),
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
    server = fake_server(Answer(200, {'meta': {}}), Answer(200, items), Answer(200, PLANE), Answer(200, content))
    dataset = UPennContrastDataset(server.apiUrl, 'token', 'd1')
    with pytest.raises(ValueError, match=rf"Region \{{'frame': 3\}} of dataset d1 did not come as an array.*{reason}"):
        dataset.getRegion(frame=3)
    assert list(tmp_path.iterdir()) == []
    assert server.requests[-1].path == '/api/v1/item/b/tiles/region?frame=3&encoding=pickle%3A5'
