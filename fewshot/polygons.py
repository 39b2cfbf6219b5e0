"""Annotation ⇄ polygon ⇄ mask.

The only place that knows that the server's x runs along columns and y along rows, and that the centre of pixel
(row, column) lies at x = column + 0.5, y = row + 0.5.
"""
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from skimage import draw, measure

from fewshot.geometry import Box, CutMask, bound_mask
from fewshot.parameters import Location, Parameters

FARTHEST = 1e12  # pixels; coordinates beyond it are nonsense, and would overflow when multiplied
CHEAP = 10 ** 8  # pixels × corners that skimage tests in half a second
SLAB_PIXELS = 2 ** 20  # of a mask drawn at a time
SLAB_CROSSINGS = 2 ** 22  # of its rows with edges, at most


def annotation_to_mask(annotation: Mapping, image_shape: Sequence[int]) -> np.ndarray:
    """The pixels whose centres lie in the annotation's polygon.

    Where the outline crosses itself, a pixel lies inside if a ray from it crosses the outline an odd number of times.

    Parameters
    ----------
    annotation : as the server sends it, `coordinates` a list of {x, y}
    image_shape : (H, W, ...); what lies outside is cut off

    Returns
    -------
    (H, W) bool

    Raises ValueError, with the reason as a phrase, for coordinates that are none.
    """
    return draw_polygon(read_points(annotation), Box(0, 0, *image_shape[:2]))


def draw_polygon(points: np.ndarray, box: Box) -> np.ndarray:
    """The pixels of a box whose centres lie in a polygon by the even-odd rule: (box height, box width) bool.

    As `skimage.draw.polygon`, which tests each pixel with each corner; where that would take long, by scan lines, which
    may see a centre exactly on an edge otherwise.

    Parameters
    ----------
    points : (N, 2) float, x and y, finite and within FARTHEST, in the image of which the box is a part
    """
    height, width = box.bottom - box.top, box.right - box.left
    span = _bound_points(points, (box.bottom, box.right))
    if span and (span.bottom - span.top) * (span.right - span.left) * len(points) > CHEAP:
        return fill_polygon(points - (box.left, box.top), height, width)
    mask = np.zeros((height, width), bool)
    if len(points):
        rows, columns = draw.polygon(points[:, 1] - 0.5, points[:, 0] - 0.5, (box.bottom, box.right))
        inside = (rows >= box.top) & (columns >= box.left)
        mask[rows[inside] - box.top, columns[inside] - box.left] = True
    return mask


