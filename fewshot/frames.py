"""Which frames a job searches, and how the channels of one location become the picture that the user sees."""
import colorsys
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from fewshot.geometry import Box
from fewshot.parameters import BATCH_AXES, Location, Parameters, explain, parse_batch, refuse, show
from fewshot.positions import Block

SCALED_DTYPES = ('uint8', 'uint16')  # that stay what they are when large_image scales a picture
STRIPS, STRIP_ROWS = 32, 8  # taken of a frame of another type
OVERVIEW_SIDE = 1024  # pixels, at most, of the small picture that tells the percentiles of a frame
SLAB_PIXELS = 2 ** 20  # of a channel coloured at a time
MOST_POSITIONS = 100_000  # of an axis, and of a job
LARGEST_INTENSITY = 1e38  # of a float32
REOPEN = 'Open the dataset, look at its layers, save them and start the job again.'
KEPT_BYTES = 2 ** 28  # of frames that are needed again and not downloaded twice


@dataclass(frozen=True)
class Layer:
    """How one channel is shown."""

    channel: int
    color: tuple[float, float, float]  # red, green, blue in 0..1
    percentile: bool  # black and white are percentiles of the channel's own frame, else intensities
    black: float
    white: float


class Piece(NamedTuple):
    """What is looked at in one go: a tile of the frame at a location, or all of it."""

    location: Location
    tile: Box | None = None


@dataclass(frozen=True)
class Frame:
    """One location, or a tile of it, as the user sees it: `rgb` is (H, W, 3) uint8."""

    location: Location
    rgb: np.ndarray


class Coming(NamedTuple):
    """A piece and the frame that is being loaded of it."""

    piece: Piece
    frame: 'Future[Frame]'


def axis_length(tiles: Mapping, axis: str) -> int:
    """How many positions of an axis (XY, Z, T or C) a dataset has, from its tile metadata.

    Raises ValueError, with a note for the user, where the metadata gives no such number.
    """
    lengths = tiles.get('IndexRange')
    if lengths is None:
        return 1
    length = lengths.get(f'Index{axis}', 1) if isinstance(lengths, Mapping) else None
    if type(length) is not int or not 1 <= length <= MOST_POSITIONS:
        raise refuse(f'The dataset does not say how many positions of {axis} it has', lengths,
                     f'Expected a number from 1 to {MOST_POSITIONS:,}; ask who runs the server.')
    return length


def has_location(tiles: Mapping, location: Location) -> bool:
    """Whether the dataset has this location."""
    lengths = axis_length(tiles, 'XY'), axis_length(tiles, 'Z'), axis_length(tiles, 'T')
    return all(0 <= index < length for index, length in
               zip((location.xy, location.z, location.time), lengths, strict=True))


def list_locations(parameters: Parameters, tiles: Mapping) -> list[Location]:
    """The locations to search, XY by XY, then Z, then Time.

    Raises ValueError, with a note for the user, when a batch field names a position that the dataset lacks, the job's
    channel is not one of the dataset's, or there are more than MOST_POSITIONS.
    """
    channels = axis_length(tiles, 'C')
    if parameters.channel >= channels:
        raise refuse('The channel is not in the dataset', f'channel {parameters.channel + 1}',
                     f'The dataset has {channels}; choose another layer for the tool.')
    current = parameters.current
    positions = [
        _list_positions(name, parameters.batches[name], here, axis_length(tiles, axis))
        for name, here, axis in zip(BATCH_AXES, (current.xy, current.z, current.time), ('XY', 'Z', 'T'), strict=True)]
    if (total := math.prod(map(len, positions))) > MOST_POSITIONS:
        raise refuse('The batch is too large', f'{total:,} positions', f'Search at most {MOST_POSITIONS:,} in a job.')
    return Block(*map(tuple, positions)).locations


