"""The layers of a dataset: which channels are shown, in which colour and with which contrast."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fewshot import messages
from fewshot.messages import Message
from fewshot.settings import show

if TYPE_CHECKING:
    from fewshot.server import Server

DEFAULT_PERCENTILES = 0.1, 99.9  # black and white of a channel without a layer
MAX_INTENSITY = 1e38  # the largest number of a float32 is a little above
SLAB_PIXELS = 2**20  # coloured at a time


@dataclass(frozen=True)
class Layer:
    """How one channel is shown.

    Attributes
    ----------
    channel : int
        Index of the channel.
    color : tuple of float
        Red, green and blue, 0 to 1.
    is_percentile : bool
        Whether `black` and `white` are percentiles of each frame. Else they are intensities.
    black, white : float
        The values that are shown without light and in full colour.
    """

    channel: int
    color: tuple[float, float, float]
    is_percentile: bool
    black: float
    white: float


# The layers that the user sees


def choose_layers(server: Server, channels: int) -> tuple[list[Layer], Message | None]:
    """Return the visible layers of a dataset, as its last used view shows them.

    Parameters
    ----------
    server : Server
    channels : int
        Number of channels of the dataset.

    Returns
    -------
    layers : list of Layer
        One or more.
    problem : Message or None
        A warning if there is nothing to go by. Each channel is then shown in its own colour.

    Raises
    ------
    JobError
        The view, the configuration or a visible layer cannot be read.
    """
    views = server.list_views()
    if not views:
        return make_default_layers(channels), messages.NO_VIEW
    if not _are_records(views):
        raise messages.VIEW_UNREADABLE.error(seen=show(views))
    view = max(views, key=_last_viewed)
    contrasts = view.get('layerContrasts') or {}
    configuration_id = view.get('configurationId')
    if not isinstance(contrasts, Mapping) or not isinstance(configuration_id, str):
        raise messages.VIEW_UNREADABLE.error(seen=show(view))

    layers = []
    for record in _list_layer_records(server.read_configuration(configuration_id)):
        if record.get('visible') and _may_be_shown(record, channels):
            contrast = contrasts.get(str(record.get('id'))) or record.get('contrast')
            layers.append(read_layer(record, contrast))
    if not layers:
        return make_default_layers(channels), messages.NO_VISIBLE_LAYER
    return layers, None


def make_default_layers(channels: int) -> list[Layer]:
    """Return a layer per channel, in hues that are evenly spread. A single channel is white.

    Parameters
    ----------
    channels : int

    Returns
    -------
    list of Layer
    """
    black, white = DEFAULT_PERCENTILES
    if channels == 1:
        return [Layer(0, (1, 1, 1), True, black, white)]
    colors = [colorsys.hsv_to_rgb(channel / channels, 1, 1) for channel in range(channels)]
    return [Layer(channel, color, True, black, white) for channel, color in enumerate(colors)]


def read_layer(record: Mapping, contrast: Any) -> Layer:
    """Return the layer that a record of the server describes.

    Parameters
    ----------
    record : dict
        A layer of a configuration.
    contrast : dict
        The contrast of the view, or of the layer itself.

    Raises
    ------
    JobError
        The channel, the colour or the contrast cannot be read.
    """
    try:
        channel = record.get('channel')
        if type(channel) is not int:  # True is an int, too
            raise ValueError(f'{show(channel)} is not a channel')
        color = _read_color(record.get('color'))
        is_percentile, black, white = _read_contrast(contrast)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        name = show(record.get('name'))
        raise messages.LAYER_UNREADABLE.error(layer=name, problem=error) from error
    return Layer(channel, color, is_percentile, black, white)


def _read_color(value: Any) -> tuple[float, float, float]:
    digits = str(value).lstrip('#')
    if len(digits) != 6:
        raise ValueError(f'{show(value)} is not a colour')
    red, green, blue = bytes.fromhex(digits)
    return red / 255, green / 255, blue / 255


def _read_contrast(contrast: Any) -> tuple[bool, float, float]:
    """Return whether the contrast is in percentiles, the black point and the white point."""
    modes = 'percentile', 'absolute'
    if not isinstance(contrast, Mapping) or contrast.get('mode') not in modes:
        raise ValueError(f'{show(contrast)} is not a contrast')
    is_percentile = contrast['mode'] == 'percentile'
    black, white = float(contrast['blackPoint']), float(contrast['whitePoint'])
    low, high = (0, 100) if is_percentile else (-MAX_INTENSITY, MAX_INTENSITY)
    if not (low <= black <= high and low <= white <= high):  # NaN is outside, too
        raise ValueError(f'black point {black} and white point {white} are not a contrast')
    return is_percentile, black, white


def _list_layer_records(configuration: Any) -> list[Mapping]:
    meta = configuration.get('meta') or {} if isinstance(configuration, Mapping) else None
    records = meta.get('layers') or [] if isinstance(meta, Mapping) else None
    if not _are_records(records):
        raise messages.VIEW_UNREADABLE.error(seen=show(configuration))
    assert isinstance(records, list)
    return records


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, Mapping) for one in value)


def _last_viewed(view: Mapping) -> float:
    seen: Any = view.get('lastViewed')
    is_number = isinstance(seen, int | float) and seen == seen  # NaN differs from itself
    return seen if is_number else 0


def _may_be_shown(record: Mapping, channels: int) -> bool:
    """Return whether the dataset has the layer's channel. `read_layer` refuses a damaged one."""
    channel = record.get('channel', -1)
    return type(channel) is not int or 0 <= channel < channels


