import numpy as np
import pytest

from training.shapes import (
    IGNORED,
    SIDE,
    SMALLEST,
    draw_layout,
    draw_shape,
    draw_tissue,
    find_edges,
)


@pytest.fixture(scope='module')
def layouts():
    rng = np.random.default_rng(5)
    return [draw_layout(rng) for _ in range(10)] + [draw_tissue(rng) for _ in range(2)]


def test_every_object_lies_in_its_box_and_is_large_enough(layouts):
    for layout in layouts:
        for number, box in enumerate(layout.boxes, start=1):
            area = (layout.labels == number).sum()
            assert (layout.labels[box] == number).sum() == area
            assert area == 0 or area >= SMALLEST


def test_a_part_lies_inside_its_object(layouts):
    assert any((layout.parts > 0).any() for layout in layouts)
    for layout in layouts:
        inside = layout.parts > 0
        np.testing.assert_array_equal(layout.parts[inside], layout.labels[inside])


def test_objects_of_all_sizes_are_drawn():
    rng = np.random.default_rng(0)
    widths = []
    for _ in range(60):
        layout = draw_layout(rng)
        areas = np.bincount(np.maximum(layout.labels, 0).ravel())[1:]
        widths += list(2 * np.sqrt(areas[areas > 0] / np.pi))
    low, high = np.percentile(widths, (2, 99.9))
    assert low < 14
    assert high > 130


def test_fragments_are_marked(layouts):
    rng = np.random.default_rng(1)
    shares = [(draw_layout(rng).labels == IGNORED).mean() for _ in range(20)]
    assert 0 < max(shares) < 0.2


@pytest.mark.parametrize('kind', ['round', 'elongated', 'bar', 'budding', 'irregular'])
def test_a_shape_has_about_the_area_of_a_disc(kind):
    rng = np.random.default_rng(2)
    ratios = [draw_shape(20, kind, rng).sum() / (np.pi * 20**2) for _ in range(20)]
    assert 0.8 < np.median(ratios) < 1.6


def test_edges_are_on_both_sides_of_a_border():
    labels = np.zeros((4, 6), np.int32)
    labels[:, 3:] = 1
    assert find_edges(labels).any(axis=0).tolist() == [False, False, True, True, False, False]


def test_a_drawing_has_the_side_that_the_crops_expect(layouts):
    assert all(layout.labels.shape == (SIDE, SIDE) for layout in layouts)