def _list_positions(name: str, text: str, current: int, length: int) -> list[int]:
    ranges = parse_batch(text)
    if ranges is None:
        return list(range(length))
    outside = [f'{first}-{last}' if first < last else f'{first}'
               for first, last in ranges or [(current + 1, current + 1)] if first < 1 or last > length]
    if outside:
        seen = ', '.join(outside[:10]) + (', ...' if len(outside) > 10 else '')
        raise refuse(f'{name} names positions outside the dataset: {seen}' + (
            '' if ranges else ' (blank: where you stand)'), text, f'The dataset has positions 1-{length}.')
    wanted = np.zeros(length, bool)
    for first, last in ranges:
        wanted[first - 1:last] = True
    return np.flatnonzero(wanted).tolist() or [current]


def read_layers(client: Any, datasetId: str, tiles: Mapping) -> tuple[list[Layer], str | None]:
    """The visible layers of the dataset's configuration, as the last used view shows them.

    Parameters
    ----------
    client : girder client
    tiles : the dataset's tile metadata

    Returns
    -------
    layers : one or more
    problem : None, or why every channel is shown in a colour of its own instead

    Raises
    ------
    ValueError
        The server's answer is no view or no configuration, or a visible layer's colour or contrast cannot be read.
    """
    channels = axis_length(tiles, 'C')
    views = client.get('dataset_view', parameters={'datasetId': datasetId})
    if not views:
        return _default_layers(channels), 'The dataset has no view that this job may see'
    if not _are_records(views):
        raise refuse('The views of the dataset cannot be read', views, REOPEN)
    view = max(views, key=_last_viewed)
    contrasts, configurationId = view.get('layerContrasts') or {}, view.get('configurationId')
    if not isinstance(contrasts, Mapping) or not isinstance(configurationId, str):
        raise refuse('The view of the dataset cannot be read', view, REOPEN)
    collection = client.get(f'upenn_collection/{quote(configurationId, safe="")}')
    meta = collection.get('meta') or {} if isinstance(collection, Mapping) else None
    records = meta.get('layers') or [] if isinstance(meta, Mapping) else None
    if not _are_records(records):
        raise refuse('The configuration of the dataset cannot be read', collection, REOPEN)
    visible = [record for record in records or [] if record.get('visible')]
    read = [_read_layer(record, contrasts.get(str(record.get('id'))) or record.get('contrast')) for record in visible
            if _may_be_shown(record, channels)]
    if not read:
        return _default_layers(channels), 'No layer of the dataset is visible'
    return read, None


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, Mapping) for one in value)


def _last_viewed(view: Mapping) -> float:
    seen = view.get('lastViewed')
    return seen if isinstance(seen, int | float) and seen == seen else 0


def _may_be_shown(record: Mapping, channels: int) -> bool:
    """Whether a layer is of a channel of the dataset, or of nonsense, which is refused when it is read."""
    channel = record.get('channel', -1)
    return type(channel) is not int or 0 <= channel < channels


def _read_layer(record: Mapping, contrast: Any) -> Layer:
    try:
        if type(record.get('channel')) is not int:
            raise ValueError(f'{show(record.get("channel"))} is not a channel')
        color = str(record.get('color')).lstrip('#')
        if len(color) != 6:
            raise ValueError(f'{show(record.get("color"))} is not a colour')
        red, green, blue = bytes.fromhex(color)
        if not isinstance(contrast, Mapping) or contrast.get('mode') not in ('percentile', 'absolute'):
            raise ValueError(f'{show(contrast)} is not a contrast')
        black, white = float(contrast['blackPoint']), float(contrast['whitePoint'])
        percentile = contrast['mode'] == 'percentile'
        largest = 100 if percentile else LARGEST_INTENSITY
        if not (abs(black) <= largest and abs(white) <= largest) or percentile and min(black, white) < 0:
            raise ValueError(f'black point {black} and white point {white} are no contrast')
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise refuse(f'The layer {show(record.get("name"))} cannot be shown: {error}', record,
                     'Set its colour and contrast again in the layer panel, or hide it.') from error
    return Layer(record['channel'], (red / 255, green / 255, blue / 255), percentile, black, white)


