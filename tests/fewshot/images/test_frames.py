import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from annotation_client.tiles import UPennContrastDataset
from fewshot.errors import JobError
from fewshot.geometry import Box, Location, Tile
from fewshot.images.frames import FrameLoader, sample_frame
from fewshot.images.layers import Layer, choose_layers, fix_contrast
from fewshot.images.metadata import axis_length
from fewshot.messages import Message
from fewshot.server import Server
from tests.datasets import make_layer, write_dataset

ORIGIN = Location(0, 0, 0)
GREY = Layer(0, (1, 1, 1), is_percentile=False, black=0, white=255)
SECONDS = 30  # until a test that hangs fails


class Immediately(Executor):
    """Runs what is submitted at once, so that the order of events is known."""

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:
        """Return the result as a future."""
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class GreyImage:
    """A frame of 100 x 100 pixels per XY, with XY as their value. Notes what is downloaded."""

    def __init__(self, fails: tuple = ()) -> None:
        self.fails = fails
        self.downloads: list[int] = []

    def coordinatesToFrameIndex(self, xy: int, z: int, time: int, channel: int) -> int:
        """Return XY."""
        return xy

    def getRegion(self, dataset_id: str, frame: int) -> np.ndarray:
        """Return a frame."""
        self.downloads.append(frame)
        if frame in self.fails:
            raise ConnectionError(f'no frame {frame}')
        return np.full((100, 100, 1), frame, np.uint8)


def tiles_at(*numbers: int) -> list[Tile]:
    return [Tile(Location(xy, 0, 0)) for xy in numbers]


def make_loader(image: Any, background: Executor | None = None, **options: Any) -> FrameLoader:
    return FrameLoader(image, 'd', [GREY], background or Immediately(), **options)


def take(loader: FrameLoader, *numbers: int) -> list[int]:
    """Load tiles and return their values."""
    values = []
    for tile, future in loader.load_ahead(tiles_at(*numbers)):
        rgb = future.result()
        assert (rgb == tile.location.xy).all()
        values.append(tile.location.xy)
    return values


# Ahead of the work


def test_one_tile_is_loaded_ahead():
    image = GreyImage()
    tiles = make_loader(image).load_ahead(tiles_at(0, 1, 2, 3))
    next(tiles)
    assert image.downloads == [0, 1]
    next(tiles)
    assert image.downloads == [0, 1, 2]


def test_next_tile_loads_while_the_caller_works():
    is_working = threading.Event()

    class SlowImage(GreyImage):
        def getRegion(self, dataset_id, frame):
            assert frame == 0 or is_working.wait(SECONDS)
            return super().getRegion(dataset_id, frame)

    image = SlowImage()
    with ThreadPoolExecutor(1) as background:
        tiles = make_loader(image, background).load_ahead(tiles_at(0, 1))
        next(tiles)
        assert image.downloads == [0]
        is_working.set()
        assert (next(tiles)[1].result() == 1).all()


def test_repeated_tiles_are_downloaded_once():
    image = GreyImage()
    loader = make_loader(image, planned=tiles_at(0, 2, 0, 1, 2, 2))
    assert take(loader, 0, 2) == [0, 2]  # with examples
    assert take(loader, 0, 1, 2, 2) == [0, 1, 2, 2]  # the batch
    assert image.downloads == [0, 2, 1]


def test_unplanned_tiles_are_downloaded_again():
    image = GreyImage()
    loader = make_loader(image)
    assert take(loader, 0, 1, 0) == [0, 1, 0]
    assert image.downloads == [0, 1, 0]


def test_tiles_are_kept_while_they_fit():
    image = GreyImage()
    loader = make_loader(image, planned=tiles_at(0, 2, 0, 1, 2), kept_bytes=45_000)  # one of two
    assert take(loader, 0, 2, 0, 1, 2) == [0, 2, 0, 1, 2]
    assert image.downloads == [0, 2, 1, 2]


def test_failed_tile_does_not_stop_the_others():
    tiles = make_loader(GreyImage(fails=(1,))).load_ahead(tiles_at(0, 1, 2))
    futures = [future for _, future in tiles]
    assert (futures[0].result() == 0).all()
    with pytest.raises(ConnectionError, match='no frame 1'):
        futures[1].result()
    assert (futures[2].result() == 2).all()


def test_unwanted_tiles_are_left_out():
    image = GreyImage()
    unwanted = set()
    tiles = make_loader(image).load_ahead(
        tiles_at(0, 1, 2, 1, 3), is_wanted=lambda tile: tile.location.xy not in unwanted
    )
    seen = [next(tiles)[0].location.xy]
    unwanted.add(1)  # the first one is loaded already
    seen += [tile.location.xy for tile, _ in tiles]
    assert seen == [0, 1, 2, 3]
    assert image.downloads == [0, 1, 2, 3]


