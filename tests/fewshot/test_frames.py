import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from annotation_client.tiles import UPennContrastDataset
from fewshot import frames
from fewshot.frames import (
    Frame,
    Layer,
    Piece,
    ensure_rgb,
    fix_contrast,
    has_location,
    list_locations,
    load_ahead,
    load_frame,
    merge_channel,
    read_layers,
    stretch,
)
from fewshot.parameters import Location
from tests.datasets import make_layer, write_dataset

ORIGIN = Location(0, 0, 0)

TILES = {'IndexRange': {'IndexXY': 8, 'IndexZ': 3, 'IndexT': 2, 'IndexC': 2}}


def ask(xy: str = '', z: str = '', time: str = '', current: Location = ORIGIN, channel: int = 0) -> Any:
    """As much of a job's parameters as the locations depend on."""
    return SimpleNamespace(
        batches={'Batch XY': xy, 'Batch Z': z, 'Batch Time': time}, current=current, channel=channel)


@pytest.mark.parametrize(('xy', 'z', 'time', 'expected'), [
    ('', '', '', [(2, 1, 1)]),  # blank: where the user stands
    ('1-3', '', '', [(0, 1, 1), (1, 1, 1), (2, 1, 1)]),
    ('5, 1-2, 2', '', '', [(0, 1, 1), (1, 1, 1), (4, 1, 1)]),  # sorted, doubles collapse
    ('', 'all', '', [(2, 0, 1), (2, 1, 1), (2, 2, 1)]),
    ('1-2', '1,3', 'ALL', [(0, 0, 0), (0, 0, 1), (0, 2, 0), (0, 2, 1), (1, 0, 0), (1, 0, 1), (1, 2, 0), (1, 2, 1)]),
])
def test_frames_run_xy_by_xy_then_z_then_time(xy, z, time, expected):
    assert list_locations(ask(xy, z, time, Location(2, 1, 1)), TILES) == [Location(*place) for place in expected]


@pytest.mark.parametrize(('job', 'message', 'note'), [
    (ask(xy='1-3, 7-9, 12'), 'Batch XY names positions outside the dataset: 7-9, 12', 'positions 1-8'),
    (ask(xy='0'), 'Batch XY .* 0', 'positions 1-8'),
    (ask(z='4'), 'Batch Z .* 4', 'positions 1-3'),
    (ask(time='1-1000000000'), 'Batch Time .* 1-1000000000', 'positions 1-2'),
    (ask(current=Location(0, 5, 0)), 'Batch Z .* 6 .*where you stand', 'positions 1-3'),
])
def test_a_position_outside_the_dataset_is_refused_in_the_users_numbers(job, message, note):
    with pytest.raises(ValueError, match=message) as caught:
        list_locations(job, TILES)
    assert note in caught.value.__notes__[0]


def test_a_channel_that_the_dataset_lacks_is_refused():
    assert list_locations(ask(channel=1), TILES)
    with pytest.raises(ValueError, match='channel') as caught:
        list_locations(ask(channel=2), TILES)
    assert 'channel 3' in caught.value.__notes__[0] and 'has 2' in caught.value.__notes__[0]


def test_an_image_of_a_single_plane_has_one_location():
    assert list_locations(ask('all', 'all', 'all'), {}) == [Location(0, 0, 0)]
    assert has_location({}, Location(0, 0, 0)) and not has_location({}, Location(0, 0, 1))
    assert not has_location(TILES, Location(-1, 0, 0))


class Spied:
    """A real dataset that notes which frames are downloaded."""

    def __init__(self, server, name: str):
        self.id = server.datasets[name]
        self.dataset = UPennContrastDataset(server.apiUrl, server.token, self.id)
        self.client, self.tiles = self.dataset.client, self.dataset.tiles
        self.coordinatesToFrameIndex = self.dataset.coordinatesToFrameIndex
        self.downloaded: list[int] = []

    def getRegion(self, datasetId, **region):
        self.downloaded.append(region['frame'])
        return self.dataset.getRegion(datasetId, **region)

    def load(self, location: Location = ORIGIN) -> tuple[np.ndarray, str | None]:
        layers, problem = read_layers(self.client, self.id, self.tiles)
        return load_frame(self, self.id, layers, location).rgb, problem


