"""Download frames and show them as the user sees them, one ahead of the work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from typing import TYPE_CHECKING

import numpy as np

from fewshot import messages
from fewshot.geometry import Location, Tile
from fewshot.images.layers import Layer, fix_contrast, merge_channel

if TYPE_CHECKING:
    from annotation_client.tiles import UPennContrastDataset

KEPT_BYTES = 2**28  # for frames that will be needed again
SCALED_DTYPES = 'uint8', 'uint16'  # the server scales these down without changing the type
MAX_OVERVIEW_PIXELS = 1024  # longest side of a scaled frame
STRIPS, STRIP_ROWS = 32, 8  # sampled from a frame of another type


class FrameLoader:
    """Loads the frames of a dataset as RGB images.

    Parameters
    ----------
    image : UPennContrastDataset
    dataset_id : str
    layers : sequence of Layer
        One or more.
    background : Executor
        Has one thread, because a connection to the server serves one thread at a time.
    planned : iterable of Tile
        All tiles that `load_ahead` will be asked for, in any order, each as often as it comes.
        A tile that comes again is kept instead of downloaded twice.
    kept_bytes : int
        Memory for the tiles that are kept. A tile that does not fit is downloaded again.
    """

    def __init__(
        self,
        image: UPennContrastDataset,
        dataset_id: str,
        layers: Sequence[Layer],
        background: Executor,
        planned: Iterable[Tile] = (),
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._image = image
        self._dataset_id = dataset_id
        self._layers = layers
        self._background = background
        self._kept_bytes = kept_bytes
        self._times_needed = Counter(planned)
        self._kept: dict[Tile, np.ndarray] = {}
        self._fixed_layers: dict[Location, list[Layer]] = {}

    def load_ahead(
        self,
        tiles: Iterable[Tile],
        is_wanted: Callable[[Tile], bool] = lambda tile: True,
        prepare: Callable[[Tile, np.ndarray], None] = lambda tile, rgb: None,
    ) -> Iterator[tuple[Tile, Future[np.ndarray]]]:
        """Yield the tiles in their order. The next one loads while the caller works, no more.

        Parameters
        ----------
        tiles : iterable of Tile
        is_wanted : callable
            Asked before a tile is loaded. A tile that is not wanted is skipped.
        prepare : callable
            Called in the background with each tile and its pixels when it is loaded.

        Yields
        ------
        tile : Tile
        rgb : Future of a (H, W, 3) uint8 ndarray
            Its result raises if the tile could not be loaded. The other tiles come all the same.
        """
        current: tuple[Tile, Future[np.ndarray]] | None = None
        for tile in tiles:
            if not is_wanted(tile):
                continue
            if current:
                wait([current[1]])
            following = tile, self._background.submit(self._load_and_prepare, tile, prepare)
            if current:
                yield current
            current = following
        if current:
            yield current

    def load(self, tile: Tile) -> np.ndarray:
        """Download a tile and merge its channels by maximum, each in its colour.

        Parameters
        ----------
        tile : Tile

        Returns
        -------
        (H, W, 3) uint8 ndarray

        Raises
        ------
        JobError
            The dataset has no such frame, or its channels differ in size.
        """
        layers, region = self._layers, {}
        if tile.box:
            # Neighbouring tiles must not differ in contrast.
            layers = self._fix_layers(tile.location)
            region = {**tile.box._asdict(), 'units': 'base_pixels'}

        rgb = np.empty((0, 0, 3), np.uint8)
        for number, layer in enumerate(layers):
            frame = self._frame_index(tile.location, layer.channel)
            channel = self._image.getRegion(self._dataset_id, frame=frame, **region)
            shape = channel.shape[:2]
            if number == 0:
                rgb = np.zeros((*shape, 3), np.uint8)
            elif rgb.shape[:2] != shape:
                raise messages.CHANNELS_DIFFER.error(
                    location=tile.location, first=rgb.shape[:2], second=shape
                )
            merge_channel(rgb, channel, layer)
        return rgb

    def _load_and_prepare(
        self, tile: Tile, prepare: Callable[[Tile, np.ndarray], None]
    ) -> np.ndarray:
        rgb = self._load_or_reuse(tile)
        prepare(tile, rgb)
        return rgb

    def _load_or_reuse(self, tile: Tile) -> np.ndarray:
        """Load a tile, or take it from those that are kept. Runs in the background."""
        self._times_needed[tile] -= 1
        rgb = self._kept.pop(tile, None)
        if rgb is None:
            rgb = self.load(tile)
        used_bytes = sum(kept.nbytes for kept in self._kept.values())
        if self._times_needed[tile] > 0 and used_bytes + rgb.nbytes <= self._kept_bytes:
            self._kept[tile] = rgb
        return rgb

    def _fix_layers(self, location: Location) -> list[Layer]:
        """Return the layers with the contrast of the whole frame, the same for all its tiles."""
        if location not in self._fixed_layers:
            self._fixed_layers[location] = [
                self._fix_layer(location, layer) for layer in self._layers
            ]
        return self._fixed_layers[location]

    def _fix_layer(self, location: Location, layer: Layer) -> Layer:
        if not layer.is_percentile:
            return layer
        frame = self._frame_index(location, layer.channel)
        sample = sample_frame(self._image, self._dataset_id, frame)
        return fix_contrast(sample, layer)

    def _frame_index(self, location: Location, channel: int) -> int:
        try:
            return self._image.coordinatesToFrameIndex(
                location.xy, location.z, location.time, channel
            )
        except KeyError:
            raise messages.NO_FRAME.error(location=location, channel=channel + 1) from None


def sample_frame(image: UPennContrastDataset, dataset_id: str, frame: int) -> np.ndarray:
    """Download pixels from all over a frame, enough for its percentiles.

    Parameters
    ----------
    image : UPennContrastDataset
    dataset_id : str
    frame : int
        Index of the frame.

    Returns
    -------
    (h, w) or (h, w, bands) ndarray of the image's type
        The frame scaled down. The server would convert some types to bytes when it scales them:
        for those, strips of the frame.
    """
    height, width = image.tiles['sizeY'], image.tiles['sizeX']
    if image.tiles.get('dtype') in SCALED_DTYPES:
        size = {
            'width': min(MAX_OVERVIEW_PIXELS, width),
            'height': min(MAX_OVERVIEW_PIXELS, height),
        }
        return image.getRegion(dataset_id, frame=frame, **size)

    strips = []
    distance = height / STRIPS
    for number in range(STRIPS):
        middle = (number + 0.5) * distance
        top = int(max(0, middle - STRIP_ROWS / 2))
        region = {'left': 0, 'top': top, 'right': width, 'bottom': min(top + STRIP_ROWS, height)}
        strips.append(image.getRegion(dataset_id, frame=frame, units='base_pixels', **region))
    return np.concatenate(strips)
