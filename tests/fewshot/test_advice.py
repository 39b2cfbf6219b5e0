from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fewshot.advice import advise_on_areas, advise_on_size, advise_on_source, advise_on_threshold
from fewshot.geometry import Box, CutMask
from fewshot.sam.checkpoints import VIT_H
from fewshot.tally import Tally


def ask(**settings) -> Any:
    """As much of a job's parameters as advice depends on."""
    return SimpleNamespace(**{'checkpoint': VIT_H, 'whole_frame': False, 'min_area': 0, 'max_area': 0, 'threshold': 0.5,
                              **settings})


def squares(*sides: int) -> list[CutMask]:
    return [CutMask(Box(0, 0, side, side), np.ones((side, side), bool)) for side in sides]


def test_small_examples_are_no_matter_unless_they_are_described_in_the_whole_frame():
    assert advise_on_source(squares(20, 40), 1.0, ask()) is None
    assert advise_on_source(squares(32, 40), 1.0, ask(whole_frame=True)) is None
    message, info = advise_on_source(squares(31, 40), 1.0, ask(whole_frame=True)) or ('', '')
    assert message.startswith('1 of 2 examples are small') and 'object crops' in info


def test_objects_too_small_for_sam_bring_a_tile_size_that_shows_them_large_enough():
    assert advise_on_size(squares(12, 12), 1.0, ask()) is None
    message, info = advise_on_size(squares(20, 20, 30), 1024 / 4096, ask()) or ('', '')
    assert 'a Tile Size of 896 would' in message  # 1024 / 24 × 20 pixels, up to the next 64
    assert '20 pixels wide, of which SAM sees 5' in info
    message, _ = advise_on_size(squares(20, 20, 400), 1024 / 4096, ask()) or ('', '')
    assert 'a Tile Size of 1600 would' in message  # room for the largest


@pytest.mark.parametrize(('low', 'high', 'outside'), [
    (0, 0, 0), (100, 400, 0), (101, 0, 1), (0, 399, 1), (150, 399, 2)])
def test_area_limits_that_shut_out_examples_are_told_with_limits_that_do_not(low, high, outside):
    found = advise_on_areas(squares(10, 15, 20), ask(min_area=low, max_area=high))
    assert (found is None) == (outside == 0)
    if found:
        assert found[0].startswith(f'{outside} of 3 examples lie outside')
        assert 'Min Mask Area 100 or less and Max Mask Area 400 or more' in found[1]


@pytest.mark.parametrize(('examples', 'unlike', 'threshold', 'proposed'), [
    ([0.96, 0.9, 0.95], 0, 0.5, '0.84'),  # 0.9 less the spread of 0.06
    ([0.96, 0.9, 0.95], 0, 0.79, '0.84'),
    ([0.96, 0.9, 0.95], 0, 0.85, None),  # near enough
    ([0.96, 0.9, 0.95], 1, 0.5, None),  # it did remove something
    ([0.955, 0.95, 0.951], 0, 0.5, '0.93'),  # the least spread
    ([0.9, 0.96], 0, 0.5, None),  # two examples have no spread
    ([0.62, 0.99, 0.8], 0, 0.5, None),  # examples as different as that say nothing
])
def test_a_threshold_that_removes_nothing_brings_a_better_one(examples, unlike, threshold, proposed):
    found = advise_on_threshold(examples, Tally(in_area=10, unlike=unlike), ask(threshold=threshold))
    assert (found is None) == (proposed is None)
    if found:
        assert found[0].endswith(f'try {proposed}') and 'less their spread (0.0' in found[1]
