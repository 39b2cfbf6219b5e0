import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage import draw

from fewshot.errors import UnusablePolygonError
from fewshot.geometry import Box, Location, bound_mask
from fewshot.polygons import (
    MAX_COORDINATE,
    annotation_to_mask,
    bound_annotation,
    cut_annotation,
    draw_polygon,
    location_of,
    make_annotation,
    read_points,
    trace_mask,
)
from tests.fewshot.anything import GOOD, annotations


def annotate(points) -> dict:
    return {'coordinates': [{'x': x, 'y': y} for x, y in points]}


def trace(mask: np.ndarray, smoothing: float) -> np.ndarray:
    box = bound_mask(mask)
    assert box is not None
    return trace_mask(box, mask[box.slices], smoothing)


def draw_with_skimage(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[draw.polygon(points[:, 1] - 0.5, points[:, 0] - 0.5, shape)] = True
    return mask


# From annotations to masks

any_corners = st.lists(st.tuples(st.floats(-10, 30), st.floats(-10, 30)), min_size=1, max_size=12)
# Halves are exact, and often put the centre of a pixel on an edge.
halves = st.integers(-20, 60).map(lambda number: number / 2)
corners_on_halves = st.lists(st.tuples(halves, halves), min_size=1, max_size=12)


@given(any_corners | corners_on_halves)
@settings(max_examples=300)
def test_polygon_is_drawn_as_by_skimage(corners):
    points = np.array(corners, float)
    expected = draw_with_skimage(points, (15, 20))
    np.testing.assert_array_equal(draw_polygon(points, Box(0, 0, 15, 20)), expected)


@given(corners_on_halves, st.integers(0, 14), st.integers(0, 19), st.integers(1, 9))
@settings(max_examples=300)
def test_part_of_an_image_is_drawn_the_same(corners, top, left, side):
    points = np.array(corners)
    box = Box(top, left, min(top + side, 15), min(left + side, 20))
    expected = draw_with_skimage(points, (15, 20))
    np.testing.assert_array_equal(draw_polygon(points, box), expected[box.slices])
    np.testing.assert_array_equal(annotation_to_mask(annotate(corners), (15, 20, 3)), expected)


@pytest.mark.parametrize(
    ('points', 'pixels'),
    [
        # x runs along columns, and the centre of a pixel is at its half.
        ([(3.4, 1.4), (3.6, 1.4), (3.6, 1.6), (3.4, 1.6)], [(1, 3)]),
        # A rectangle along the edges of pixels covers exactly these pixels.
        ([(2, 1), (5, 1), (5, 3), (2, 3)], [(1, 2), (1, 3), (1, 4), (2, 2), (2, 3), (2, 4)]),
        ([(5, 3), (7, 3), (7, 9), (5, 9)], [(3, 5)]),  # the image ends there
        ([(9, 9), (19, 9), (19, 19), (9, 19)], []),
        ([], []),
    ],
)
def test_pixels_of_an_annotation(points, pixels):
    mask = annotation_to_mask(annotate(points), (4, 6, 3))
    assert mask.shape == (4, 6)
    assert [tuple(pixel) for pixel in np.argwhere(mask)] == pixels


@pytest.mark.parametrize('far', [20, 1e9, 1e11, 1e12])
def test_outline_around_the_image_covers_it(far):
    corners = [(-far, -far), (far, -far), (far, far), (-far, far)]
    box, mask = cut_annotation(annotate(corners), (15, 20))
    assert box == Box(0, 0, 15, 20)
    assert mask.all()


def test_parts_outside_the_image_are_cut_off():
    corners = [(-5, -5), (4, -5), (4, 3), (-5, 3)]
    box, mask = cut_annotation(annotate(corners), (10, 10))
    assert box == Box(0, 0, 3, 4)
    assert mask.all()


def test_box_counts_from_the_corner_of_the_tile():
    box, mask = cut_annotation(GOOD, (10, 10), origin=Box(4, 2, 14, 12))
    assert box == Box(0, 0, 5, 7)
    assert mask.all()


def test_crossing_outline_covers_its_lobes():
    _, mask = cut_annotation(annotate([(0, 0), (10, 10), (10, 0), (0, 10)]), (10, 10))
    inside, outside = [(5, 1), (5, 8)], [(1, 5), (8, 5)]
    assert all(mask[pixel] for pixel in inside)
    assert not any(mask[pixel] for pixel in outside)


def test_only_the_box_of_an_object_is_drawn():
    box, mask = cut_annotation(GOOD, (10**7, 10**7))  # the whole frame does not fit the memory
    assert box == Box(1, 1, 9, 9)
    assert mask.all()
    assert mask.base is None


@pytest.mark.parametrize(
    ('points', 'reason'),
    [
        ([], 'fewer than 3 points'),
        ([(1, 1), (5, 5)], 'fewer than 3 points'),
        ([(20, 20), (30, 20), (30, 30)], 'outside the image'),
        ([(-9, 1), (-2, 1), (-2, 5)], 'outside the image'),
        ([(1e9, 1e9), (2e9, 1e9), (2e9, 2e9)], 'outside the image'),
        ([(5, 5)] * 4, 'too thin to cover a pixel'),
        ([(1, 1), (1.1, 1), (1.1, 1.1)], 'too thin to cover a pixel'),
        ([(1, 1), (5, 5), (1, 1)], 'too thin to cover a pixel'),
    ],
)
def test_polygon_without_a_pixel_is_refused(points, reason):
    with pytest.raises(UnusablePolygonError, match=f'^{reason}$'):
        cut_annotation(annotate(points), (10, 10, 3))


def star(side: int, corners: int) -> np.ndarray:
    """Return a polygon with a rough outline that fills a square from 0 to `side`."""
    angles = np.linspace(0, 2 * math.pi, corners, endpoint=False)
    radii = side / 2 * np.random.default_rng(0).uniform(0.8, 1, corners)
    return side / 2 + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_large_outline_is_drawn():
    polygon = star(2000, 300)
    mask = draw_polygon(polygon, Box(0, 0, 2000, 2000))
    assert mask.sum() == pytest.approx(shapely.Polygon(polygon).area, rel=1e-3)


@pytest.mark.parametrize(('side', 'corners'), [(2000, 20_000), (10**6, 4)])
def test_polygon_that_takes_long_to_draw_is_refused(side, corners):
    with pytest.raises(UnusablePolygonError, match=f'too detailed to draw .* {corners:,} corners'):
        cut_annotation(annotate(star(side, corners)), (side, side))


# What an annotation says


@pytest.mark.parametrize(
    ('coordinates', 'reason'),
    [
        (None, 'without coordinates'),
        ({'x': 1, 'y': 2}, 'without coordinates'),
        ('abc', 'without coordinates'),
        ([{'x': 1}] * 4, 'coordinates that are not numbers'),
        ([{'x': '1', 'y': '2'}] * 4, 'coordinates that are not numbers'),
        ([{'x': None, 'y': 2}] * 4, 'coordinates that are not numbers'),
        ([{'x': math.nan, 'y': 2}] * 4, 'coordinates that are not numbers'),
        ([{'x': math.inf, 'y': 2}] * 4, 'coordinates that are not numbers'),
        ([{'x': [1], 'y': [2]}] * 4, 'coordinates that are not numbers'),
        ([{'x': True, 'y': False}] * 4, 'coordinates that are not numbers'),
        ([[1, 2], [3, 4], [5, 6]], 'coordinates that are not numbers'),
        ([{'x': 1e308, 'y': 2}] * 4, 'coordinates beyond any image'),
    ],
)
def test_bad_coordinates_are_refused(coordinates, reason):
    with pytest.raises(UnusablePolygonError, match=f'^{reason}$'):
        read_points({'coordinates': coordinates})


@pytest.mark.parametrize(
    'location',
    [
        None,
        {'XY': 0, 'Z': 0},
        {'XY': 0.0, 'Z': 0, 'Time': 0},
        {'XY': '0', 'Z': 0, 'Time': 0},
        {'XY': False, 'Z': 0, 'Time': 0},
    ],
)
def test_bad_location_is_refused(location):
    with pytest.raises(UnusablePolygonError, match=r'^without a location$'):
        location_of({'location': location})


@given(annotations)
@settings(max_examples=300)
def test_any_annotation_is_read_or_refused(annotation):
    try:
        location = location_of(annotation)
    except UnusablePolygonError as refused:
        reason = str(refused)
        assert reason == 'without a location'
    else:
        assert {type(location.xy), type(location.z), type(location.time)} == {int}
    try:
        box = bound_annotation(annotation, (30, 40))
    except UnusablePolygonError as refused:
        reason = str(refused)
        assert reason
    else:
        assert box is None or (0 <= box.top < box.bottom <= 30 and 0 <= box.left < box.right <= 40)


# From masks to annotations


@pytest.mark.parametrize('smoothing', [0, 0.3, 1])
@pytest.mark.parametrize('side', [1, 2, 3, 4, 5, 8, 13, 40])
@pytest.mark.parametrize('corner', ['top left', 'middle', 'bottom right'])
def test_square_survives_tracing_and_drawing(side, corner, smoothing):
    start = {'top left': 0, 'middle': 9, 'bottom right': 60 - side}[corner]
    mask = np.zeros((60, 60), bool)
    mask[start : start + side, start : start + side] = True
    outline = annotate(trace(mask, smoothing))
    np.testing.assert_array_equal(annotation_to_mask(outline, mask.shape), mask)


masks = arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))).filter(np.any)


