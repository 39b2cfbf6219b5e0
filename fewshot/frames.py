"""Which frames a job searches, and how the channels of one location become the picture that the user sees."""
import colorsys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fewshot.crops import Box
from fewshot.parameters import BATCH_AXES, Location, Parameters, explain, parse_batch, refuse

OVERVIEW_SIDE = 1024  # pixels, at most, of the small picture that tells the percentiles of a frame
SLAB_PIXELS = 2 ** 20  # of a channel coloured at a time
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


def axis_length(tiles: Mapping, axis: str) -> int:
    """How many positions of an axis (XY, Z, T or C) a dataset has, from its tile metadata."""
    return (tiles.get('IndexRange') or {}).get(f'Index{axis}', 1)


def has_location(tiles: Mapping, location: Location) -> bool:
    """Whether the dataset has this location."""
    lengths = axis_length(tiles, 'XY'), axis_length(tiles, 'Z'), axis_length(tiles, 'T')
    return all(0 <= index < length for index, length in
               zip((location.xy, location.z, location.time), lengths, strict=True))


def list_locations(parameters: Parameters, tiles: Mapping) -> list[Location]:
    """The locations to search, XY by XY, then Z, then Time.

    Raises ValueError, with a note for the user, when a batch field names a position that the dataset lacks, or the
    job's channel is not one of the dataset's.
    """
    channels = axis_length(tiles, 'C')
    if parameters.channel >= channels:
        raise refuse('The channel is not in the dataset', f'channel {parameters.channel + 1}',
                     f'The dataset has {channels}; choose another layer for the tool.')
    current = parameters.current
    positions = [
        _list_positions(name, parameters.batches[name], here, axis_length(tiles, axis))
        for name, here, axis in zip(BATCH_AXES, (current.xy, current.z, current.time), ('XY', 'Z', 'T'), strict=True)]
    return [Location(xy, z, time) for xy in positions[0] for z in positions[1] for time in positions[2]]


def _list_positions(name: str, text: str, current: int, length: int) -> list[int]:
    ranges = parse_batch(text)
    if ranges is None:
        return list(range(length))
    outside = [f'{first}-{last}' if first < last else f'{first}'
               for first, last in ranges or [(current + 1, current + 1)] if first < 1 or last > length]
    if outside:
        seen = ', '.join(outside) + ('' if ranges else ' (blank: where you stand)')
        raise explain(ValueError(f'{name} names positions outside the dataset: {seen}'),
                      f'Seen: {text!r}. The dataset has positions 1-{length}.')
    return sorted({index - 1 for first, last in ranges for index in range(first, last + 1)}) or [current]


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
        A visible layer's colour or contrast cannot be read.
    """
    channels = axis_length(tiles, 'C')
    views = client.get('dataset_view', parameters={'datasetId': datasetId})
    if not views:
        return _default_layers(channels), 'The dataset has no view that this job may see'
    view = max(views, key=lambda one: one.get('lastViewed') or 0)
    contrasts = view.get('layerContrasts') or {}
    collection = client.get(f'upenn_collection/{view["configurationId"]}')
    records = (collection.get('meta') or {}).get('layers') or []
    layers = [_read_layer(record, contrasts.get(record.get('id')) or record.get('contrast')) for record in records
              if record.get('visible') and 0 <= record.get('channel', -1) < channels]
    if not layers:
        return _default_layers(channels), 'No layer of the dataset is visible'
    return layers, None


def _read_layer(record: Mapping, contrast: Mapping) -> Layer:
    try:
        color = record['color'].lstrip('#')
        if len(color) != 6:
            raise ValueError(f'{record["color"]!r} is not a colour')
        red, green, blue = bytes.fromhex(color)
        if contrast['mode'] not in ('percentile', 'absolute'):
            raise ValueError(f'{contrast["mode"]!r} is not a mode of contrast')
        black, white = float(contrast['blackPoint']), float(contrast['whitePoint'])
        percentile = contrast['mode'] == 'percentile'
        if not np.isfinite([black, white]).all() or (percentile and not (0 <= black <= 100 and 0 <= white <= 100)):
            raise ValueError(f'black point {black} and white point {white} are no contrast')
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise refuse(f'The layer {record.get("name")!r} cannot be shown: {error}', dict(record),
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
    """The layers with intensities as black and white points, percentiles taken from a small picture of the frame."""
    size = {'width': min(OVERVIEW_SIDE, dataset.tiles['sizeX']), 'height': min(OVERVIEW_SIDE, dataset.tiles['sizeY'])}
    return [
        fix_contrast(dataset.getRegion(datasetId, frame=_find_index(dataset, location, layer), **size), layer)
        if layer.percentile else layer for layer in layers]


def _find_index(dataset: Any, location: Location, layer: Layer) -> int:
    try:
        return dataset.coordinatesToFrameIndex(location.xy, location.z, location.time, layer.channel)
    except KeyError:
        raise explain(ValueError(f'The dataset has no image at {location}, channel {layer.channel + 1}'),
                      'Leave this position out of the batch, or hide the channel.') from None


def load_ahead(load: Callable[[Piece], Frame], pieces: Sequence[Piece], background: Executor) -> Iterator[Frame]:
    """The pieces in their order; while the caller works on one, the next is loaded, and no more.

    A piece that comes again is kept and not loaded twice, as long as all that is kept fits KEPT_BYTES. What `load`
    raises is raised when it is that frame's turn.

    Parameters
    ----------
    background : of one thread
    """
    needed = Counter(pieces)
    kept: dict[Piece, Frame] = {}

    def fetch(piece: Piece) -> Frame:
        frame = kept.pop(piece, None) or load(piece)
        needed[piece] -= 1
        if needed[piece] and frame.rgb.nbytes + sum(one.rgb.nbytes for one in kept.values()) <= KEPT_BYTES:
            kept[piece] = frame
        return frame

    coming = background.submit(fetch, pieces[0])
    for following in [*pieces[1:], None]:
        frame = coming.result()
        if following is not None:
            coming = background.submit(fetch, following)
        yield frame


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
