"""The cut image, its files, and the outlined nuclei."""

import json

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from demo.dataset import (
    SIDE,
    choose_examples,
    cut,
    forget_examples,
    outline,
    read_image,
    to_annotation,
    touches_border,
    write_dataset,
)
from demo.scoring import rasterise


@pytest.mark.parametrize(('side', 'count'), [(128, 16), (256, 4)])
def test_positions_lie_row_by_row(side, count):
    image, _ = read_image()
    positions = cut(image, side)
    assert positions.shape == (count, side, side)
    np.testing.assert_array_equal(positions[1], image[:side, side : 2 * side])
    np.testing.assert_array_equal(positions[512 // side], image[side : 2 * side, :side])


def test_the_labelled_image_has_125_nuclei():
    image, labels = read_image()
    assert image.shape == labels.shape == (512, 512)
    assert len(np.unique(labels)) - 1 == 125


def test_each_position_is_a_file_that_the_dataset_names(tmp_path):
    positions = np.arange(3 * 64 * 64, dtype=np.uint16).reshape(3, 64, 64)
    write_dataset(tmp_path, positions)
    listed = [
        line.split(': ')[1]
        for line in (tmp_path / 'nuclei.yml').read_text().splitlines()
        if 'path' in line
    ]
    assert len(listed) == 3
    for file, pixels in zip(listed, positions, strict=True):
        np.testing.assert_array_equal(tifffile.imread(tmp_path / file), pixels)
    layers = json.loads((tmp_path / 'nuclei.layers.json').read_text())['layers']
    assert [(layer['channel'], layer['visible']) for layer in layers] == [(0, True)]


def test_the_nuclei_that_were_shown_are_not_to_be_found():
    labels = cut(read_image()[1], SIDE)
    examples = choose_examples(labels, 12, 3)
    others = forget_examples(labels, examples)
    assert len(examples) == 12
    for position, (before, after) in enumerate(zip(labels, others, strict=True)):
        shown = sum(example.position == position for example in examples)
        assert len(np.unique(before)) - len(np.unique(after)) == shown
        assert ((after == before) | (after == 0)).all()
    assert (labels > 0).sum() - (others > 0).sum() == sum(example.area for example in examples)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 12), st.integers(1, 12))
def test_a_rectangle_that_is_outlined_and_filled_again_is_the_same(top, left, height, width):
    mask = np.zeros((32, 32), bool)
    mask[top : top + height, left : left + width] = True
    np.testing.assert_array_equal(rasterise(outline(mask), mask.shape), mask)


def test_the_outline_of_one_pixel_lies_around_its_centre_at_a_half():
    mask = np.zeros((9, 9), bool)
    mask[2, 6] = True
    np.testing.assert_allclose(outline(mask).mean(axis=0), [6.5, 2.5])


@pytest.mark.parametrize(
    ('row', 'column', 'expected'),
    [(0, 4, True), (8, 4, True), (4, 0, True), (4, 8, True), (1, 7, False)],
)
def test_an_object_in_the_last_row_or_column_touches_the_border(row, column, expected):
    mask = np.zeros((9, 9), bool)
    mask[row, column] = True
    assert touches_border(mask) is expected


def test_examples_are_whole_typical_nuclei_of_the_first_positions():
    _, labels = read_image()
    positions = cut(labels, SIDE)
    examples = choose_examples(positions, count=12, per_position=4)
    assert len(examples) == 12
    assert {example.position for example in examples} == {0, 1, 2, 3}
    for example in examples:
        numbers = positions[example.position]
        inside = rasterise(example.outline, numbers.shape)
        covered = np.unique(numbers[inside])
        assert len(covered) == 1 and covered[0] > 0
        assert (
            inside.sum() == example.area == (labels == covered[0]).sum()
        )  # nothing of it lies in another position


def test_an_examples_annotation_is_what_the_server_takes():
    _, labels = read_image()
    example = choose_examples(cut(labels, SIDE), count=1, per_position=1)[0]
    annotation = to_annotation(example, 'abc', 'example')
    assert json.loads(json.dumps(annotation)) == annotation
    assert list(annotation['location']) == ['XY', 'Z', 'Time']
    assert annotation['coordinates'][0] == {'x': example.outline[0, 0], 'y': example.outline[0, 1]}