@given(masks, st.floats(0, 3))
@settings(max_examples=200)
def test_outline_is_a_valid_polygon_in_the_image(mask, smoothing):
    outline = trace(mask, smoothing)
    assert len(outline) >= 3
    assert (outline >= 0).all()
    assert (outline <= (mask.shape[1], mask.shape[0])).all()
    assert (outline[0] != outline[-1]).any()
    polygon = shapely.Polygon(outline)
    assert polygon.is_valid
    assert polygon.area > 0


@given(masks)
@settings(max_examples=200)
def test_outline_is_of_the_largest_component_without_holes(mask):
    components, _ = ndimage.label(mask)
    sizes = np.bincount(components.ravel())[1:]
    largest = ndimage.binary_fill_holes(components == sizes.argmax() + 1, np.ones((3, 3)))
    outline = annotate(trace(mask, 0))
    np.testing.assert_array_equal(annotation_to_mask(outline, mask.shape), largest)


def test_object_at_the_border_is_closed_along_it():
    mask = np.zeros((20, 20), bool)
    mask[:8, 5:15] = True
    outline = trace(mask, 0.3)
    assert outline[:, 1].min() == 0
    assert shapely.Polygon(outline).area == pytest.approx(80, abs=0.6)


def test_full_mask_is_outlined_by_the_border():
    polygon = shapely.Polygon(trace(np.ones((7, 9), bool), 0))
    assert polygon.bounds == (0, 0, 9, 7)
    assert polygon.area == pytest.approx(63 - 0.5)  # the corners are cut


