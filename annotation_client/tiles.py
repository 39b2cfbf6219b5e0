"""The image of a dataset: its metadata, its frames and its pixels."""

import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from annotation_client.connection import DEFAULT_PATIENCE, Connection, Patience
from annotation_client.pixels import unpickle_array

if TYPE_CHECKING:  # not imported at run time: an interface request must not wait for numpy
    import numpy as np

INDICES = ('IndexXY', 'IndexZ', 'IndexT', 'IndexC')
MAX_LENGTH = 10**7  # pixels of a side, or positions on an axis
NUMBER_TYPES = 'bool|u?int(8|16|32|64)|float(16|32|64)'
# large_image keeps these types when it scales a region. Others become uint8.
SCALED_TYPES = 'uint8|uint16'
MAX_BANDS = 4


class UPennContrastDataset:
    """The image that a dataset shows.

    Parameters
    ----------
    apiUrl, token : str
        Address of the REST interface, and a token.
    datasetId : str
    patience : Patience, optional

    Attributes
    ----------
    client : Connection
        The girder client, for calls that have no method here.
    dataset : dict
        The item that holds the image.
    tiles : dict
        The image's metadata: sizeX, sizeY, dtype, frames, IndexRange, ...

    Raises
    ------
    ValueError
        The dataset has no image, or its metadata are not usable.
    ServerError
        The dataset cannot be read.
    """

    def __init__(
        self,
        apiUrl: str,
        token: str,
        datasetId: str,
        *,
        patience: Patience = DEFAULT_PATIENCE,
    ):
        self.client = Connection(apiUrl, token, patience=patience)
        self.datasetId = datasetId
        self.dataset = self._shown_item()
        self.tiles = self._get(f'item/{self.dataset["_id"]}/tiles')
        try:
            check_metadata(self.tiles)
        except ValueError as error:
            raise ValueError(
                f'The metadata of the image of dataset {datasetId} are not usable: {error}. '
                'Upload the image again.'
            ) from None
        self._frames = frame_numbers(self.tiles)

    def coordinatesToFrameIndex(self, XY: int, Z: int = 0, T: int = 0, channel: int = 0) -> int:
        """Return the number of a frame. All coordinates start at 0.

        Raises
        ------
        KeyError
            The image has no such frame.
        """
        try:
            return self._frames[XY, Z, T, channel]
        except KeyError:
            place = f'XY {XY}, Z {Z}, Time {T}, channel {channel} (counted from 0)'
            raise KeyError(f'Dataset {self.datasetId} has no frame at {place}.') from None

    def getRegion(self, datasetId: str | None = None, **region: Any) -> 'np.ndarray':
        """Return pixels of the image.

        Parameters
        ----------
        datasetId : str, optional
            The id of this dataset. It is an argument in NimbusImage's client.
        **region
            The server's parameters: frame (default 0), and for a part of it left, top, right,
            bottom and units='base_pixels'.

        Returns
        -------
        ndarray
            (H, W, 1), or (H, W, 3) for RGB, with the type of the image.

        Raises
        ------
        ValueError
            `datasetId` is of another dataset, or the answer does not hold the requested pixels.
        ServerError
        """
        if datasetId not in (None, self.datasetId):
            raise ValueError(f'This is dataset {self.datasetId}. Open dataset {datasetId} first.')
        path = f'item/{self.dataset["_id"]}/tiles/region'
        answer = self._get(path, {**region, 'encoding': 'pickle:5'}, jsonResp=False)
        place = f'Region {region} of dataset {self.datasetId}'
        try:
            pixels = unpickle_array(answer.content)
        except Exception as error:  # a damaged pickle may raise any error
            reason = str(error) or type(error).__name__
            raise ValueError(f'{place} is not an array of pixels: {reason}.') from error
        dtype = str(pixels.dtype.newbyteorder('='))
        if problem := compare_region(pixels.shape, dtype, region, self.tiles):
            raise ValueError(f'{place} has the wrong pixels: {problem}.')
        return pixels

    def _get(self, path: str, parameters: Mapping | None = None, **kwargs: Any) -> Any:
        return self.client.sendRestRequest(
            'GET', path, parameters, datasetId=self.datasetId, **kwargs
        )

    def _shown_item(self) -> Mapping:
        """Return the selected item of the dataset, else its first image."""
        folder = self._get(f'folder/{self.datasetId}')
        items = self._get('item', {'folderId': self.datasetId, 'limit': 0})
        if not isinstance(folder, Mapping) or not isinstance(items, list):
            raise ValueError(
                f'The server did not answer with dataset {self.datasetId} and a list of its items.'
            )
        meta = folder.get('meta')
        selected = meta.get('selectedLargeImageId') if isinstance(meta, Mapping) else None
        known = [
            item for item in items if isinstance(item, Mapping) and isinstance(item.get('_id'), str)
        ]
        candidates = [item for item in known if item['_id'] == selected]
        candidates += [item for item in known if item.get('largeImage')]
        if not candidates:
            raise ValueError(
                f'Dataset {folder.get("name")} ({self.datasetId}) has no image among its '
                f'{len(items)} items. Upload an image, or wait until the server has converted it.'
            )
        return candidates[0]