# From intensities to colours


def merge_channel(
    rgb: np.ndarray, image: np.ndarray, layer: Layer, slab_pixels: int = SLAB_PIXELS
) -> None:
    """Draw a channel into an RGB image. The brighter of the old and the new value stays.

    Parameters
    ----------
    rgb : (H, W, 3) uint8 ndarray
        Changed in place.
    image : (H, W) or (H, W, bands) ndarray of any number type
        The channel, as for `stretch`.
    layer : Layer
    slab_pixels : int
        Pixels that are coloured at a time. The steps need many times the memory of the result.
    """
    image = np.atleast_3d(image)
    layer = fix_contrast(image, layer)
    color = np.array(layer.color, np.float32)
    rows_at_once = max(1, slab_pixels // image.shape[1])
    for top in range(0, len(image), rows_at_once):
        rows = slice(top, top + rows_at_once)
        brightness = stretch(image[rows], layer.black, layer.white)
        np.maximum(rgb[rows], ensure_rgb(brightness * color), out=rgb[rows])


def fix_contrast(image: np.ndarray, layer: Layer) -> Layer:
    """Return the layer with intensities as black and white point.

    Parameters
    ----------
    image : (H, W) or (H, W, bands) ndarray
        Percentiles are those of its finite pixels. A fourth band is ignored.
    layer : Layer

    Returns
    -------
    Layer
        The same layer if its contrast is in intensities.
    """
    if not layer.is_percentile:
        return layer
    bands = image[..., :3] if image.ndim == 3 else image
    values = bands[np.isfinite(bands)]
    black, white = np.percentile(values, [layer.black, layer.white]) if values.size else (0, 0)
    return replace(layer, is_percentile=False, black=float(black), white=float(white))


def stretch(image: np.ndarray, black: float, white: float) -> np.ndarray:
    """Map intensities to brightness: black to 0, white to 1, and clip.

    Parameters
    ----------
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray of any number type
        A fourth band is ignored.
    black, white : float
        Intensities. If they are equal, every pixel above them is 1.

    Returns
    -------
    (H, W, 1) or (H, W, 3) float32 ndarray
        Pixels that are not finite are 0.

    Examples
    --------
    >>> stretch(np.array([[100, 150, 300]]), black=100, white=200).ravel().tolist()
    [0.0, 0.5, 1.0]
    """
    image = np.atleast_3d(image)
    bands = 3 if image.shape[-1] in (3, 4) else 1
    image = image[..., :bands]
    finite = np.isfinite(image)
    values = np.where(finite, image, black).astype(np.float32)
    low, high = np.array([black, white], np.float32)
    if low == high:
        return (values > low).astype(np.float32)
    with np.errstate(over='ignore'):  # far above a narrow contrast is white
        return np.clip((values - low) / (high - low), 0, 1) * finite


def ensure_rgb(image: np.ndarray) -> np.ndarray:
    """Convert an image to RGB bytes.

    Parameters
    ----------
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray of uint8, uint16 or a float type
        uint8 stays. uint16 is divided by 256. Floats from 0 to 1 are multiplied by 255, other
        floats are clipped to 0 to 255. Pixels that are not finite become 0. One band becomes
        three. A fourth band is ignored.

    Returns
    -------
    (H, W, 3) uint8 ndarray

    Raises
    ------
    ValueError
        The shape or the type is another one.

    Examples
    --------
    >>> ensure_rgb(np.array([[0.0, 0.2, 1.0]]))[..., 0].tolist()
    [[0, 51, 255]]
    """
    image = np.asarray(image)
    bands = image.shape[2] if image.ndim == 3 else 1
    is_float = np.issubdtype(image.dtype, np.floating)
    has_shape = image.ndim in (2, 3) and bands in (1, 3, 4) and image.size > 0
    has_type = is_float or image.dtype in (np.uint8, np.uint16)
    if not has_shape or not has_type:
        raise ValueError(
            f'This is not an image: shape {image.shape}, {image.dtype}. Expected is (H, W) or '
            '1, 3 or 4 bands of uint8, uint16 or float.'
        )
    image = np.atleast_3d(image)[..., :3]
    if image.dtype == np.uint16:
        image = (image // 256).astype(np.uint8)
    elif is_float:
        image = np.where(np.isfinite(image), image, 0)
        scale = 255 if image.min() >= 0 and image.max() <= 1 else 1
        image = np.rint(np.clip(image * scale, 0, 255)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))
