"""The image of a dataset: its metadata, its frames, its pixels."""
import io
import math
import pickle
import pickletools
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from annotation_client.connection import Connection

if TYPE_CHECKING:  # an interface request has no use for numpy and should not wait for it
    import numpy as np

INDICES = ('IndexXY', 'IndexZ', 'IndexT', 'IndexC')
LARGEST_SIDE = 10 ** 7  # pixels, or positions
DTYPES = 'bool|u?int(8|16|32|64)|float(16|32|64)'
MOST_STEPS = 100  # that an array's pickle takes
ARRAY_STEPS = {
    'PROTO', 'FRAME', 'MEMOIZE', 'BINPUT', 'BINGET', 'STACK_GLOBAL', 'SHORT_BINUNICODE', 'BINUNICODE', 'MARK', 'TUPLE',
    'TUPLE1', 'TUPLE2', 'TUPLE3', 'EMPTY_TUPLE', 'BININT', 'BININT1', 'BININT2', 'NONE', 'NEWTRUE', 'NEWFALSE',
    'REDUCE', 'BUILD', 'SHORT_BINBYTES', 'BINBYTES', 'BINBYTES8', 'BYTEARRAY8', 'STOP'}


class UPennContrastDataset:
    """The image that a dataset shows.

    `dataset` is the item that holds the image, `tiles` the image's metadata (sizeX, sizeY, dtype, frames, IndexRange,
    ...), `client` the girder client, for calls that have no method here.

    Raises ValueError for a dataset that has no image or one whose metadata are none, ServerError for one that cannot be
    read.
    """

    def __init__(self, apiUrl: str, token: str, datasetId: str):
        self.client = Connection(apiUrl, token)
        self.datasetId = datasetId
        self.dataset = self._shown_item()
        self.tiles = self._get(f'item/{self.dataset["_id"]}/tiles')
        try:
            check_metadata(self.tiles)
        except ValueError as error:
            raise ValueError(f'The image of dataset {datasetId} cannot be used: its metadata has {error}.') from None
        self._frames = frame_numbers(self.tiles)

    def coordinatesToFrameIndex(self, XY: int, Z: int = 0, T: int = 0, channel: int = 0) -> int:
        """The number of the frame at these 0-based coordinates. Raises KeyError if the image has none there."""
        try:
            return self._frames[XY, Z, T, channel]
        except KeyError:
            place = f'XY {XY}, Z {Z}, Time {T}, channel {channel} (counted from 0)'
            raise KeyError(f'Dataset {self.datasetId} has no frame at {place}.') from None

    def getRegion(self, datasetId: str | None = None, **region: Any) -> 'np.ndarray':
        """Pixels in the image's own dtype, (H, W, 1), or (H, W, 3) if it is RGB.

        `datasetId` can only be the id that this object was made with. `region` is what the server takes: frame (0 if
        absent), and for a part of it left, top, right, bottom and units='base_pixels'.

        Raises ValueError for another dataset's id, and for an answer that is not an array of numbers, or not of the
        size, bands and dtype that the image has there.
        """
        if datasetId not in (None, self.datasetId):
            raise ValueError(f'This is dataset {self.datasetId}, pixels were asked of {datasetId}: open that one.')
        path = f'item/{self.dataset["_id"]}/tiles/region'
        answer = self._get(path, {**region, 'encoding': 'pickle:5'}, jsonResp=False)
        place = f'Region {region} of dataset {self.datasetId}'
        try:
            pixels = unpickle_array(answer.content)
        except Exception as error:  # a damaged pickle raises whatever it likes
            reason = str(error) or type(error).__name__
            raise ValueError(f'{place} did not come as an array of pixels: {reason}.') from error
        if mismatch := compare_region(pixels.shape, str(pixels.dtype.newbyteorder('=')), region, self.tiles):
            raise ValueError(f'{place} came as another one: {mismatch}.')
        return pixels

    def _get(self, path: str, parameters: Mapping | None = None, **kwargs: Any) -> Any:
        return self.client.sendRestRequest('GET', path, parameters, datasetId=self.datasetId, **kwargs)

    def _shown_item(self) -> Mapping:
        folder = self._get(f'folder/{self.datasetId}')
        items = self._get('item', {'folderId': self.datasetId, 'limit': 0})
        if not isinstance(folder, Mapping) or not isinstance(items, list):
            raise ValueError(f'The server did not answer with dataset {self.datasetId} and a list of its items.')
        meta = folder.get('meta')
        selected = meta.get('selectedLargeImageId') if isinstance(meta, Mapping) else None
        known = [item for item in items if isinstance(item, Mapping) and isinstance(item.get('_id'), str)]
        candidates = [item for item in known if item['_id'] == selected]
        candidates += [item for item in known if item.get('largeImage')]
        if not candidates:
            raise ValueError(
                f'Dataset {folder.get("name")} ({self.datasetId}) has no image: the server can show none of its '
                f'{len(items)} items. Upload an image, or wait until the server has converted it.')
        return candidates[0]


