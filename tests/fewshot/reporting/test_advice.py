"""Warnings about settings that do not fit."""

import numpy as np
import pytest

from fewshot import messages
from fewshot.geometry import Box, CutMask
from fewshot.reporting.advice import (
    advise_on_areas,
    advise_on_existing,
    advise_on_size,
    advise_on_source,
    advise_on_threshold,
)
from fewshot.reporting.state import Counts, JobState, Stopwatch

INPUT_SIZE = 1024


def squares(*sides: int) -> list[CutMask]:
    return [CutMask(Box(0, 0, side, side), np.ones((side, side), bool)) for side in sides]


@pytest.mark.parametrize(
    ('sides', 'scale', 'small'),
    [
        ((32, 40), 1.0, 0),
        ((31, 40), 1.0, 1),
        ((62, 64), 0.5, 1),
        ((20, 20), 1.0, 2),
    ],
)
def test_small_examples_are_warned_of_in_the_whole_frame(page, sides, scale, small):
    advise_on_source(squares(*sides), scale, INPUT_SIZE, page.reporter())
    expected = messages.EXAMPLES_SMALL_FOR_SOURCE.fill(
        small=small, count=2, input_size=INPUT_SIZE, least=32
    )
    assert page.warnings == ([expected] if small else [])


@pytest.mark.parametrize(
    ('sides', 'scale', 'size'),
    [
        ((12, 12), 1.0, None),
        ((20, 20, 30), 0.25, 896),  # 1024 / 24 * 20 pixels, up to the next 64
        ((20, 20, 400), 0.25, 1600),  # room for the largest
        ((500, 500), 0.02, 4096),  # at most
        ((48, 48), 0.25, None),
        ((47, 47), 0.25, 2048),
    ],
)
def test_tile_size_is_proposed_for_small_objects(page, sides, scale, size):
    advise_on_size(squares(*sides), scale, INPUT_SIZE, page.reporter())
    if size is None:
        assert page.warnings == []
        return
    width = np.median(sides)
    expected = messages.OBJECTS_SMALL.fill(width=width, seen=scale * width, size=size, least=12)
    assert page.warnings == [expected]


@pytest.mark.parametrize(
    ('low', 'high', 'outside'),
    [(0, 0, 0), (100, 400, 0), (101, 0, 1), (0, 399, 1), (150, 399, 2)],
)
def test_area_limits_that_exclude_examples_are_warned_of(page, low, high, outside):
    advise_on_areas(squares(10, 15, 20), low, high, page.reporter())
    expected = messages.EXAMPLES_OUTSIDE_LIMITS.fill(
        outside=outside, count=3, smallest=100, largest=400
    )
    assert page.warnings == ([expected] if outside else [])


@pytest.mark.parametrize(
    ('examples', 'below', 'threshold', 'proposed'),
    [
        ([0.96, 0.9, 0.95], 0, 0.5, 0.84),  # 0.9 less the spread of 0.06
        ([0.96, 0.9, 0.95], 0, 0.79, 0.84),
        ([0.96, 0.9, 0.95], 0, 0.85, None),  # near enough
        ([0.96, 0.9, 0.95], 1, 0.5, None),  # it removed a candidate
        ([0.955, 0.95, 0.951], 0, 0.5, 0.93),  # the smallest spread
        ([0.9, 0.96], 0, 0.5, None),  # two examples have no spread
        ([0.62, 0.99, 0.8], 0, 0.5, None),  # the examples differ too much
        ([], 0, 0.5, None),
    ],
)
def test_threshold_that_removes_nothing_is_warned_of(page, examples, below, threshold, proposed):
    state = JobState([], Stopwatch(lambda: 0.0))
    state.note_searched(Counts(in_area=10, below_threshold=below), [])
    advise_on_threshold(threshold, examples, state, page.reporter())
    if proposed is None:
        assert page.warnings == []
        return
    expected = messages.THRESHOLD_LOW.fill(
        threshold=threshold, proposed=proposed, lowest=min(examples), highest=max(examples)
    )
    assert page.warnings == [expected]


def test_threshold_is_not_judged_without_candidates(page):
    state = JobState([], Stopwatch(lambda: 0.0))
    advise_on_threshold(0.5, [0.96, 0.9, 0.95], state, page.reporter())
    assert page.warnings == []


@pytest.mark.parametrize(('known', 'is_warned'), [(3, False), (4, True), (6, True), (0, False)])
def test_known_objects_are_warned_of(page, known, is_warned):
    advise_on_existing(Counts(kept=8, duplicates=2, known=known), page.reporter())
    expected = messages.MOSTLY_KNOWN.fill(known=known, found=6)
    assert page.warnings == ([expected] if is_warned else [])


def test_nothing_found_is_not_known(page):
    advise_on_existing(Counts(), page.reporter())
    assert page.warnings == []
