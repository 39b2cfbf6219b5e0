"""Annotation ⇄ polygon ⇄ mask.

The only place that knows that the server's x runs along columns and y along rows, and that the centre of pixel
(row, column) lies at x = column + 0.5, y = row + 0.5.
"""
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from skimage import draw, measure

from fewshot.crops import Box, CutMask, bound_mask
from fewshot.parameters import Location, Parameters


def annotation_to_mask(annotation: Mapping, image_shape: Sequence[int]) -> np.ndarray:
    """The pixels whose centres lie in the annotation's polygon.

    Parameters
    ----------
    annotation : as the server sends it, `coordinates` a list of {x, y}
    image_shape : (H, W, ...); what lies outside is cut off

    Returns
    -------
    (H, W) bool
    """
    corners = np.array([(point['y'], point['x']) for point in annotation['coordinates']], float).reshape(-1, 2) - 0.5
    mask = np.zeros(tuple(image_shape[:2]), bool)
    mask[draw.polygon(corners[:, 0], corners[:, 1], mask.shape)] = True
    return mask


def bound_annotation(annotation: Mapping) -> Box | None:
    """The smallest box of pixels around an annotation's points, in the frame; None where they are no numbers."""
    points = read_points(annotation)
    if not len(points) or not np.isfinite(points).all():
        return None
    left, top = np.floor(points.min(axis=0)).astype(int).tolist()
    right, bottom = np.ceil(points.max(axis=0)).astype(int).tolist()
    return Box(top, left, bottom, right)


def read_points(annotation: Mapping) -> np.ndarray:
    """The annotation's points, (N, 2) float, x and y, as they are."""
    return np.array([(point.get('x'), point.get('y')) for point in annotation['coordinates']], float).reshape(-1, 2)


def cut_annotation(annotation: Mapping, image_shape: Sequence[int], origin: Box | None = None) -> CutMask:
    """The object under an annotation.

    Parameters
    ----------
    image_shape : (H, W, ...) of the frame, or of the tile `origin` of it; boxes count from its corner

    Raises ValueError, with the reason as a phrase, where there is nothing to cut.
    """
    points = read_points(annotation)
    if len(points) < 3:
        raise ValueError('fewer than 3 points')
    if not np.isfinite(points).all():
        raise ValueError('coordinates that are not numbers')
    if origin:
        points = points - (origin.left, origin.top)
    mask = annotation_to_mask({'coordinates': [{'x': x, 'y': y} for x, y in points]}, image_shape)
    box = bound_mask(mask)
    if box is not None:
        return CutMask(box, mask[box.slices].copy())
    outside = (points.max(0) <= 0).any() or (points.min(0) >= (image_shape[1], image_shape[0])).any()
    raise ValueError('outside the image' if outside else 'too thin to cover a pixel')


def location_of(annotation: Mapping) -> Location:
    """Where an annotation lies."""
    location = annotation['location']
    return Location(location['XY'], location['Z'], location['Time'])


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