def frame_numbers(tiles: Mapping) -> dict[tuple[int, ...], int]:
    """Return {(XY, Z, T, channel): frame number} from the metadata of an image."""
    numbers: dict[tuple[int, ...], int] = {}
    for number, frame in enumerate(tiles.get('frames') or [{}]):  # one plane: no list of frames
        place = tuple(frame.get(key, 0) for key in INDICES)
        numbers.setdefault(place, number)
    return numbers


def check_metadata(tiles: Any) -> None:
    """Check that metadata describe an image.

    `frames`, `IndexRange`, `dtype` and the indices of a frame may be absent.

    Raises
    ------
    ValueError
        The text is a phrase with the key, the value seen and the expected value.
    """
    check_type(tiles, Mapping, 'the answer', 'an object')
    for key in ('sizeX', 'sizeY'):
        check_whole(tiles.get(key), 1, MAX_LENGTH, key)
    dtype = tiles.get('dtype')
    if dtype is not None:
        check_type(dtype, str, 'dtype', 'text')
        if not re.fullmatch(f'{NUMBER_TYPES}|[<>=|]?[biuf][1248]', dtype):
            raise ValueError(f'dtype is {reprlib.repr(dtype)}, expected a type of numbers')
    frames = [] if tiles.get('frames') is None else tiles['frames']
    check_type(frames, list, 'frames', 'a list')
    for number, frame in enumerate(frames):
        check_type(frame, Mapping, f'frames[{number}]', 'an object')
        for key in INDICES:
            check_whole(frame.get(key, 0), 0, MAX_LENGTH, f'frames[{number}].{key}')
    lengths = tiles.get('IndexRange')
    if lengths is None:
        return
    check_type(lengths, Mapping, 'IndexRange', 'an object')
    for key in INDICES:
        length = lengths.get(key, 1)
        check_whole(length, 1, MAX_LENGTH, f'IndexRange.{key}')
        needed = 1 + max(frame.get(key, 0) for frame in frames or [{}])
        if length != needed:
            raise ValueError(f'IndexRange.{key} is {length}, but the frames have {needed}')


def check_type(value: Any, expected: Any, name: str, kind: str) -> None:
    """Raise a ValueError if a value has another type. Its text is a phrase."""
    if not isinstance(value, expected):
        raise ValueError(f'{name} is {reprlib.repr(value)}, expected {kind}')


def check_whole(value: Any, least: int, most: int, name: str) -> None:
    """Raise a ValueError if a value is not an integer in a range. Its text is a phrase."""
    if type(value) is int and least <= value <= most:  # True is an instance of int
        return
    try:
        seen = reprlib.repr(value)
    except ValueError:  # Python refuses to write numbers with thousands of digits
        seen = 'a number of thousands of digits'
    raise ValueError(f'{name} is {seen}, expected an integer from {least} to {most}')


def compare_region(shape: Sequence[int], dtype: str, region: Mapping, tiles: Mapping) -> str:
    """Compare pixels with the requested region.

    Parameters
    ----------
    shape : sequence of int
        Shape of the pixels.
    dtype : str
        Their type, for example 'uint16'.
    region : Mapping
        The parameters of `UPennContrastDataset.getRegion`.
    tiles : Mapping
        Metadata of the image.

    Returns
    -------
    str
        The difference, as a phrase. '' if the pixels are right. A region outside the image must
        be empty and may have any type.
    """
    region = {key: value for key, value in region.items() if value is not None}
    height, width = region_size(region, tiles)
    if not height or not width:
        return '' if 0 in shape else f'asked outside the image, got {tuple(shape)}'
    if scaled := 'width' in region or 'height' in region:
        fits = is_scaled(shape, (height, width), region)
    else:
        fits = tuple(shape[:2]) == (height, width)
    if not fits:
        asked = f'{height} x {width} pixels' + ' in a smaller size' * scaled
        return f'asked for {asked}, got {shape[0]} x {shape[1]}'
    if len(shape) == 3 and not 1 <= shape[2] <= MAX_BANDS:
        return f'expected 1 to {MAX_BANDS} bands, got {shape[2]}'
    expected = tiles.get('dtype') or ''
    if dtype != expected and re.fullmatch(SCALED_TYPES if scaled else NUMBER_TYPES, expected):
        return f'expected {expected}, got {dtype}'
    return ''


def is_scaled(shape: Sequence[int], size: tuple[int, int], region: Mapping) -> bool:
    """Return whether pixels show a region of a size (H, W), scaled to the region's width or height.

    Rounding may change each side by a pixel.
    """
    height, width = size
    fits_height = 0 < shape[0] <= region.get('height', math.inf)
    fits_width = 0 < shape[1] <= region.get('width', math.inf)
    has_aspect = abs(shape[0] * width - shape[1] * height) <= width + height
    return fits_height and fits_width and has_aspect


def region_size(region: Mapping, tiles: Mapping) -> tuple[int, int]:
    """Return the rows and columns of the image that a region in base pixels covers."""
    if region.get('units', 'base_pixels') != 'base_pixels':
        region = {}
    left, top = max(region.get('left', 0), 0), max(region.get('top', 0), 0)
    right = min(region.get('right', math.inf), tiles['sizeX'])
    bottom = min(region.get('bottom', math.inf), tiles['sizeY'])
    return max(bottom - top, 0), max(right - left, 0)