@pytest.fixture(scope='module')
def shown(start_module_server, tmp_path_factory):
    """Datasets by name, on a real server, with what a user may do to layers and images."""
    folder = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 4000, (2, 1, 2, 3, 20, 24)).astype(np.uint16)  # XY, T, Z, C
    red = make_layer(0, '#FF0000', mode='absolute', black=1000, white=3000)
    blue = make_layer(2, '#0000ff', mode='absolute', black=0, white=4000)
    write_dataset(folder, 'two', cells, [blue, make_layer(1, visible=False), red])
    write_dataset(folder, 'percentiles', cells, [make_layer(1, '#FFFFFF', black=5, white=90)])
    write_dataset(folder, 'overridden', cells, [red, blue], {'layer-0': {
        'mode': 'percentile', 'blackPoint': 0, 'whitePoint': 50}})
    write_dataset(folder, 'both_white', cells, [make_layer(0, '#FF8000', mode='absolute', black=0, white=100),
                                                make_layer(1, '#0080FF', mode='absolute', black=0, white=100)])
    write_dataset(folder, 'hidden', cells, [make_layer(0, visible=False)])
    write_dataset(folder, 'other_channels', cells, [make_layer(7), red])
    write_dataset(folder, 'bare', cells)
    write_dataset(folder, 'grey', cells[0, 0, 0, 0])
    write_dataset(folder, 'bad_colour', cells, [make_layer(0, 'rot')])
    colours = rng.integers(0, 256, (20, 24, 3)).astype(np.uint8)
    write_dataset(folder, 'rgb', colours, [make_layer(0, mode='absolute', black=0, white=255)])
    holed = rng.random((20, 24)).astype(np.float32) * 10 - 5
    holed[3, 4], holed[5, 6] = np.nan, np.inf
    write_dataset(folder, 'holed', holed, [make_layer(0, black=0, white=100)])
    server = start_module_server(folder)
    return SimpleNamespace(get=lambda name: Spied(server, name), cells=cells, colours=colours, holed=holed)


def ramp(image, black, white):
    return np.clip((image.astype(float) - black) / (white - black), 0, 1)


def test_visible_channels_are_looked_up_by_number_coloured_and_merged_by_maximum(shown):
    dataset = shown.get('two')
    rgb, problem = dataset.load(Location(1, 1, 0))
    expected = np.zeros((20, 24, 3))
    expected[..., 0] = ramp(shown.cells[1, 0, 1, 0], 1000, 3000)
    expected[..., 2] = ramp(shown.cells[1, 0, 1, 2], 0, 4000)
    assert rgb.dtype == np.uint8 and problem is None
    np.testing.assert_allclose(rgb, expected * 255, atol=0.51)  # rounded, not cut


def test_only_visible_channels_are_downloaded_each_once(shown):
    dataset = shown.get('two')
    dataset.load(Location(1, 1, 0))
    assert sorted(dataset.downloaded) == sorted(
        dataset.coordinatesToFrameIndex(1, 1, 0, channel) for channel in (0, 2))


def test_where_colours_overlap_the_lighter_one_wins(shown):
    rgb, _ = shown.get('both_white').load()
    bright = (shown.cells[0, 0, 0, :2] >= 100).all(axis=0)
    assert bright.any() and (rgb[bright] == (255, 128, 255)).all()


def test_percentiles_are_those_of_the_frames_own_channel(shown):
    for place in (Location(0, 0, 0), Location(1, 1, 0)):
        channel = shown.cells[place.xy, 0, place.z, 1]
        expected = ramp(channel, *np.percentile(channel, [5, 90])) * 255
        rgb, _ = shown.get('percentiles').load(place)
        np.testing.assert_allclose(rgb, np.repeat(expected[..., None], 3, 2), atol=0.51)


def test_the_views_contrast_overrides_the_layers(shown):
    rgb, _ = shown.get('overridden').load()
    channel = shown.cells[0, 0, 0, 0]
    np.testing.assert_allclose(rgb[..., 0], ramp(channel, *np.percentile(channel, [0, 50])) * 255, atol=0.51)
    np.testing.assert_allclose(rgb[..., 2], ramp(shown.cells[0, 0, 0, 2], 0, 4000) * 255, atol=0.51)


@pytest.mark.parametrize(('name', 'why'), [('hidden', 'No layer'), ('bare', 'no view')])
def test_without_anything_to_see_every_channel_gets_its_own_colour_and_a_warning(shown, name, why):
    dataset = shown.get(name)
    rgb, problem = dataset.load()
    assert why in problem
    assert len(dataset.downloaded) == 3
    for channel, band in ((0, 0), (1, 1), (2, 2)):  # three hues: red, green, blue
        plane = shown.cells[0, 0, 0, channel]
        expected = ramp(plane, *np.percentile(plane, [0.1, 99.9])) * 255
        np.testing.assert_allclose(rgb[..., band], expected, atol=0.51)


