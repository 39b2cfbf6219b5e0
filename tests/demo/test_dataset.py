"""The image, its files, and the outlined nuclei."""

import json

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from demo.__main__ import EXAMPLES
from demo.dataset import (
    REGIONS,
    choose_examples,
    forget_examples,
    outline,
    read_image,
    to_annotation,
    touches_border,
    write_dataset,
)
from demo.scoring import rasterise


def test_the_labelled_image_has_125_nuclei():
    image, labels = read_image()
    assert image.shape == labels.shape == (512, 512)
    assert len(np.unique(labels)) - 1 == 125


def test_each_frame_is_a_file_that_the_dataset_names(tmp_path):
    frames = np.arange(3 * 64 * 64, dtype=np.uint16).reshape(3, 64, 64)
    write_dataset(tmp_path, frames)
    listed = [
        line.split(': ')[1]
        for line in (tmp_path / 'nuclei.yml').read_text().splitlines()
        if 'path' in line
    ]
    assert len(listed) == 3
    for file, pixels in zip(listed, frames, strict=True):
        np.testing.assert_array_equal(tifffile.imread(tmp_path / file), pixels)
    layers = json.loads((tmp_path / 'nuclei.layers.json').read_text())['layers']
    assert [(layer['channel'], layer['visible']) for layer in layers] == [(0, True)]


def test_the_nuclei_that_were_shown_are_not_to_be_found():
    _, labels = read_image()
    examples = choose_examples(labels, EXAMPLES)
    others = forget_examples(labels, examples)
    assert len(np.unique(labels)) - len(np.unique(others)) == EXAMPLES
    assert ((others == labels) | (others == 0)).all()
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


def test_examples_are_whole_typical_nuclei_from_all_over_the_image():
    _, labels = read_image()
    examples = choose_examples(labels, EXAMPLES)
    areas = np.bincount(labels.ravel())[1:]
    median = np.median(areas[areas > 0])
    regions = set()
    for example in examples:
        inside = rasterise(example.outline, labels.shape)
        (number,) = np.unique(labels[inside])
        assert number > 0
        assert inside.sum() == example.area == areas[number - 1]
        assert not touches_border(inside)
        assert 0.4 * median < example.area < 2.5 * median
        middle = np.argwhere(inside).mean(axis=0)
        regions.add(tuple((middle * REGIONS / labels.shape).astype(int).tolist()))
    assert len(examples) == len(regions) == EXAMPLES


def test_examples_are_the_same_each_time_and_others_with_another_seed():
    _, labels = read_image()
    first, again, other = (
        [one.outline.tobytes() for one in choose_examples(labels, EXAMPLES, seed)]
        for seed in (0, 0, 1)
    )
    assert first == again
    assert len({*first} & {*other}) < EXAMPLES / 2


def test_a_region_without_a_whole_object_has_no_example():
    labels = np.zeros((80, 80), np.uint16)
    for number, (row, column) in enumerate([(5, 5), (5, 25), (25, 5), (70, 70)], start=1):
        labels[row : row + 8, column : column + 8] = number
    labels[40:48, :8] = 5  # at the border
    examples = choose_examples(labels, 4)
    middles = sorted(tuple(one.outline.mean(axis=0).round().tolist()) for one in examples)
    assert middles == [(9, 9), (9, 29), (29, 9), (74, 74)]


def test_an_examples_annotation_is_what_the_server_takes():
    _, labels = read_image()
    (example,) = choose_examples(labels, count=1)
    annotation = to_annotation(example, 'abc', 'example')
    assert json.loads(json.dumps(annotation)) == annotation
    assert list(annotation['location']) == ['XY', 'Z', 'Time']
    assert annotation['coordinates'][0] == {'x': example.outline[0, 0], 'y': example.outline[0, 1]}
