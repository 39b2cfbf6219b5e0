"""Convert between annotations, polygons and masks.

No other module knows that the server's x runs along columns and y along rows, and that the centre
of the pixel (row, column) is at x = column + 0.5, y = row + 0.5.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import shapely
from skimage import measure

from fewshot.errors import UnusablePolygonError
from fewshot.geometry import Box, CutMask, Location, bound_mask

MAX_COORDINATE = 1e12  # pixels; products of larger ones would overflow
MAX_PIXEL_CORNERS = 3 * 10**9  # pixels times corners; drawn in about 5 seconds on one core


# From annotations to masks


def annotation_to_mask(annotation: Mapping, image_shape: Sequence[int]) -> np.ndarray:
    """Return the pixels whose centres are in the polygon of an annotation.

    Where the outline crosses itself, a pixel is inside if a ray from its centre crosses the
    outline an odd number of times.

    Parameters
    ----------
    annotation : dict
        As the server sends it, with `coordinates` as a list of {x, y}.
    image_shape : (H, W, ...)
        The parts of the polygon outside the image are cut off.

    Returns
    -------
    (H, W) bool ndarray

    Raises
    ------
    UnusablePolygonError
        The coordinates cannot be used, or the polygon would take too long to draw.

    Examples
    --------
    >>> corners = [{'x': 1, 'y': 0}, {'x': 3, 'y': 0}, {'x': 3, 'y': 1}, {'x': 1, 'y': 1}]
    >>> annotation_to_mask({'coordinates': corners}, (2, 4)).astype(int)
    array([[0, 1, 1, 0],
           [0, 0, 0, 0]])
    """
    points = read_points(annotation)
    mask = np.zeros(image_shape[:2], bool)
    span = bound_points(points, image_shape)
    if span:
        mask[span.slices] = draw_polygon(points, span)
    return mask


def cut_annotation(
    annotation: Mapping, image_shape: Sequence[int], origin: Box | None = None
) -> CutMask:
    """Return the object that an annotation outlines. Only the box around its points is drawn.

    Parameters
    ----------
    annotation : dict
        As the server sends it.
    image_shape : (H, W, ...)
        The frame, or the tile.
    origin : Box or None
        The tile in the frame. The box of the object counts from the tile's corner.

    Returns
    -------
    CutMask

    Raises
    ------
    UnusablePolygonError
        The polygon does not cover a pixel of the image, or cannot be drawn.
    """
    points = read_points(annotation)
    if len(points) < 3:
        raise UnusablePolygonError('fewer than 3 points')
    if origin:
        points = points - (origin.left, origin.top)

    span = bound_points(points, image_shape)
    if span:
        mask = draw_polygon(points, span)
        box = bound_mask(mask)
        if box:
            # The copy does not hold the memory of the span.
            return CutMask(box.shift(span.top, span.left), mask[box.slices].copy())

    height, width = image_shape[:2]
    is_before = (points.max(axis=0) <= 0).any()
    is_behind = (points.min(axis=0) >= (width, height)).any()
    is_outside = is_before or is_behind
    raise UnusablePolygonError('outside the image' if is_outside else 'too thin to cover a pixel')


def draw_polygon(points: np.ndarray, box: Box) -> np.ndarray:
    """Return the pixels of a box whose centres are in a polygon, by the even-odd rule.

    The result is that of `skimage.draw.polygon`, which needs 76 times the memory.

    Parameters
    ----------
    points : (N, 2) float ndarray
        x and y in the image that the box is a part of.
    box : Box

    Returns
    -------
    (box height, box width) bool ndarray

    Raises
    ------
    UnusablePolygonError
        Drawing would take more than about 5 seconds.
    """
    pixels = box.height * box.width
    if pixels * len(points) > MAX_PIXEL_CORNERS:
        raise UnusablePolygonError(
            f'too detailed to draw ({pixels:,} pixels, {len(points):,} corners)'
        )
    corners = points - (box.left, box.top) - 0.5  # pixel centres at whole numbers
    # Both axes are swapped, so that centres on an edge count as in `skimage.draw.polygon`.
    columns_first = measure.grid_points_in_poly((box.width, box.height), corners)
    return np.ascontiguousarray(columns_first.T)


# The content of an annotation


def read_points(annotation: Any) -> np.ndarray:
    """Return the points of an annotation.

    Parameters
    ----------
    annotation : dict
        As the server sends it. Any client may have stored it, so it can be anything.

    Returns
    -------
    (N, 2) float ndarray
        x and y, finite and at most MAX_COORDINATE. N can be 0.

    Raises
    ------
    UnusablePolygonError
        The annotation has no list of coordinates, or they are not usable numbers.
    """
    coordinates = annotation.get('coordinates') if isinstance(annotation, Mapping) else None
    if not isinstance(coordinates, list):
        raise UnusablePolygonError('without coordinates')
    if not coordinates:
        return np.empty((0, 2))
    try:
        points = np.array([(point['x'], point['y']) for point in coordinates])
    except (KeyError, TypeError, ValueError, IndexError, RecursionError):
        raise UnusablePolygonError('coordinates that are not numbers') from None
    # The type is checked first, because numpy would convert text and None to floats.
    has_numbers = points.dtype.kind in 'iuf' and points.shape[1:] == (2,)
    if not has_numbers or not np.isfinite(points).all():
        raise UnusablePolygonError('coordinates that are not numbers')
    points = points.astype(float)
    if (np.abs(points) > MAX_COORDINATE).any():
        raise UnusablePolygonError('coordinates beyond any image')
    return points


def location_of(annotation: Any) -> Location:
    """Return the location of an annotation.

    Parameters
    ----------
    annotation : dict
        As the server sends it.

    Raises
    ------
    UnusablePolygonError
        The annotation has no location of three whole numbers.

    Examples
    --------
    >>> location_of({'location': {'XY': 0, 'Z': 4, 'Time': 2}})
    Location(xy=0, z=4, time=2)
    """
    location = annotation.get('location') if isinstance(annotation, Mapping) else None
    if not isinstance(location, Mapping):
        raise UnusablePolygonError('without a location')
    indices: list[Any] = [location.get(axis) for axis in ('XY', 'Z', 'Time')]
    if not all(type(index) is int for index in indices):  # True is an int, too
        raise UnusablePolygonError('without a location')
    return Location(*indices)


def bound_annotation(annotation: Mapping, image_shape: Sequence[int]) -> Box | None:
    """Return the smallest box of pixels around the points of an annotation, cut to the image.

    Parameters
    ----------
    annotation : dict
        As the server sends it.
    image_shape : (H, W, ...)

    Returns
    -------
    Box or None
        None if the box is empty.

    Raises
    ------
    UnusablePolygonError
        The coordinates cannot be used.
    """
    return bound_points(read_points(annotation), image_shape)


def bound_points(points: np.ndarray, image_shape: Sequence[int]) -> Box | None:
    """Return the smallest box of pixels around points, cut to the image.

    Parameters
    ----------
    points : (N, 2) float ndarray
        x and y.
    image_shape : (H, W, ...)

    Returns
    -------
    Box or None
        None if the box is empty.

    Examples
    --------
    >>> bound_points(np.array([[-3, 1.5], [4.2, 2.5]]), image_shape=(30, 40))
    Box(top=1, left=0, bottom=3, right=5)
    """
    if not len(points):
        return None
    height, width = image_shape[:2]
    first, last = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    left, top = first.clip(0, (width, height)).astype(int).tolist()
    right, bottom = last.clip(0, (width, height)).astype(int).tolist()
    if top >= bottom or left >= right:
        return None
    return Box(top, left, bottom, right)


# From masks to annotations


def trace_mask(box: Box, mask: np.ndarray, smoothing: float) -> np.ndarray:
    """Return the outline of the largest component of a mask.

    The contour at half height (marching squares) runs between the pixels, and along the border of
    the image if the object touches it. It is simplified (Douglas-Peucker) and keeps its topology.

    Parameters
    ----------
    box : Box
        The place of the mask in its frame.
    mask : (box height, box width) bool ndarray
        Not empty.
    smoothing : float
        Largest distance between the contour and the outline, pixels.

    Returns
    -------
    (N, 2) float ndarray
        x and y of three or more corners; the first is not repeated. The polygon is valid, has a
        positive area and is inside the image.

    Examples
    --------
    >>> trace_mask(Box(10, 20, 11, 21), np.array([[True]]), smoothing=0).tolist()
    [[20.5, 11.0], [20.0, 10.5], [20.5, 10.0], [21.0, 10.5]]
    """
    # The function of scikit-image does the same, but its imports take longer than most later runs
    _, components, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    sizes = statistics[:, cv2.CC_STAT_AREA]
    largest = components == 1 + sizes[1:].argmax()  # component 0 is the background

    # The padding closes the contour of a component that touches the edge of the mask.
    contours = measure.find_contours(np.pad(largest, 1).astype(np.float32), 0.5)
    outlines = []
    for contour in contours:
        # The padding moved the pixels by 1, and their centres are at 0.5.
        points = contour[:, ::-1] - 0.5 + (box.left, box.top)
        outlines.append(shapely.Polygon(points))
    outline = max(outlines, key=lambda polygon: polygon.area)  # the others are holes

    simplified = outline.simplify(smoothing, preserve_topology=True)
    if not simplified.is_valid or not simplified.area > 0:
        simplified = outline
    return shapely.get_coordinates(simplified)[:-1]


def make_annotation(
    polygon: np.ndarray, location: Location, tags: Sequence[str], channel: int, dataset_id: str
) -> dict[str, Any]:
    """Return the record that the server stores for a polygon.

    Parameters
    ----------
    polygon : (N, 2) float ndarray
        x and y of its corners.
    location : Location
    tags : sequence of str
    channel : int
    dataset_id : str

    Returns
    -------
    dict
    """
    return {
        'coordinates': [{'x': float(x), 'y': float(y)} for x, y in polygon],
        'tags': list(tags),
        'channel': channel,
        'location': {'XY': location.xy, 'Z': location.z, 'Time': location.time},
        'shape': 'polygon',
        'datasetId': dataset_id,
    }