def _default_layers(channels: int) -> list[Layer]:
    colors = [colorsys.hsv_to_rgb(channel / channels, 1, 1) for channel in range(channels)]
    return [Layer(channel, color if channels > 1 else (1, 1, 1), True, 0.1, 99.9)
            for channel, color in enumerate(colors)]


def load_frame(dataset: Any, datasetId: str, layers: list[Layer], location: Location,
               tile: Box | None = None) -> Frame:
    """Download the channels of one location, or of a tile of it, and merge them by maximum, each in its colour.

    Parameters
    ----------
    dataset : annotation_client.tiles.UPennContrastDataset
    layers : for a tile with their contrast fixed, see `fix_layers`, or neighbours would differ

    Raises ValueError when the dataset has no such frame or a channel's image has another size than the first.
    """
    part = {} if tile is None else {**tile._asdict(), 'units': 'base_pixels'}
    rgb: np.ndarray | None = None
    for layer in layers:
        image = dataset.getRegion(datasetId, frame=_find_index(dataset, location, layer), **part)
        if rgb is None:
            rgb = np.zeros((*image.shape[:2], 3), np.uint8)
        elif rgb.shape[:2] != image.shape[:2]:
            raise ValueError(f'The channels at {location} differ in size: {rgb.shape[:2]} and {image.shape[:2]}')
        merge_channel(rgb, image, layer)
    assert rgb is not None  # read_layers gives at least one
    return Frame(location, rgb)


def fix_layers(dataset: Any, datasetId: str, layers: list[Layer], location: Location) -> list[Layer]:
    """The layers with intensities as black and white points, percentiles taken from a sample of the frame."""
    return [
        fix_contrast(sample_frame(dataset, datasetId, _find_index(dataset, location, layer)), layer)
        if layer.percentile else layer for layer in layers]


def sample_frame(dataset: Any, datasetId: str, index: int) -> np.ndarray:
    """Pixels from all over a frame: a small picture of it, or strips where the server would make bytes of that one.

    Returns an array of shape (h, w) or (h, w, bands).
    """
    height, width = dataset.tiles['sizeY'], dataset.tiles['sizeX']
    if dataset.tiles.get('dtype') in SCALED_DTYPES:
        size = {'width': min(OVERVIEW_SIDE, width), 'height': min(OVERVIEW_SIDE, height)}
        return dataset.getRegion(datasetId, frame=index, **size)
    band = height / STRIPS
    tops = [int(max(0, (number + 0.5) * band - STRIP_ROWS / 2)) for number in range(STRIPS)]
    return np.concatenate([
        dataset.getRegion(datasetId, frame=index, left=0, top=top, right=width, bottom=min(top + STRIP_ROWS, height),
                          units='base_pixels') for top in tops])


def _find_index(dataset: Any, location: Location, layer: Layer) -> int:
    try:
        return dataset.coordinatesToFrameIndex(location.xy, location.z, location.time, layer.channel)
    except KeyError:
        raise explain(ValueError(f'The dataset has no image at {location}, channel {layer.channel + 1}'),
                      'Leave this position out of the batch, or hide the channel.') from None


def load_ahead(load: Callable[[Piece], Frame], pieces: Sequence[Piece], background: Executor,
               is_wanted: Callable[[Piece], bool] = lambda piece: True) -> Iterator[Coming]:
    """The pieces in their order, loaded or failed; while the caller works on one, the next is loaded, and no more.

    A piece that comes again is kept and not loaded twice, as long as all that is kept fits KEPT_BYTES.

    Parameters
    ----------
    background : of one thread
    is_wanted : asked before a piece is loaded; one that is not is passed over
    """
    needed = Counter(pieces)
    kept: dict[Piece, Frame] = {}

    def fetch(piece: Piece) -> Frame:
        needed[piece] -= 1
        frame = kept.pop(piece, None) or load(piece)
        if needed[piece] and frame.rgb.nbytes + sum(one.rgb.nbytes for one in kept.values()) <= KEPT_BYTES:
            kept[piece] = frame
        return frame

    coming: Coming | None = None
    for piece in pieces:
        if is_wanted(piece):
            if coming:
                wait([coming.frame])
            following = Coming(piece, background.submit(fetch, piece))
            if coming:
                yield coming
            coming = following
    if coming:
        yield coming


