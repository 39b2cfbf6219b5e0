"""The image of a dataset: its metadata, its frames, its pixels."""
import io
import pickle
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from annotation_client.connection import Connection

if TYPE_CHECKING:  # an interface request has no use for numpy and should not wait for it
    import numpy as np


class UPennContrastDataset:
    """The image that a dataset shows.

    `dataset` is the item that holds the image, `tiles` the image's metadata (sizeX, sizeY, dtype, frames, IndexRange,
    ...), `client` the girder client, for calls that have no method here.

    Raises ValueError for a dataset that has no image, ServerError for one that cannot be read.
    """

    def __init__(self, apiUrl: str, token: str, datasetId: str):
        self.client = Connection(apiUrl, token)
        self.datasetId = datasetId
        self.dataset = self._shown_item()
        self.tiles = self._get(f'item/{self.dataset["_id"]}/tiles')
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

        Raises ValueError for another dataset's id, and for an answer that is not an array of numbers.
        """
        if datasetId not in (None, self.datasetId):
            raise ValueError(f'This is dataset {self.datasetId}, pixels were asked of {datasetId}: open that one.')
        path = f'item/{self.dataset["_id"]}/tiles/region'
        answer = self._get(path, {**region, 'encoding': 'pickle:5'}, jsonResp=False)
        try:
            return unpickle_array(answer.content)
        except Exception as error:  # a damaged pickle raises whatever it likes
            place = f'Region {region} of dataset {self.datasetId}'
            reason = str(error) or type(error).__name__
            raise ValueError(f'{place} did not come as an array of pixels: {reason}.') from error

    def _get(self, path: str, parameters: Mapping | None = None, **kwargs: Any) -> Any:
        return self.client.sendRestRequest('GET', path, parameters, datasetId=self.datasetId, **kwargs)

    def _shown_item(self) -> dict:
        folder = self._get(f'folder/{self.datasetId}')
        items = self._get('item', {'folderId': self.datasetId, 'limit': 0})
        selected = folder.get('meta', {}).get('selectedLargeImageId')
        candidates = [item for item in items if item['_id'] == selected]
        candidates += [item for item in items if item.get('largeImage')]
        if not candidates:
            raise ValueError(
                f'Dataset {folder.get("name")} ({self.datasetId}) has no image: the server can show none of its '
                f'{len(items)} items. Upload an image, or wait until the server has converted it.')
        return candidates[0]


def frame_numbers(tiles: Mapping) -> dict[tuple[int, ...], int]:
    """{(XY, Z, T, channel): frame number} from an image's metadata."""
    numbers: dict[tuple[int, ...], int] = {}
    for number, frame in enumerate(tiles.get('frames') or [{}]):  # an image of one plane lists no frames
        place = tuple(frame.get(key, 0) for key in ('IndexXY', 'IndexZ', 'IndexT', 'IndexC'))
        numbers.setdefault(place, number)
    return numbers


def unpickle_array(content: bytes) -> 'np.ndarray':
    """The 2-D or 3-D array of numbers in a pickle. Raises, among others, pickle.UnpicklingError."""
    import numpy as np

    array = ArrayUnpickler(io.BytesIO(content)).load()
    if not isinstance(array, np.ndarray):
        raise pickle.UnpicklingError(f'it is of type {type(array).__name__}')
    if array.ndim not in (2, 3) or array.dtype.kind not in 'biuf':
        raise pickle.UnpicklingError(f'it has shape {array.shape} and dtype {array.dtype}')
    return array


class ArrayUnpickler(pickle.Unpickler):
    """Reads arrays of numbers. A pickle is a program: every other name that it asks for is refused, not imported."""

    def find_class(self, module: str, name: str) -> Any:
        """The array, dtype or rebuilding function of that name. Raises pickle.UnpicklingError for any other."""
        import numpy as np

        # numpy 1 has these two in numpy.core, numpy 2 in numpy._core; here they come from the numpy that is installed
        rebuild = np.empty(0).__reduce__()[0]
        from_buffer = np.empty(0).__reduce_ex__(5)[0]
        admitted: dict[tuple[str, str], Any] = {
            ('numpy', 'ndarray'): np.ndarray,
            ('numpy', 'dtype'): number_dtype,
            ('numpy._core.multiarray', '_reconstruct'): rebuild,
            ('numpy._core.numeric', '_frombuffer'): from_buffer,
        }
        if (found := admitted.get((module.replace('numpy.core.', 'numpy._core.'), name))) is None:
            raise pickle.UnpicklingError(f'it asks for {module}.{name}')
        return found


def number_dtype(code: str, *flags: bool) -> 'np.dtype':
    """numpy.dtype, for numbers only: an array of objects made of raw bytes would be pointers of a stranger's choice."""
    import numpy as np

    if not (isinstance(code, str) and re.fullmatch('[biuf][0-9]+', code)):
        raise pickle.UnpicklingError(f'its dtype {code!r} is not one of numbers')
    return np.dtype(code, *flags)  # type: ignore[call-overload]