def test_smoothing_moves_the_outline_by_its_tolerance():
    rows, columns = np.mgrid[:61, :61] - 30
    disc = np.hypot(rows, columns) < 25
    exact, smooth = shapely.Polygon(trace(disc, 0)), shapely.Polygon(trace(disc, 1.5))
    assert len(smooth.exterior.coords) < len(exact.exterior.coords) / 2
    assert shapely.hausdorff_distance(exact.exterior, smooth.exterior) <= 1.5


def test_record_of_an_annotation():
    outline = np.array([[0.5, 1], [2, 1], [2, 3]], np.float32)
    made = make_annotation(outline, Location(xy=4, z=5, time=6), ('cell', 'found'), 2, 'abc')
    assert made == {
        'coordinates': [{'x': 0.5, 'y': 1.0}, {'x': 2.0, 'y': 1.0}, {'x': 2.0, 'y': 3.0}],
        'tags': ['cell', 'found'],
        'channel': 2,
        'location': {'XY': 4, 'Z': 5, 'Time': 6},
        'shape': 'polygon',
        'datasetId': 'abc',
    }
    assert {type(value) for point in made['coordinates'] for value in point.values()} == {float}
    assert location_of(made) == Location(4, 5, 6)
    np.testing.assert_array_equal(read_points(made), outline)


# Limits


@pytest.mark.parametrize(
    ('points', 'box'),
    [
        ([(1.2, 2.7), (4.5, 2.7), (4.5, 6.1)], Box(2, 1, 7, 5)),
        ([(-5, -6), (30, -6), (30, 40)], Box(0, 0, 10, 20)),
        ([(-9, 1), (-2, 1), (-2, 5)], None),
        ([(1, -9), (5, -9), (5, -2)], None),
        ([(25, 1), (30, 1), (30, 5)], None),
        ([(1, 12), (5, 12), (5, 15)], None),
        ([(3, 1), (3, 5)], None),
        ([], None),
    ],
)
def test_box_of_an_annotation_is_cut_to_the_image(points, box):
    assert bound_annotation(annotate(points), (10, 20, 3)) == box


def test_points_are_read_up_to_the_limit():
    corners = [(-MAX_COORDINATE, 1), (2, MAX_COORDINATE)]
    assert read_points(annotate([])).shape == (0, 2)
    np.testing.assert_array_equal(read_points(annotate(corners)), corners)


def test_annotation_of_a_frame_is_cut_from_a_tile():
    polygon = annotate([(105, 203), (109, 203), (109, 206), (105, 206)])
    box, mask = cut_annotation(polygon, (40, 30), Box(200, 100, 240, 130))
    assert box == (3, 5, 6, 9)
    assert mask.all()


def test_object_smaller_than_the_tolerance_becomes_a_triangle():
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    assert len(trace(mask, 0)) == 4
    assert len(trace(mask, 3)) == 3