def test_without_a_view_a_single_plane_is_white(shown):
    rgb, problem = shown.get('grey').load()
    assert problem and (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all()
    assert rgb.max() == 255 and rgb.min() == 0


def test_a_layer_of_a_channel_that_the_dataset_lacks_is_not_shown(shown):
    rgb, problem = shown.get('other_channels').load()
    assert problem is None and rgb[..., 0].any() and not rgb[..., 1:].any()


def test_an_rgb_image_is_shown_as_it_is(shown):
    rgb, _ = shown.get('rgb').load()
    np.testing.assert_array_equal(rgb, shown.colours)


def test_pixels_that_are_no_numbers_are_black_and_do_not_count(shown):
    rgb, _ = shown.get('holed').load()
    finite = np.isfinite(shown.holed)
    values = shown.holed[finite]
    expected = np.where(finite, ramp(shown.holed, values.min(), values.max()), 0) * 255
    np.testing.assert_allclose(rgb[..., 1], expected, atol=0.51)


@pytest.mark.parametrize(('name', 'seen'), [('bad_colour', 'rot')])
def test_a_layer_that_cannot_be_shown_is_named(shown, name, seen):
    with pytest.raises(ValueError, match='Channel 0') as caught:
        shown.get(name).load()
    assert seen in caught.value.__notes__[0]


def test_a_location_without_image_is_named_in_the_users_numbers(shown):
    with pytest.raises(ValueError, match='XY 10, Z 1, Time 1'):
        shown.get('bare').load(Location(9, 0, 0))


@pytest.mark.parametrize('percentile', [True, False])
def test_where_white_equals_black_what_lies_above_is_white(percentile):
    image = np.array([[1.0, 5.0, 9.0]])
    layer = Layer(0, (1, 1, 1), percentile, *((50.0, 50.0) if percentile else (5.0, 5.0)))
    assert stretch(image, fix_contrast(image, layer)).ravel().tolist() == [0, 0, 1]


def test_an_image_of_one_value_is_black_under_percentiles():
    image = np.full((3, 3), 7, np.uint16)
    assert not stretch(image, fix_contrast(image, Layer(0, (1, 1, 1), True, 0.1, 99.9))).any()


@pytest.mark.parametrize('percentile', [True, False])
def test_a_channel_is_drawn_the_same_in_slabs_as_at_once(monkeypatch, percentile):
    image = np.random.default_rng(1).integers(0, 4000, (37, 20)).astype(np.uint16)
    layer = Layer(0, (1, 0.5, 0), percentile, *((5.0, 90.0) if percentile else (500.0, 3000.0)))
    before = np.random.default_rng(2).integers(0, 255, (37, 20, 3)).astype(np.uint8)
    whole, in_slabs = before.copy(), before.copy()
    merge_channel(whole, image, layer)
    monkeypatch.setattr(frames, 'SLAB_PIXELS', 100)
    merge_channel(in_slabs, image, layer)
    np.testing.assert_array_equal(in_slabs, whole)
    shown = stretch(image, fix_contrast(image, layer)) * (1, 0.5, 0)
    np.testing.assert_array_equal(whole, np.maximum(before, np.rint(shown * 255)))


class Loader:
    """Gives grey frames of 10,000 pixels and notes, in order, when it was asked and when the caller got one."""

    def __init__(self, pieces, fails=()):
        self.fails, self.unwanted, self.events = fails, set(), []
        self.asked_for_second = threading.Event()
        self.background = ThreadPoolExecutor(1)
        self.frames = load_ahead(self.load, pieces, self.background, lambda piece: piece.location not in self.unwanted)

    def load(self, piece: Piece) -> Frame:
        location = piece.location
        self.events.append(('load', location.xy))
        if location.xy == 1:
            self.asked_for_second.set()
        if location.xy in self.fails:
            raise ConnectionError(f'no frame {location.xy}')
        return Frame(location, np.full((100, 100, 3), location.xy, np.uint8))

    def take(self) -> int:
        frame = next(self.frames).frame.result()
        self.events.append(('take', frame.location.xy))
        assert (frame.rgb == frame.location.xy).all()
        return frame.location.xy


def places(*numbers: int) -> list[Piece]:
    return [Piece(Location(number, 0, 0)) for number in numbers]


def test_the_next_frame_is_loaded_while_the_caller_works_and_no_more():
    loader = Loader(places(0, 1, 2, 3))
    assert loader.take() == 0
    assert loader.asked_for_second.wait(10)  # the caller has asked for one frame only
    loader.background.shutdown()
    assert {xy for event, xy in loader.events if event == 'load'} == {0, 1}


def test_a_frame_that_comes_again_is_loaded_once():
    loader = Loader(places(0, 2, 0, 1, 2, 2))
    assert [loader.take() for _ in range(6)] == [0, 2, 0, 1, 2, 2]
    assert [xy for event, xy in loader.events if event == 'load'] == [0, 2, 1]


def test_a_frame_that_comes_again_is_loaded_again_when_there_is_no_room_to_keep_it(monkeypatch):
    monkeypatch.setattr(frames, 'KEPT_BYTES', 45_000)  # one of two
    loader = Loader(places(0, 2, 0, 1, 2))
    assert [loader.take() for _ in range(5)] == [0, 2, 0, 1, 2]
    assert [xy for event, xy in loader.events if event == 'load'] == [0, 2, 1, 2]


def test_a_frame_that_cannot_be_loaded_is_an_error_when_its_turn_comes():
    loader = Loader(places(0, 1, 2), fails=[1])
    assert loader.take() == 0 and loader.asked_for_second.wait(10)
    with pytest.raises(ConnectionError, match='no frame 1'):
        loader.take()
    assert loader.take() == 2  # the others come all the same
    loader.background.shutdown()


def test_what_is_no_longer_wanted_is_passed_over():
    loader = Loader(places(0, 1, 1, 1, 2))
    assert loader.take() == 0 and loader.take() == 1  # while the second 1 is being loaded
    loader.unwanted.add(Location(1, 0, 0))
    assert [loader.take() for _ in range(2)] == [1, 2]
    with pytest.raises(StopIteration):
        loader.take()


intensities = st.floats(-2.0 ** 99, 2.0 ** 99, width=32) | st.sampled_from([np.nan, np.inf, -np.inf])


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=intensities), st.floats(0, 100),
       st.floats(0, 100), st.booleans())