def frame_numbers(tiles: Mapping) -> dict[tuple[int, ...], int]:
    """{(XY, Z, T, channel): frame number} from an image's metadata."""
    numbers: dict[tuple[int, ...], int] = {}
    for number, frame in enumerate(tiles.get('frames') or [{}]):  # an image of one plane lists no frames
        place = tuple(frame.get(key, 0) for key in INDICES)
        numbers.setdefault(place, number)
    return numbers


def check_metadata(tiles: Any) -> None:
    """Raise a ValueError, with the key and the value seen as a phrase, for metadata that describe no image.

    `frames`, `IndexRange`, `dtype` and any index of a frame may be missing.
    """
    if not isinstance(tiles, Mapping):
        raise ValueError(f'no keys, but is {reprlib.repr(tiles)}')
    for key in ('sizeX', 'sizeY'):
        check_whole(tiles.get(key), 1, LARGEST_SIDE, key)
    dtype = tiles.get('dtype')
    if dtype is not None and not (isinstance(dtype, str) and re.fullmatch(f'{DTYPES}|[<>=|]?[biuf][1248]', dtype)):
        raise ValueError(f'dtype {reprlib.repr(dtype)}, which is no type of numbers')
    frames = tiles.get('frames')
    if frames is not None and not isinstance(frames, list):
        raise ValueError(f'frames {reprlib.repr(frames)}, which is no list')
    for number, frame in enumerate(frames or []):
        if not isinstance(frame, Mapping):
            raise ValueError(f'frames[{number}] {reprlib.repr(frame)}, which is no record')
        for key in INDICES:
            check_whole(frame.get(key, 0), 0, LARGEST_SIDE, f'frames[{number}].{key}')
    lengths = tiles.get('IndexRange')
    if lengths is not None and not isinstance(lengths, Mapping):
        raise ValueError(f'IndexRange {reprlib.repr(lengths)}, which is no record')
    if lengths is None:
        return
    for key in INDICES:
        length = lengths.get(key, 1)
        check_whole(length, 1, LARGEST_SIDE, f'IndexRange.{key}')
        needed = 1 + max(frame.get(key, 0) for frame in frames or [{}])
        if length != needed:
            raise ValueError(f'IndexRange.{key} {length}, where the frames have {needed}')


def check_whole(value: Any, least: int, most: int, key: str) -> None:
    """Raise a ValueError, with the key and the value as a phrase, for what is no whole number from least to most."""
    if type(value) is not int or not least <= value <= most:  # True is an int, too
        try:
            seen = reprlib.repr(value)
        except ValueError:
            seen = 'of thousands of digits'  # which Python does not write
        raise ValueError(f'{key} {seen}, which is no whole number from {least} to {most}')


def compare_region(shape: Sequence[int], dtype: str, region: Mapping, tiles: Mapping) -> str:
    """What is wrong with the pixels that came for a region, from shape, dtype and the image's metadata; '' if nothing.

    `region` is as for `getRegion`. A region outside the image is empty, whatever its type.
    """
    region = {key: value for key, value in region.items() if value is not None}
    height, width = region_size(region, tiles)
    if not height or not width:
        return '' if 0 in shape else f'asked outside the image, got {tuple(shape)}'
    if scaled := 'width' in region or 'height' in region:
        most = [region.get('height', math.inf), region.get('width', math.inf)]
        fits = all(0 < side <= limit for side, limit in zip(shape, most, strict=False))
        # each side may be rounded by a pixel
        fits = fits and abs(shape[0] * width - shape[1] * height) <= width + height
    else:
        fits = tuple(shape[:2]) == (height, width)
    if not fits:
        return f'of {height} × {width} pixels asked for{" in small" * scaled}, got {shape[0]} × {shape[1]}'
    if len(shape) == 3 and not 1 <= shape[2] <= 4:
        return f'expected 1 to 4 bands, got {shape[2]}'
    # large_image scales these two only; any other type comes as bytes when it is scaled
    expected = tiles.get('dtype') or ''
    if dtype != expected and re.fullmatch('uint8|uint16' if scaled else DTYPES, expected):
        return f'expected {expected}, got {dtype}'
    return ''


