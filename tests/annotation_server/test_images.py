import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import girder_client
import numpy as np
import pytest

from tests.annotation_server.conftest import HEIGHT, IMAGES, WIDTH, item_id, refusal
from tests.conftest import Server


def get_tiles(server: Server, name: str) -> dict[str, Any]:
    return server.client.get(f'item/{item_id(server, name)}/tiles')


def get_array(server: Server, name: str, **parameters: Any) -> np.ndarray:
    path = f'item/{item_id(server, name)}/tiles/region'
    answer = server.client.get(path, {'encoding': 'pickle:5', **parameters}, jsonResp=False)
    return pickle.loads(answer.content)


def plane_of(name: str, frame: dict[str, int]) -> np.ndarray:
    """Return the written plane that a frame of the metadata stands for, as (H, W, bands)."""
    pixels = IMAGES[name]
    if pixels.ndim == 6:
        pixels = pixels[tuple(frame.get(f'Index{axis}', 0) for axis in ('XY', 'T', 'Z', 'C'))]
    return pixels if pixels.ndim == 3 else pixels[..., None]


@pytest.mark.parametrize('name', IMAGES)
def test_a_pickled_region_has_exactly_the_pixels_of_its_frame(server, name):
    frames = get_tiles(server, name).get('frames', [{}])
    assert len(frames) == (np.prod(IMAGES[name].shape[:4]) if IMAGES[name].ndim == 6 else 1)
    for number, frame in enumerate(frames):
        array = get_array(server, name, frame=number)
        assert array.dtype == IMAGES[name].dtype
        np.testing.assert_array_equal(array, plane_of(name, frame), strict=True)


@pytest.mark.parametrize('name', ['plane uint8', 'rgb float32', 'single uint16'])
def test_an_image_of_one_plane_has_no_frames_in_its_metadata(server, name):
    tiles = get_tiles(server, name)
    assert (tiles['sizeX'], tiles['sizeY']) == (WIDTH, HEIGHT)
    assert tiles['dtype'] == IMAGES[name].dtype
    assert not {'frames', 'IndexRange', 'IndexStride'} & set(tiles)


def test_a_frame_lacks_the_index_of_an_axis_of_length_one(server):
    frames = get_tiles(server, 'channels uint16')['frames']
    assert [
        {key for key in frame if key.startswith('Index') and key != 'Index'} for frame in frames
    ] == [{'IndexC'}] * 3
    assert get_tiles(server, 'channels uint16')['IndexRange'] == {'IndexC': 3}


def test_the_frames_of_a_stack_name_each_place_once(server):
    frames = get_tiles(server, 'stack uint16')['frames']
    places = {tuple(frame[f'Index{axis}'] for axis in ('XY', 'Z', 'T', 'C')) for frame in frames}
    assert len(frames) == len(places) == 16
    assert get_tiles(server, 'stack uint16')['IndexRange'] == dict.fromkeys(
        ('IndexXY', 'IndexZ', 'IndexT', 'IndexC'), 2
    )


def test_without_a_frame_the_region_is_of_frame_0(server):
    np.testing.assert_array_equal(
        get_array(server, 'stack uint16'), get_array(server, 'stack uint16', frame=0), strict=True
    )


@pytest.mark.parametrize(
    ('box', 'rows', 'columns'),
    [
        ({'left': 3, 'top': 5, 'right': 13, 'bottom': 8}, slice(5, 8), slice(3, 13)),
        ({'left': 3}, slice(None), slice(3, None)),
        # partly outside
        ({'left': 46, 'top': 38, 'right': 59, 'bottom': 49}, slice(38, HEIGHT), slice(46, WIDTH)),
    ],
)
def test_a_region_is_cut_to_the_image(server, box, rows, columns):
    array = get_array(server, 'plane float32', units='base_pixels', **box)
    np.testing.assert_array_equal(array, IMAGES['plane float32'][rows, columns, None], strict=True)


def test_a_region_is_made_to_fit_width_and_height(server):
    small = get_array(server, 'stack uint16', frame=3, width=WIDTH // 2, height=HEIGHT)
    assert small.shape == (HEIGHT // 2, WIDTH // 2, 1)
    assert small.dtype == np.uint16
    whole = get_array(server, 'stack uint16', frame=3)
    assert abs(float(small.mean()) - float(whole.mean())) < 0.1 * float(whole.std())
    assert get_array(server, 'stack uint16', frame=3, width=2 * WIDTH).shape == (
        2 * HEIGHT,
        2 * WIDTH,
        1,
    )


def test_a_region_outside_the_image_is_empty(server):
    assert get_array(server, 'plane uint16', left=WIDTH, right=WIDTH + 5, top=0, bottom=5).size == 0


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        ({'frame': 16}, 'Frame does not exist'),
        ({'frame': -1}, 'Frame does not exist'),
        ({'frame': 'first'}, 'Parameter "frame" is not valid'),
        ({'left': 'nan'}, 'Parameter "left" is not valid'),
        ({'encoding': 'TIFF'}, 'Parameter "encoding" is not valid'),
        ({'units': 'mm'}, 'Parameter "units" is not valid'),
        ({'width': 0}, 'Parameter "width" is not valid'),
    ],
)
def test_a_region_that_cannot_be_is_refused(server, parameters, message):
    path = f'item/{item_id(server, "stack uint16")}/tiles/region'
    status, words, kind = refusal(server.client.get, path, {'encoding': 'pickle:5', **parameters})
    assert (status, kind) == (400, 'rest')
    assert words.startswith(message)


def test_many_regions_at_once_keep_their_pixels_apart(server):
    def get(number: int) -> np.ndarray:
        # girder_client's session is not for several threads
        client = girder_client.GirderClient(apiUrl=server.apiUrl)
        client.setToken(server.token)
        answer = client.get(f'{path}?encoding=pickle:5&frame={number}', jsonResp=False)
        return pickle.loads(answer.content)

    path = f'item/{item_id(server, "stack float32")}/tiles/region'
    frames = get_tiles(server, 'stack float32')['frames']
    with ThreadPoolExecutor(8) as threads:
        arrays = list(threads.map(get, range(len(frames))))
    for array, frame in zip(arrays, frames, strict=True):
        np.testing.assert_array_equal(array, plane_of('stack float32', frame), strict=True)
