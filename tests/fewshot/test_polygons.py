import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from fewshot.crops import Box, bound_mask
from fewshot.parameters import Location, read_parameters
from fewshot.polygons import (
    FARTHEST,
    annotation_to_mask,
    bound_annotation,
    cut_annotation,
    location_of,
    make_annotation,
    read_points,
    trace_mask,
)
from tests.worker import REPOSITORY, make_params


def annotate(points) -> dict:
    return {'coordinates': [{'x': x, 'y': y} for x, y in points]}


def trace(mask: np.ndarray, smoothing: float) -> np.ndarray:
    box = bound_mask(mask)
    assert box is not None
    return trace_mask(box, mask[box.slices], smoothing)


@pytest.mark.parametrize('smoothing', [0, 0.3, 1])
@pytest.mark.parametrize('side', [1, 2, 3, 4, 5, 8, 13, 40])
@pytest.mark.parametrize('corner', ['top left', 'middle', 'bottom right'])
def test_a_square_that_is_traced_and_rasterised_again_is_the_same(side, corner, smoothing):
    start = {'top left': 0, 'middle': 9, 'bottom right': 60 - side}[corner]
    mask = np.zeros((60, 60), bool)
    mask[start:start + side, start:start + side] = True
    np.testing.assert_array_equal(annotation_to_mask(annotate(trace(mask, smoothing)), mask.shape), mask)


masks = arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))).filter(np.any)


@given(masks, st.floats(0, 3))
@settings(max_examples=200)
def test_an_outline_of_any_mask_is_a_valid_polygon_inside_the_image(mask, smoothing):
    outline = trace(mask, smoothing)
    assert len(outline) >= 3
    assert (outline >= 0).all() and (outline <= (mask.shape[1], mask.shape[0])).all()
    polygon = shapely.Polygon(outline)
    assert polygon.is_valid and polygon.area > 0
    assert not (outline[0] == outline[-1]).all()


@given(masks)
@settings(max_examples=200)
def test_an_outline_without_smoothing_holds_the_largest_component_with_its_holes_filled(mask):
    components, _ = ndimage.label(mask)
    sizes = np.bincount(components.ravel())[1:]
    largest = ndimage.binary_fill_holes(components == sizes.argmax() + 1, np.ones((3, 3)))
    np.testing.assert_array_equal(annotation_to_mask(annotate(trace(mask, 0)), mask.shape), largest)


def test_an_object_at_the_border_is_closed_along_the_border():
    mask = np.zeros((20, 20), bool)
    mask[:8, 5:15] = True
    outline = trace(mask, 0.3)
    assert outline[:, 1].min() == 0
    assert shapely.Polygon(outline).area == pytest.approx(80, abs=0.6)


def test_a_mask_that_fills_the_image_is_outlined_by_its_border():
    polygon = shapely.Polygon(trace(np.ones((7, 9), bool), 0))
    assert polygon.bounds == (0, 0, 9, 7) and polygon.area == pytest.approx(63 - 0.5)


def test_smoothing_moves_the_outline_no_further_than_its_tolerance():
    disc = np.hypot(*(np.mgrid[:61, :61] - 30)) < 25
    exact, smooth = shapely.Polygon(trace(disc, 0)), shapely.Polygon(trace(disc, 1.5))
    assert len(smooth.exterior.coords) < len(exact.exterior.coords) / 2
    assert shapely.hausdorff_distance(exact.exterior, smooth.exterior) <= 1.5


def test_object_smaller_than_the_tolerance_becomes_a_triangle():
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    assert len(trace(mask, 0)) == 4 and len(trace(mask, 3)) == 3


def test_x_runs_along_columns_and_a_pixel_centre_lies_at_its_half():
    mask = annotation_to_mask(annotate([(3.4, 1.4), (3.6, 1.4), (3.6, 1.6), (3.4, 1.6)]), (4, 6, 3))
    assert mask.shape == (4, 6) and mask.dtype == bool
    assert np.argwhere(mask).tolist() == [[1, 3]]


def test_a_box_drawn_along_pixel_edges_covers_exactly_its_pixels():
    mask = annotation_to_mask(annotate([(2, 1), (5, 1), (5, 3), (2, 3)]), (6, 8))
    assert np.argwhere(mask).tolist() == [[row, column] for row in (1, 2) for column in (2, 3, 4)]


