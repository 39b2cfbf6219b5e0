"""Warnings about settings that do not fit."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot import messages
from fewshot.geometry import Box, CutMask, has_allowed_area
from fewshot.reporting.advice import (
    advise_on_areas,
    advise_on_coarse_grid,
    advise_on_cpu,
    advise_on_existing,
    advise_on_fine_grid,
    advise_on_limits,
    advise_on_size,
    advise_on_source,
    advise_on_threshold,
    propose_points,
)
from fewshot.reporting.forecast import describe_seconds
from fewshot.reporting.state import Counts, JobState, Stopwatch
from fewshot.sam.checkpoints import VIT_B, VIT_B_LM, VIT_H, VIT_L, VIT_L_LM, VIT_MINI, Costs
from fewshot.settings import FIELDS, MAX_MASK_AREA
from tests.fewshot.conftest import Page

INPUT_SIZE = 1024
AREA_FIELDS = 'Min Mask Area', 'Max Mask Area'

fields = {field.name: field for field in FIELDS}


def squares(*sides: int) -> list[CutMask]:
    return [CutMask(Box(0, 0, side, side), np.ones((side, side), bool)) for side in sides]


# Without a GPU. At 10 points per side, a frame of ViT-H takes 50 s, and 50 s per candidate more.
H, L, B, L_LM, B_LM = (
    replace(one, costs=Costs(encoding, point=0))
    for one, encoding in ((VIT_H, 50), (VIT_L, 30), (VIT_B, 10), (VIT_L_LM, 30), (VIT_B_LM, 10))
)


@pytest.mark.parametrize(
    ('model', 'present', 'whole_frame', 'smallest', 'expected'),
    [
        (H, [H, L, B, B_LM, VIT_MINI], False, 32, ('11 h', B, 'fastest', '20 s')),
        (H, [H, L, B_LM, VIT_MINI], False, 32, ('11 h', L, 'fastest', '1 min')),
        (H, [H], False, 32, ('11 h', H, 'fastest', '2 min')),
        (H, [H], True, 32, ('2 min', H, 'fastest', '2 min')),
        # the examples are too small for the features of the whole frame
        (H, [H, B], False, 31.9, ('11 h', B, 'fast', '2 h')),
        (H, [H, B], True, 31.9, ('2 min', B, 'fastest', '20 s')),
        # a model of the same kind of images
        (L_LM, [H, L, B, L_LM, B_LM], False, 99, ('7 h', B_LM, 'fastest', '20 s')),
        (L_LM, [H, L, B, L_LM], False, 99, ('7 h', L_LM, 'fastest', '1 min')),
    ],
)
def test_fastest_sensible_choice_is_named_without_a_gpu(
    page, model, present, whole_frame, smallest, expected
):
    advise_on_cpu(model, present, 2, 10, whole_frame, smallest, page.reporter())
    time, fastest, speed, least = expected
    filled = messages.NO_GPU.fill(time=time, model=fastest.name, speed=speed, least=least)
    assert page.warnings == [filled]


def test_time_without_a_gpu_counts_frames_and_points(page):
    model = replace(VIT_B, costs=Costs(encoding=20, point=1))
    advise_on_cpu(model, [model], 30, 10, True, 0, page.reporter())
    assert 'about 60 min.' in page.warnings[0][0]  # 30 frames, an encoding and 100 points each
    assert 'about 60 min.' in page.warnings[0][1]


def test_small_model_needs_no_gpu(page):
    advise_on_cpu(VIT_MINI, [VIT_H, VIT_MINI], 100, 128, False, 99, page.reporter())
    assert page.warnings == []


@pytest.mark.parametrize(
    ('sides', 'scale', 'patch_size', 'small'),
    [
        ((32, 40), 1.0, 16, 0),
        ((31, 40), 1.0, 16, 1),
        ((62, 64), 0.5, 16, 1),
        ((20, 20), 1.0, 16, 2),
        ((20, 20), 1.0, 8, 0),
        ((15, 20), 1.0, 8, 1),
    ],
)
def test_small_examples_are_warned_of_in_the_whole_frame(page, sides, scale, patch_size, small):
    advise_on_source(squares(*sides), scale, patch_size, page.reporter())
    expected = messages.EXAMPLES_SMALL_FOR_SOURCE.fill(small=small, count=2)
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
    is_warned = advise_on_size(squares(*sides), scale, INPUT_SIZE, page.reporter())
    assert is_warned is (size is not None)
    if size is None:
        assert page.warnings == []
        return
    expected = messages.OBJECTS_SMALL.fill(width=np.median(sides), size=size)
    assert page.warnings == [expected]


@pytest.mark.parametrize(
    ('low', 'high', 'outside'),
    [(0, 0, 0), (100, 400, 0), (101, 0, 1), (0, 399, 1), (150, 399, 2)],
)
def test_area_limits_that_exclude_examples_are_warned_of(page, low, high, outside):
    advise_on_areas([100, 225, 400], low, high, page.reporter())
    expected = messages.EXAMPLES_OUTSIDE_LIMITS.fill(
        outside=outside, count=3, smallest=100, largest=400
    )
    assert page.warnings == ([expected] if outside else [])


# 20 outlines like the examples, which have 100 to 400 pixels, 2 crumbs and 1 clump
UPLOADED = {50: 10, 800: 10, 49: 2, 801: 1}


@pytest.mark.parametrize(
    ('examples', 'limits', 'uploaded', 'expected'),
    [
        ([100, 225, 400], (30, 0), UPLOADED, (3, 23, 50, 800)),
        ([225], (30, 0), UPLOADED, (23, 23, 112, 450)),
        # the user's own limits are stricter
        ([100, 400], (60, 0), UPLOADED, (13, 23, 60, 800)),
        ([100, 400], (30, 500), {49: 3, 500: 20}, (3, 23, 50, 500)),
        # too few
        ([100, 400], (30, 0), {49: 2, 100: 10}, None),
        ([100, 400], (30, 0), {49: 3, 100: 27}, (3, 30, 50, 800)),
        ([100, 400], (30, 0), {49: 3, 100: 28}, None),
        ([100, 400], (30, 0), {}, None),
        # the limits exclude an example, of which another warning tells
        ([100, 400], (101, 0), UPLOADED, None),
        ([100, 400], (30, 399), UPLOADED, None),
        # a limit that the field does not accept
        ([100, 50_001], (30, 0), {49: 9, 200_000: 9}, (9, 18, 50, 0)),
        ([300_000], (30, 0), {49: 9, 100_000: 9}, (9, 18, 100_000, 0)),
    ],
)
def test_area_limits_are_proposed(page, examples, limits, uploaded, expected):
    advise_on_limits(examples, *limits, uploaded, page.reporter())
    if expected is None:
        assert page.warnings == []
        return
    removed, count, low, high = expected
    smallest, largest = min(examples), max(examples)
    message = messages.AREAS_DIFFER.fill(
        removed=removed, count=count, low=low, high=high, smallest=smallest, largest=largest
    )
    assert page.warnings == [message]


areas = st.integers(1, 10**6)


@given(
    st.lists(areas, min_size=1), areas, st.one_of(st.just(0), areas), st.dictionaries(areas, areas)
)
def test_proposed_area_limits_fit_the_fields_and_the_examples(examples, low, high, uploaded):
    page = Page()
    low = min(low, MAX_MASK_AREA)
    advise_on_limits(examples, low, min(high, MAX_MASK_AREA), uploaded, page.reporter())
    for _, hint in page.warnings:
        proposed = [int(number) for number in re.findall(r'\d+', hint)]
        limits = [
            fields[name].read({name: one}) for name, one in zip(AREA_FIELDS, proposed, strict=True)
        ]
        assert all(has_allowed_area(area, *limits) for area in examples)


@pytest.mark.parametrize(
    ('side', 'points'),
    [
        (20, 103),
        (64, 32),
        (63, 33),
        (127, 17),
        (128, 16),
        (500, 16),
        (17, 121),
        (16, 128),
        (3, 128),
    ],
)
def test_grid_has_four_points_on_the_smallest_example(side, points):
    assert propose_points(side**2 / 1024**2) == points
    assert fields['Points per side'].read({'Points per side': points}) == points


@pytest.mark.parametrize(
    ('side', 'points', 'proposed', 'seen', 'times'),
    [
        (20, 16, 103, '0.1', '41.4'),
        (20, 72, 103, '2.0', '2.0'),
        (20, 73, None, '', ''),  # two points are no reason to warn
        (8, 64, 128, '0.2', '4.0'),
        (8, 128, None, '', ''),  # more are not possible
    ],
)
def test_coarse_grid_is_warned_of(page, side, points, proposed, seen, times):
    advise_on_coarse_grid(side**2 / 1024**2, points, page.reporter())
    if proposed is None:
        assert page.warnings == []
        return
    ((text, hint),) = page.warnings
    assert text.startswith(f'Points per side {points} is coarse')
    assert f'about {seen} points' in text
    assert f'Set it to {proposed}' in hint
    assert f'{times} times' in hint


def make_timed_state(proposing: float, searching: float, kept: int = 1) -> JobState:
    """Return the state of a job of one frame that took so many seconds."""
    state = JobState([], Stopwatch(lambda: 0.0))
    state.stopwatch.seconds['propose'] = proposing
    state.forecast.note_frame(searching)
    state.note_searched(Counts(kept=kept), [])
    return state


@pytest.mark.parametrize(
    ('points', 'proposing', 'searching', 'saved'),
    [
        (128, 40, 50, '30 s'),  # with half of the points per side
        (128, 13.4, 20, '10 s'),
        (128, 13.2, 20, None),  # less than 10 s
        (128, 40, 149, '30 s'),
        (128, 40, 151, None),  # less than a fifth
        (66, 40, 41, None),
        (64, 40, 41, None),
        (32, 40, 41, None),  # too coarse
    ],
)
def test_grid_that_takes_too_much_time_is_warned_of(page, points, proposing, searching, saved):
    state = make_timed_state(proposing, searching)
    advise_on_fine_grid(4 / 64**2, points, state, page.reporter())
    if saved is None:
        assert page.warnings == []
        return
    expected = messages.GRID_FINE.fill(
        points=points, proposed=64, least=4, saved=saved, whole=describe_seconds(searching)
    )
    assert page.warnings == [expected]


def test_time_of_the_grid_does_not_matter_if_nothing_was_found(page):
    advise_on_fine_grid(0.1, 128, make_timed_state(1_000, 1_000, kept=0), page.reporter())
    advise_on_fine_grid(0.1, 128, JobState([], Stopwatch(lambda: 0.0)), page.reporter())
    assert page.warnings == []


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
    state = JobState([], Stopwatch(lambda: 0.0), thresholds=[0.8, 0.85])
    state.note_found([0.82, 0.84, *[0.9] * 6])
    state.note_uploaded(Counts(known=known), [])
    advise_on_existing(0.85, state, page.reporter())
    expected = messages.MOSTLY_KNOWN.fill(known=known, found=6)
    assert page.warnings == ([expected] if is_warned else [])


def test_nothing_found_is_not_known(page):
    state = JobState([], Stopwatch(lambda: 0.0), thresholds=[0.85])
    advise_on_existing(0.85, state, page.reporter())
    assert page.warnings == []