def merge_channel(rgb: np.ndarray, image: np.ndarray, layer: Layer) -> None:
    """Draw a channel into a picture: where it is brighter, in a colour, it shows.

    Rows are taken a slab at a time, for the steps between pixel and colour need many times the room of both.

    Parameters
    ----------
    rgb : (H, W, 3) uint8, changed in place
    image : the channel, as for `stretch`
    """
    image = np.atleast_3d(image)
    layer = fix_contrast(image, layer)
    step = max(1, SLAB_PIXELS // image.shape[1])
    for top in range(0, len(image), step):
        rows = slice(top, top + step)
        shown = ensure_rgb(stretch(image[rows], layer) * np.array(layer.color, np.float32))
        np.maximum(rgb[rows], shown, out=rgb[rows])


def fix_contrast(image: np.ndarray, layer: Layer) -> Layer:
    """The layer with intensities as black and white point: its percentiles are those of this image (any shape)."""
    if not layer.percentile:
        return layer
    bands = image[..., :3] if image.ndim == 3 else image
    values = bands[np.isfinite(bands)]
    black, white = np.percentile(values, [layer.black, layer.white]) if values.size else (0, 0)
    return replace(layer, percentile=False, black=float(black), white=float(white))


def stretch(image: np.ndarray, layer: Layer) -> np.ndarray:
    """Contrast: black point → 0, white point → 1, clipped; pixels that are not finite → 0.

    Where white and black are equal, what lies above is white.

    Parameters
    ----------
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4; the fourth is left out), any number type
    layer : black and white point as intensities, see `fix_contrast`

    Returns
    -------
    (H, W, 1) or (H, W, 3) float32 in 0..1
    """
    assert not layer.percentile
    image = np.atleast_3d(image)
    image = image[..., :3] if image.shape[-1] in (3, 4) else image[..., :1]
    finite = np.isfinite(image)
    values = np.where(finite, image, layer.black).astype(np.float32)
    low, high = np.array([layer.black, layer.white], np.float32)
    if low == high:
        return (values > low).astype(np.float32)
    with np.errstate(over='ignore'):  # far above a narrow contrast is white
        return np.clip((values - low) / (high - low), 0, 1) * finite


def ensure_rgb(image: np.ndarray) -> np.ndarray:
    """Any picture as (H, W, 3) uint8.

    uint8 stays; uint16 is divided by 256; floats in 0..1 are multiplied by 255, other floats clipped to 0..255, what is
    not finite becomes 0. One band becomes three, a fourth is left out.

    Parameters
    ----------
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16 or a float type

    Raises ValueError for any other shape or type.
    """
    image = np.asarray(image)
    bands = image.shape[2] if image.ndim == 3 else 1
    is_float = np.issubdtype(image.dtype, np.floating)
    if (image.ndim not in (2, 3) or bands not in (1, 3, 4) or 0 in image.shape
            or not (is_float or image.dtype in (np.uint8, np.uint16))):
        raise ValueError(f'Not a picture: shape {image.shape}, {image.dtype}; expected (H, W) or 1, 3 or 4 bands of '
                         'uint8, uint16 or float')
    image = np.atleast_3d(image)[..., :3]
    if image.dtype == np.uint16:
        image = (image // 256).astype(np.uint8)
    elif is_float:
        image = np.where(np.isfinite(image), image, 0)
        scale = 255 if image.min() >= 0 and image.max() <= 1 else 1
        image = np.rint(np.clip(image * scale, 0, 255)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))