def fill_polygon(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels of an image whose centres lie in a polygon by the even-odd rule, or on its edge: (height, width) bool.

    Rows are taken a slab at a time, which bounds the memory beside the mask.

    Parameters
    ----------
    points : (N, 2) float, x and y, finite and within FARTHEST
    """
    mask = np.zeros((height, width), bool)
    start = points - 0.5  # pixel centres at whole numbers
    end = np.roll(start, -1, axis=0)
    if not len(points):
        return mask
    first, last = (np.floor(extreme(start[:, 1], end[:, 1])).clip(-1, height).astype(int) + 1
                   for extreme in (np.minimum, np.maximum))
    crossings = np.cumsum(np.bincount(first, minlength=height + 2) - np.bincount(last, minlength=height + 2))
    rows_at_once = max(1, min(SLAB_PIXELS // max(width, 1), SLAB_CROSSINGS // max(crossings.max(), 1)))
    lowest, highest = max(first.min() - 1, 0), min(last.max(), height)
    for top in range(lowest, highest, rows_at_once):
        slab = mask[top:min(top + rows_at_once, highest)]
        shifted = start - (0, top), end - (0, top)
        _turn_over(slab, *shifted, np.ceil)
        _turn_over(slab, *shifted, lambda values: np.floor(values) + 1)
    return mask


def _turn_over(mask: np.ndarray, start: np.ndarray, end: np.ndarray, follow: Callable) -> None:
    """Set the pixels of which the edges of a polygon, from start to end (N, 2), turn over an odd number.

    A scan line runs through the centres of each row, and each crossing with an edge turns over what lies to its right.
    So the cost is that of pixels and crossings, not of each pixel with each edge.

    Parameters
    ----------
    follow : gives for a coordinate the first pixel that lies behind it: with or without one whose centre it is
    """
    height, width = mask.shape
    top, bottom = (follow(extreme(start[:, 1], end[:, 1])).clip(0, height).astype(int)
                   for extreme in (np.minimum, np.maximum))
    count = bottom - top
    edge = np.repeat(np.arange(len(start)), count)
    row = np.arange(len(edge)) + np.repeat(top - (np.cumsum(count) - count), count)
    slope = np.divide(end[:, 0] - start[:, 0], end[:, 1] - start[:, 1], out=np.zeros(len(start)), where=count > 0)
    column = follow(start[edge, 0] + (row - start[edge, 1]) * slope[edge]).clip(0, width).astype(int)
    turns = np.bincount(row * (width + 1) + column, minlength=height * (width + 1))
    turned = (turns.reshape(height, width + 1)[:, :width] & 1).astype(bool)
    mask |= np.logical_xor.accumulate(turned, axis=1)


def read_points(annotation: Any) -> np.ndarray:
    """The annotation's points, (N, 2) float, x and y, finite and within FARTHEST.

    Raises ValueError, with the reason as a phrase, where it has none: any client may have stored it.
    """
    coordinates = annotation.get('coordinates') if isinstance(annotation, Mapping) else None
    if not isinstance(coordinates, list):
        raise ValueError('without coordinates')
    if not coordinates:
        return np.empty((0, 2))
    try:
        points = np.array([(point['x'], point['y']) for point in coordinates])
    except (KeyError, TypeError, ValueError, IndexError, RecursionError):
        raise ValueError('coordinates that are not numbers') from None
    # text and None would become numbers if numpy were told to make them floats
    if points.dtype.kind not in 'iuf' or points.shape[1:] != (2,) or not np.isfinite(points).all():
        raise ValueError('coordinates that are not numbers')
    points = points.astype(float)
    if (np.abs(points) > FARTHEST).any():
        raise ValueError('coordinates beyond any image')
    return points


def bound_annotation(annotation: Mapping, image_shape: Sequence[int]) -> Box | None:
    """The smallest box of pixels around an annotation's points, cut to the image (H, W, ...); None where it is empty.

    Raises ValueError as `read_points`.
    """
    return _bound_points(read_points(annotation), image_shape)


def _bound_points(points: np.ndarray, image_shape: Sequence[int]) -> Box | None:
    if not len(points):
        return None
    height, width = image_shape[:2]
    left, top = np.floor(points.min(axis=0)).clip(0, (width, height)).astype(int).tolist()
    right, bottom = np.ceil(points.max(axis=0)).clip(0, (width, height)).astype(int).tolist()
    return Box(top, left, bottom, right) if top < bottom and left < right else None


def cut_annotation(annotation: Mapping, image_shape: Sequence[int], origin: Box | None = None) -> CutMask:
    """The object under an annotation. No more than the part of the frame that it spans is drawn.

    Parameters
    ----------
    image_shape : (H, W, ...) of the frame, or of the tile `origin` of it; boxes count from its corner

    Raises ValueError, with the reason as a phrase, where there is nothing to cut.
    """
    points = read_points(annotation)
    if len(points) < 3:
        raise ValueError('fewer than 3 points')
    if origin:
        points = points - (origin.left, origin.top)
    if span := _bound_points(points, image_shape):
        mask = draw_polygon(points, span)
        if box := bound_mask(mask):
            return CutMask(box.shift(span.top, span.left), mask[box.slices].copy())
    outside = (points.max(0) <= 0).any() or (points.min(0) >= (image_shape[1], image_shape[0])).any()
    raise ValueError('outside the image' if outside else 'too thin to cover a pixel')


def location_of(annotation: Any) -> Location:
    """Where an annotation lies. Raises ValueError, with the reason as a phrase, where it does not say."""
    location = annotation.get('location') if isinstance(annotation, Mapping) else None
    indices = [location.get(axis) for axis in ('XY', 'Z', 'Time')] if isinstance(location, Mapping) else [None]
    if not all(type(index) is int for index in indices):  # True is an int, too
        raise ValueError('without a location')
    return Location(*indices)


def trace_mask(box: Box, mask: np.ndarray, smoothing: float) -> np.ndarray:
    """The outline of the largest component of a mask as a polygon in the server's coordinates.

    The contour at half height (marching squares) runs between the pixels, along the image's border where the object
    touches it. It is simplified as by Douglas and Peucker, its topology kept.

    Parameters
    ----------
    box : where the mask lies in its frame
    mask : (box height, box width) bool, not empty
    smoothing : largest distance in pixels between the outline and its simplification

    Returns
    -------
    (N, 2) float, x and y; N >= 3, the first point not repeated; a valid polygon of positive area, inside the image
    """
    components = measure.label(mask, connectivity=1)
    largest = components == np.bincount(components.ravel())[1:].argmax() + 1
    # the padding closes the contour of what touches the mask's edge
    contours = measure.find_contours(np.pad(largest, 1).astype(np.float32), 0.5)
    outlines = [shapely.Polygon(contour[:, ::-1] - 0.5 + (box.left, box.top)) for contour in contours]
    outline = max(outlines, key=lambda polygon: polygon.area)  # the others are holes
    simplified = outline.simplify(smoothing, preserve_topology=True)
    if not simplified.is_valid or not simplified.area > 0:
        simplified = outline
    return shapely.get_coordinates(simplified)[:-1]


def make_annotation(polygon: np.ndarray, location: Location, parameters: Parameters, datasetId: str) -> dict[str, Any]:
    """The record that the server stores for a polygon ((N, 2), x and y) at a location."""
    return {
        'coordinates': [{'x': float(x), 'y': float(y)} for x, y in polygon],
        'tags': list(parameters.tags),
        'channel': parameters.channel,
        'location': {'XY': location.xy, 'Z': location.z, 'Time': location.time},
        'shape': 'polygon',
        'datasetId': datasetId,
    }