def test_loaded_tiles_are_prepared_ahead():
    prepared: list[tuple[int, float]] = []

    def prepare(tile, rgb):
        prepared.append((tile.location.xy, rgb.shape))

    tiles = make_loader(GreyImage(fails=(1,))).load_ahead(tiles_at(0, 1, 2, 0), prepare=prepare)
    for tile, coming in tiles:
        if tile.location.xy != 1:
            assert (tile.location.xy, coming.result().shape) in prepared
    assert [xy for xy, _ in prepared] == [0, 2, 0]


# One tile


class GradientImage(GreyImage):
    """A frame of 60 x 100 pixels that gets brighter to the right."""

    tiles: ClassVar = {'sizeX': 100, 'sizeY': 60, 'dtype': 'uint8'}
    pixels = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None], (60, 100, 1))

    def getRegion(self, dataset_id, frame, left=0, top=0, right=100, bottom=60, **region):
        """Return a part, or the whole frame for a smaller one."""
        self.downloads.append(frame)
        return self.pixels[top:bottom, left:right]


@pytest.mark.parametrize('is_percentile', [True, False])
def test_tiles_have_the_contrast_of_the_frame(is_percentile):
    image: Any = GradientImage()
    layer = Layer(0, (1, 1, 1), is_percentile, black=20, white=80)
    loader = FrameLoader(image, 'd', [layer], Immediately())
    whole = loader.load(Tile(ORIGIN))
    image.downloads.clear()
    for box in (Box(0, 0, 30, 50), Box(30, 40, 60, 100)):
        tile = loader.load(Tile(ORIGIN, box))
        np.testing.assert_array_equal(tile, whole[box.slices])
    assert len(image.downloads) == 2 + is_percentile  # the frame's sample once


def test_channels_of_other_sizes_are_refused():
    class OddImage(GreyImage):
        def coordinatesToFrameIndex(self, xy, z, time, channel):
            return channel

        def getRegion(self, dataset_id, frame):
            return np.zeros((20 + frame, 30, 1), np.uint8)

    image: Any = OddImage()
    layers = [Layer(channel, (1, 1, 1), False, 0, 255) for channel in (0, 1)]
    with pytest.raises(JobError, match=r'XY 5, .* \(20, 30\) and \(21, 30\)'):
        FrameLoader(image, 'd', layers, Immediately()).load(Tile(Location(4, 0, 0)))


# On a real server


class NotingImage:
    """An image on a server. Notes what is downloaded."""

    def __init__(self, image: UPennContrastDataset) -> None:
        self.image = image
        self.tiles = image.tiles
        self.coordinatesToFrameIndex = image.coordinatesToFrameIndex
        self.downloads: list[int] = []

    def getRegion(self, dataset_id: str, **region: Any) -> np.ndarray:
        """Download a frame."""
        self.downloads.append(region['frame'])
        return self.image.getRegion(dataset_id, **region)


class Shown:
    """A dataset on a real server, and what was downloaded from it."""

    def __init__(self, running: Any, name: str) -> None:
        self.server = Server(running.apiUrl, running.token, running.datasets[name])
        self.image: Any = NotingImage(self.server.open_image())

    def load(self, location: Location = ORIGIN) -> tuple[np.ndarray, Message | None]:
        """Return a frame as the user sees it, and the warning about its layers."""
        layers, problem = choose_layers(self.server, axis_length(self.image.tiles, 'C'))
        loader = FrameLoader(self.image, self.server.dataset_id, layers, Immediately())
        return loader.load(Tile(location)), problem


@pytest.fixture(scope='module')
def shown(start_module_server, tmp_path_factory):
    """Datasets by name, with what a user may do to layers and images."""
    folder = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 4000, (2, 1, 2, 3, 20, 24)).astype(np.uint16)  # XY, T, Z, C
    red = make_layer(0, '#FF0000', mode='absolute', black=1000, white=3000)
    blue = make_layer(2, '#0000ff', mode='absolute', black=0, white=4000)
    orange = make_layer(0, '#FF8000', mode='absolute', black=0, white=100)
    azure = make_layer(1, '#0080FF', mode='absolute', black=0, white=100)
    half = {'mode': 'percentile', 'blackPoint': 0, 'whitePoint': 50}
    write_dataset(folder, 'two', cells, [blue, make_layer(1, visible=False), red])
    write_dataset(folder, 'percentiles', cells, [make_layer(1, '#FFFFFF', black=5, white=90)])
    write_dataset(folder, 'overridden', cells, [red, blue], {'layer-0': half})
    write_dataset(folder, 'both_white', cells, [orange, azure])
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
    running = start_module_server(folder)
    return SimpleNamespace(
        get=lambda name: Shown(running, name), cells=cells, colours=colours, holed=holed
    )