def test_any_contrast_of_any_image_lies_between_black_and_white(image, black, white, percentile):
    shown = stretch(image, fix_contrast(image, Layer(0, (1, 1, 1), percentile, black, white)))
    assert shown.shape == (*image.shape, 1) and ((shown >= 0) & (shown <= 1)).all()
    assert (shown[~np.isfinite(image)] == 0).all()


@pytest.mark.parametrize(('image', 'expected'), [
    (np.array([[7, 255]], np.uint8), [7, 255]),
    (np.array([[255, 256, 65535]], np.uint16), [0, 1, 255]),
    (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
    (np.array([[0, 1.2, 300, -5]], np.float64), [0, 1, 255, 0]),
    (np.array([[0, np.nan, np.inf, 1]], np.float16), [0, 0, 0, 255]),
])
def test_values_of_any_type_become_bytes(image, expected):
    rgb = ensure_rgb(image)
    assert rgb.dtype == np.uint8 and rgb.shape == (1, len(expected), 3)
    assert [pixel.tolist() for pixel in rgb[0]] == [[value] * 3 for value in expected]


def test_bands_become_three():
    colours = np.random.default_rng(0).integers(0, 255, (4, 5, 4)).astype(np.uint8)
    np.testing.assert_array_equal(ensure_rgb(colours), colours[..., :3])
    np.testing.assert_array_equal(ensure_rgb(colours[..., :3]), colours[..., :3])
    np.testing.assert_array_equal(ensure_rgb(colours[..., :1]), np.repeat(colours[..., :1], 3, 2))


@pytest.mark.parametrize('image', [
    np.zeros((4, 5, 2), np.uint8), np.zeros((4,), np.uint8), np.zeros((1, 4, 5, 3), np.uint8),
    np.zeros((0, 5), np.uint8), np.zeros((4, 5), np.int32), np.zeros((4, 5), bool), np.zeros((4, 5), complex)])
def test_what_is_no_picture_is_refused_with_its_shape_and_type(image):
    with pytest.raises(ValueError) as caught:
        ensure_rgb(image)
    assert str(image.shape) in str(caught.value) and str(image.dtype) in str(caught.value)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32, np.int16])
def test_percentiles_of_a_tiled_frame_are_those_of_the_frame_whatever_its_type(dtype, start_server, tmp_path):
    pixels = np.add.outer(np.linspace(0, 150, 1400), np.linspace(0, 90, 1100)).astype(dtype)
    write_dataset(tmp_path, 'cells', pixels)
    server = start_server(tmp_path)
    dataset = UPennContrastDataset(server.apiUrl, server.token, server.datasets['cells'])
    layer, = frames.fix_layers(dataset, dataset.datasetId, [Layer(0, (1, 1, 1), True, 10, 90)], ORIGIN)
    assert not layer.percentile
    np.testing.assert_allclose([layer.black, layer.white], np.percentile(pixels, [10, 90]), atol=3)