def region_size(region: Mapping, tiles: Mapping) -> tuple[int, int]:
    """Rows and columns of the image that a region in base pixels spans, cut to the image."""
    if region.get('units', 'base_pixels') != 'base_pixels':
        region = {}
    left, top = max(region.get('left', 0), 0), max(region.get('top', 0), 0)
    right = min(region.get('right', math.inf), tiles['sizeX'])
    bottom = min(region.get('bottom', math.inf), tiles['sizeY'])
    return max(bottom - top, 0), max(right - left, 0)


def unpickle_array(content: bytes) -> 'np.ndarray':
    """The 2-D or 3-D array of numbers in a pickle. Raises, among others, pickle.UnpicklingError."""
    import numpy as np

    check_steps(content)
    array = ArrayUnpickler(io.BytesIO(content)).load()
    if isinstance(array, PickledArray):
        array = array.pixels
    if not isinstance(array, np.ndarray):
        raise pickle.UnpicklingError(f'it is of type {type(array).__name__}')
    if array.ndim not in (2, 3):
        raise pickle.UnpicklingError(f'it has shape {array.shape} and dtype {array.dtype}')
    return array


def check_steps(content: bytes) -> None:
    """Raise pickle.UnpicklingError for a pickle that takes other or more steps than an array does.

    A pickle is a program, whose reader trusts it: told to remember a value under the number 2 ** 32 - 1, it
    fills 64 GB with zeros.
    """
    steps = pickletools.genops(Scanner(content))  # type: ignore[arg-type]
    for number, (step, _, _) in enumerate(steps):
        if step.name not in ARRAY_STEPS or number > MOST_STEPS:
            raise pickle.UnpicklingError(f'it takes the step {step.name} ({number}), which no array does')


class Scanner:
    """Bytes as a file to read, long pieces without a copy."""

    def __init__(self, content: bytes):
        self.content, self.place = memoryview(content), 0

    def read(self, size: int) -> bytes | memoryview:
        """The next `size` bytes, or those that are left."""
        piece = self.content[self.place:self.place + size]
        self.place += len(piece)
        return piece if size > MOST_STEPS else bytes(piece)

    def readline(self) -> bytes:
        """Nothing: no step that an array takes is written as a line."""
        return b''


class ArrayUnpickler(pickle.Unpickler):
    """Reads arrays of numbers. A name that the pickle asks for stands for something here, or is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """What makes the array or dtype of that name. Raises pickle.UnpicklingError for any other."""
        # numpy 1 has the functions in numpy.core, numpy 2 in numpy._core
        found = {
            ('numpy', 'ndarray'): PickledArray,
            ('numpy', 'dtype'): PickledDtype,
            ('numpy._core.multiarray', '_reconstruct'): start_array,
            ('numpy._core.numeric', '_frombuffer'): make_array,
        }.get((module.replace('numpy.core.', 'numpy._core.'), name))
        if found is None:
            raise pickle.UnpicklingError(f'it asks for {module}.{name}')
        return found


class PickledDtype:
    """The dtype of an array that is being read: numbers only, for objects would be pointers of a stranger's choice."""

    def __init__(self, code: str, *flags: bool):
        import numpy as np

        if not (isinstance(code, str) and re.fullmatch('[biuf][0-9]{1,2}', code)):
            raise pickle.UnpicklingError(f'its dtype {code!r} is not one of numbers')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ('<', '>', '|', '='):
            raise pickle.UnpicklingError(f'its bytes have the order {state[1]!r}')
        self.dtype = self.dtype.newbyteorder(state[1])


class PickledArray:
    """An array that is being read, `pixels` once its state is known."""

    pixels: 'np.ndarray | None' = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, values = state
        self.pixels = make_array(values, dtype, shape, 'F' if is_fortran else 'C').copy(order='K')


def start_array(*_: Any) -> PickledArray:
    """An array whose shape and values are told later."""
    return PickledArray()


def make_array(values: bytes | bytearray, dtype: PickledDtype, shape: tuple, order: Any,
               axes: Any = None) -> 'np.ndarray':
    """The array that lies in these bytes. Raises ValueError, TypeError or UnpicklingError where none does.

    Parameters
    ----------
    order : of the axes in the bytes, C or F; or K, then they lie there as C and `axes` are those of the array
    """
    import numpy as np

    if not isinstance(values, bytes | bytearray) or not isinstance(dtype, PickledDtype):
        raise pickle.UnpicklingError(f'it is made of {type(values).__name__} and {type(dtype).__name__}')
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise pickle.UnpicklingError(f'it has shape {shape!r}')
    if math.prod(shape) * dtype.dtype.itemsize != len(values):
        raise pickle.UnpicklingError(f'it has shape {shape}, {dtype.dtype} and {len(values)} bytes')
    flat = np.frombuffer(values, dtype.dtype)
    return flat.reshape(shape).transpose(axes) if order == 'K' else flat.reshape(shape, order=order)
