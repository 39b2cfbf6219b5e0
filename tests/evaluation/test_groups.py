"""The groups of pictures are as their names say, and the model has seen none of them."""

import functools

import numpy as np
import pytest
from scipy import ndimage

from evaluation import groups
from evaluation.groups import DEMO, EXAMPLES, NAMES, SCENES, make_group, outline_examples
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


def test_another_seed_gives_other_pictures_and_other_examples():
    for name in ('plain', DEMO):
        first, second = make_once(name), make_group(name, 1)
        assert first.images.shape == second.images.shape
        assert not np.array_equal(first.images, second.images)
        areas = [[one.area for one in outline_examples(group)] for group in (first, second)]
        assert areas[0] != areas[1]
    assert {one.tobytes() for one in first.images} == {one.tobytes() for one in second.images}
    for labels, wanted in zip(second.labels, second.wanted, strict=True):
        assert np.flatnonzero(wanted).tolist() == np.unique(labels[labels > 0]).tolist()


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
    examples = outline_examples(group)
    assert len(examples) == EXAMPLES
    assert max(one.position for one in examples) <= 2
    for one in examples:
        column, row = one.outline.mean(axis=0).astype(int)
        number = group.labels[one.position][row, column]
        assert group.wanted[one.position][number]
        assert (group.labels[one.position] == number).sum() == one.area


def test_only_two_kinds_has_objects_that_are_not_wanted():
    assert [name for name in NAMES if make_once(name).has_others] == ['two kinds']


def test_the_demos_image_comes_in_its_sixteen_positions_with_all_nuclei_wanted():
    group = make_once(DEMO)
    assert group.images.shape == group.labels.shape == (16, 128, 128)
    assert not group.tile_size
    assert sum(wanted.sum() for wanted in group.wanted) == sum(
        len(np.unique(one[one > 0])) for one in group.labels
    )