def test_what_lies_outside_the_image_is_cut_off():
    box, mask = cut_annotation(annotate([(-5, -5), (4, -5), (4, 3), (-5, 3)]), (10, 10))
    assert box == (0, 0, 3, 4) and mask.all()


@pytest.mark.parametrize(('points', 'reason'), [
    ([], 'fewer than 3 points'),
    ([(1, 1), (5, 5)], 'fewer than 3 points'),
    ([(20, 20), (30, 20), (30, 30)], 'outside the image'),
    ([(-9, 1), (-2, 1), (-2, 5)], 'outside the image'),
    ([(-9, 1), (0, 1), (0, 5)], 'outside the image'),
    ([(20, 1), (25, 1), (25, 5)], 'outside the image'),
    ([(30, 1), (40, 1), (40, 5)], 'outside the image'),
    ([(1, 12), (5, 12), (5, 15)], 'outside the image'),
    ([(1e9, 1e9), (2e9, 1e9), (2e9, 2e9)], 'outside the image'),
    ([(1, 1), (1.1, 1), (1.1, 1.1)], 'too thin'),
    ([(0.1, 0.1), (0.4, 0.1), (0.4, 0.4)], 'too thin'),
    ([(1, 1), (5, 5), (1, 1)], 'too thin'),
    ([(1, 1), (float('nan'), 5), (1, 8)], 'not numbers'),
    ([(1, 1), (None, 5), (1, 8)], 'not numbers'),
])
def test_a_polygon_that_covers_no_pixel_is_refused_with_the_reason(points, reason):
    with pytest.raises(ValueError, match=reason):
        cut_annotation(annotate(points), (10, 20, 3))


@pytest.mark.parametrize(('points', 'box'), [
    ([(1.2, 2.7), (4.5, 2.7), (4.5, 6.1)], Box(2, 1, 7, 5)),
    ([(-5, -6), (30, -6), (30, 40)], Box(0, 0, 10, 20)),
    ([(-9, 1), (-2, 1), (-2, 5)], None),
    ([(1, -9), (5, -9), (5, -2)], None),
    ([(25, 1), (30, 1), (30, 5)], None),
    ([(1, 12), (5, 12), (5, 15)], None),
    ([(3, 1), (3, 5)], None),
    ([], None),
])
def test_box_of_an_annotation_is_cut_to_the_image(points, box):
    assert bound_annotation(annotate(points), (10, 20, 3)) == box


def test_points_are_read_up_to_the_farthest():
    assert read_points(annotate([])).shape == (0, 2)
    np.testing.assert_array_equal(read_points(annotate([(-FARTHEST, 1), (2, FARTHEST)])),
                                  [(-FARTHEST, 1), (2, FARTHEST)])


@pytest.mark.parametrize('annotation', [None, 'text', 7, [], {}])
def test_annotation_without_coordinates_is_refused(annotation):
    with pytest.raises(ValueError, match='without coordinates'):
        read_points(annotation)


def test_annotation_of_a_frame_is_cut_from_a_tile():
    polygon = annotate([(105, 203), (109, 203), (109, 206), (105, 206)])
    box, mask = cut_annotation(polygon, (40, 30), Box(200, 100, 240, 130))
    assert box == (3, 5, 6, 9) and mask.all()


def test_a_self_intersecting_polygon_covers_its_lobes():
    _, mask = cut_annotation(annotate([(0, 0), (10, 10), (10, 0), (0, 10)]), (10, 10))
    assert mask[5, 1] and mask[5, 8] and not mask[1, 5] and not mask[8, 5]


def test_an_annotation_is_what_the_server_accepts(monkeypatch):
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))
    parameters = read_parameters({**make_params(), 'channel': 2, 'tags': ['cell', 'found']})
    outline = np.array([[0.5, 1], [2, 1], [2, 3]], np.float32)
    made = make_annotation(outline, Location(xy=4, z=5, time=6), parameters, 'abc')
    assert made == {
        'coordinates': [{'x': 0.5, 'y': 1.0}, {'x': 2.0, 'y': 1.0}, {'x': 2.0, 'y': 3.0}], 'tags': ['cell', 'found'],
        'channel': 2, 'location': {'XY': 4, 'Z': 5, 'Time': 6}, 'shape': 'polygon', 'datasetId': 'abc'}
    assert list(made['location']) == ['XY', 'Z', 'Time']
    assert {type(value) for point in made['coordinates'] for value in point.values()} == {float}
    assert location_of(made) == Location(4, 5, 6)
