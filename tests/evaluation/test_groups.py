"""The groups of pictures are as their names say, and the model has seen none of them."""

import functools

import numpy as np
import pytest
from scipy import ndimage

from demo.__main__ import EXAMPLES
from demo.dataset import choose_examples, read_image
from evaluation import groups
from evaluation.groups import DEMO, NAMES, SCENES, make_group
from training import measure, train

make_once = functools.cache(make_group)


def contrast(name: str) -> float:
    """Return the contrast of a group's dimmest object, in units of the background's noise."""
    dimmest = []
    for image, labels in zip(
        make_once(name).images.astype(float), make_once(name).labels, strict=True
    ):
        means = ndimage.mean(image, labels, np.arange(labels.max() + 1))
        dimmest.append(
            (means[1:].min() - means[0])
            / image[ndimage.binary_erosion(labels == 0, iterations=5)].std()
        )
    return min(dimmest)


def test_there_are_twenty_drawn_pictures_or_more_and_all_differ():
    drawn = [image for name in SCENES for image in make_once(name).images]
    assert len(drawn) >= 20
    assert len({image.tobytes() for image in drawn}) == len(drawn)


def test_another_seed_gives_other_pictures_or_other_examples():
    for name in ('plain', DEMO):
        first, second = make_once(name), make_group(name, 1)
        assert first.images.shape == second.images.shape
        assert np.array_equal(first.images, second.images) == (name == DEMO)
        areas = [[one.area for one in group.examples] for group in (first, second)]
        assert areas[0] != areas[1]


def test_no_picture_has_a_seed_of_the_training_or_its_measures():
    seeds = {
        groups.SEED + 100 * number + picture + groups.SEEDS_APART * seed
        for number in range(len(NAMES))
        for seed in range(10)
        for picture in range(100)
    }
    assert not seeds & {train.SEED, measure.SEED}


def test_a_crowd_is_denser_than_a_plain_picture_and_its_objects_touch():
    covered = {name: (make_once(name).labels > 0).mean() for name in ('plain', 'crowded')}
    assert covered['crowded'] > 1.5 * covered['plain']
    for labels in make_once('crowded').labels:
        assert ndimage.label(labels, np.ones((3, 3)))[1] <= labels.max() / 4


def test_of_two_kinds_one_is_wanted_and_the_other_is_dimmer_and_longer():
    group = make_once('two kinds')
    for image, labels, wanted in zip(
        group.images.astype(float), group.labels, group.wanted, strict=True
    ):
        numbers = np.arange(1, len(wanted))
        assert 5 <= wanted.sum() <= len(numbers) - 5
        light = ndimage.mean(image, labels, numbers)
        spreads = [
            np.linalg.eigvalsh(np.cov(np.argwhere(labels == number).T)) for number in numbers
        ]
        length = np.array([(large / small) ** 0.5 for small, large in spreads])
        assert light[wanted[1:]].min() > light[~wanted[1:]].max()
        assert length[wanted[1:]].max() < 1.5
        assert length[wanted[1:]].mean() + 0.3 < length[~wanted[1:]].mean()


def test_dense_small_objects_are_many_and_lie_close_together_but_apart():
    group = make_once('dense small')
    assert group.images.shape[1:] == (512, 512)
    for labels in group.labels:
        areas = np.bincount(labels.ravel())[1:]
        diameters = 2 * (areas / np.pi) ** 0.5
        assert len(areas) >= 200
        assert 11.5 < diameters.min() < diameters.max() < 20.5
        assert ndimage.label(labels, np.ones((3, 3)))[1] == len(areas)
        grown = ndimage.binary_dilation(labels > 0, iterations=3)
        assert ndimage.label(grown)[1] <= len(areas) / 20


def test_only_the_low_contrast_is_low():
    assert contrast('low contrast') < 3
    assert min(contrast(name) for name in ('plain', 'crowded', 'two kinds')) > 10


def test_the_large_frame_holds_objects_of_about_twenty_pixels():
    group = make_once('large frame')
    assert group.images.shape == (1, 4096, 4096)
    assert group.tile_size
    widths = [
        min(part.stop - part.start for part in window)
        for window in ndimage.find_objects(group.labels[0])
    ]
    assert len(widths) >= 300
    assert 17 <= np.median(widths) <= 22


@pytest.mark.parametrize('name', NAMES)
def test_the_examples_are_wanted_objects_of_the_first_pictures(name):
    group = make_once(name)
    examples = group.examples
    assert len(examples) == EXAMPLES
    assert max(one.position for one in examples) <= 2
    for one in examples:
        column, row = one.outline.mean(axis=0).astype(int)
        number = group.labels[one.position][row, column]
        assert group.wanted[one.position][number]
        assert (group.labels[one.position] == number).sum() == one.area


def test_only_two_kinds_has_objects_that_are_not_wanted():
    assert [name for name in NAMES if make_once(name).has_others] == ['two kinds']


def test_the_demos_image_is_one_frame_with_the_demos_examples_and_all_nuclei_wanted():
    group = make_once(DEMO)
    image, labels = read_image()
    np.testing.assert_array_equal(group.images, image[None])
    np.testing.assert_array_equal(group.labels, labels[None])
    assert not group.tile_size
    assert np.flatnonzero(group.wanted[0]).tolist() == np.unique(labels[labels > 0]).tolist()
    outlines = [one.outline.tobytes() for one in choose_examples(labels, EXAMPLES)]
    assert [one.outline.tobytes() for one in group.examples] == outlines