def ramp(image: np.ndarray, black: float, white: float) -> np.ndarray:
    """Return 0 at black, 255 at white."""
    return np.clip((image.astype(float) - black) / (white - black), 0, 1) * 255


def assert_shown(rgb: np.ndarray, expected: np.ndarray) -> None:
    """Values are rounded, not cut."""
    np.testing.assert_allclose(rgb, expected, atol=0.51)


def test_channels_are_coloured_and_merged(shown):
    rgb, problem = shown.get('two').load(Location(1, 1, 0))
    expected = np.zeros((20, 24, 3))
    expected[..., 0] = ramp(shown.cells[1, 0, 1, 0], 1000, 3000)
    expected[..., 2] = ramp(shown.cells[1, 0, 1, 2], 0, 4000)
    assert_shown(rgb, expected)
    assert rgb.dtype == np.uint8
    assert problem is None


def test_visible_channels_are_downloaded_once(shown):
    dataset = shown.get('two')
    dataset.load(Location(1, 1, 0))
    frames = [dataset.image.coordinatesToFrameIndex(1, 1, 0, channel) for channel in (0, 2)]
    assert sorted(dataset.image.downloads) == sorted(frames)


def test_brighter_colour_wins(shown):
    rgb, _ = shown.get('both_white').load()
    bright = (shown.cells[0, 0, 0, :2] >= 100).all(axis=0)
    assert bright.any()
    assert (rgb[bright] == (255, 128, 255)).all()


@pytest.mark.parametrize('location', [ORIGIN, Location(1, 1, 0)])
def test_percentiles_are_those_of_each_frame(shown, location):
    channel = shown.cells[location.xy, 0, location.z, 1]
    expected = ramp(channel, *np.percentile(channel, [5, 90]))
    rgb, _ = shown.get('percentiles').load(location)
    assert_shown(rgb, np.repeat(expected[..., None], 3, 2))


def test_contrast_of_the_view_is_used(shown):
    rgb, _ = shown.get('overridden').load()
    channel = shown.cells[0, 0, 0, 0]
    assert_shown(rgb[..., 0], ramp(channel, *np.percentile(channel, [0, 50])))
    assert_shown(rgb[..., 2], ramp(shown.cells[0, 0, 0, 2], 0, 4000))


@pytest.mark.parametrize(('name', 'words'), [('hidden', 'No layer'), ('bare', 'no view')])
def test_without_layers_each_channel_has_its_colour(shown, name, words):
    dataset = shown.get(name)
    rgb, problem = dataset.load()
    assert words in problem.text
    assert len(dataset.image.downloads) == 3
    for channel in range(3):  # red, green, blue
        plane = shown.cells[0, 0, 0, channel]
        assert_shown(rgb[..., channel], ramp(plane, *np.percentile(plane, [0.1, 99.9])))


def test_single_plane_without_a_view_is_white(shown):
    rgb, problem = shown.get('grey').load()
    assert problem
    assert (rgb == rgb[..., :1]).all()
    assert (rgb.min(), rgb.max()) == (0, 255)


def test_layer_of_a_missing_channel_is_left_out(shown):
    rgb, problem = shown.get('other_channels').load()
    assert problem is None
    assert rgb[..., 0].any()
    assert not rgb[..., 1:].any()


def test_rgb_image_stays(shown):
    rgb, _ = shown.get('rgb').load()
    np.testing.assert_array_equal(rgb, shown.colours)


def test_odd_pixels_are_black(shown):
    rgb, _ = shown.get('holed').load()
    finite = np.isfinite(shown.holed)
    values = shown.holed[finite]
    assert_shown(rgb[..., 1], np.where(finite, ramp(shown.holed, values.min(), values.max()), 0))


def test_bad_layer_is_named(shown):
    with pytest.raises(JobError, match=r"'Channel 0' .*'rot'"):
        shown.get('bad_colour').load()


def test_missing_frame_is_named(shown):
    with pytest.raises(JobError, match='XY 10, Z 1, Time 1, channel 1'):
        shown.get('bare').load(Location(9, 0, 0))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32, np.int16])
def test_sample_has_the_percentiles_of_the_frame(dtype, start_server, tmp_path):
    pixels = np.add.outer(np.linspace(0, 150, 1400), np.linspace(0, 90, 1100)).astype(dtype)
    write_dataset(tmp_path, 'cells', pixels)
    running = start_server(tmp_path)
    dataset_id = running.datasets['cells']
    image = UPennContrastDataset(running.apiUrl, running.token, dataset_id)
    sample = sample_frame(image, dataset_id, 0)
    assert sample.size < pixels.size
    layer = fix_contrast(sample, Layer(0, (1, 1, 1), True, 10, 90))
    expected = np.percentile(pixels, [10, 90])
    np.testing.assert_allclose([layer.black, layer.white], expected, atol=3)
