"""Whether two runs have found the same: every way in which they may differ is seen."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks.findings import (
    Findings,
    compare,
    load_findings,
    mask_iou,
    outline_iou,
    save_findings,
)
from benchmarks.specified import cut_mask
from fewshot.geometry import Box, CutMask

THRESHOLD = 0.8
FOUND = Findings(
    [
        CutMask(Box(10, 20, 60, 60), np.ones((50, 40), bool)),
        CutMask(Box(0, 0, 30, 70), np.ones((30, 70), bool)),
        CutMask(Box(80, 5, 120, 45), np.tri(40, dtype=bool)),
    ],
    np.array([0.9, 0.8, 0.7]),
    np.array([0.95, 0.5, 0.85]),
)
OUTLINES = [
    np.array([(20, 10), (60, 10), (60, 60), (20, 60.0)]),
    np.array([(5, 80), (45, 120), (5, 120.0)]),
]
IOU = 49 * 40 / (50 * 40)  # of the first object and itself without a row


def problems(worker: Findings, outlines=OUTLINES) -> list[str]:
    return compare(FOUND, worker, THRESHOLD, OUTLINES, outlines).problems


def test_a_run_agrees_with_itself():
    agreement = compare(FOUND, FOUND, THRESHOLD, OUTLINES, OUTLINES)
    assert not agreement.problems
    assert str(agreement) == (
        '3 candidates, 0 masks differ (lowest IoU 1.00000), 0 outlines differ (lowest IoU '
        '1.00000), similarities by 0.0e+00 at most'
    )


def test_runs_that_found_nothing_agree():
    nothing = Findings([], np.empty(0), np.empty(0))
    assert not compare(nothing, nothing, THRESHOLD, [], []).problems


def test_a_missing_candidate_is_seen():
    fewer = Findings(FOUND.objects[:2], FOUND.predicted_iou[:2], FOUND.similarities[:2])
    (problem,) = problems(fewer, OUTLINES[:1])
    assert problem == 'The method as specified proposes 3 candidates, the worker 2.'


def test_a_mask_that_lacks_a_row_is_seen():
    smaller = CutMask(Box(10, 20, 59, 60), np.ones((49, 40), bool))
    agreement = compare(
        FOUND, replace(FOUND, objects=[smaller, *FOUND.objects[1:]]), THRESHOLD, OUTLINES, OUTLINES
    )
    assert agreement.other_masks == 1 and agreement.mask_iou == IOU
    assert (
        len(agreement.problems) == 1 and f'A mask has an IoU of {IOU:.5f}' in agreement.problems[0]
    )


def test_one_pixel_of_many_is_reported_but_no_problem():
    mask = FOUND.objects[1].mask.copy()
    mask[3, 3] = False
    other = replace(
        FOUND, objects=[FOUND.objects[0], CutMask(FOUND.objects[1].box, mask), FOUND.objects[2]]
    )
    agreement = compare(FOUND, other, THRESHOLD, OUTLINES, OUTLINES)
    assert (
        agreement.other_masks == 1 and agreement.mask_iou == 2099 / 2100 and not agreement.problems
    )


def test_another_order_is_seen():
    swapped = Findings(*(value[::-1] for value in vars(FOUND).values()))
    assert any('the order does' in problem for problem in problems(swapped, OUTLINES[::-1]))


@pytest.mark.parametrize(('gap', 'count'), [(5e-5, 0), (2e-4, 1), (np.nan, 1)])
def test_a_similarity_may_differ_by_less_than_a_ten_thousandth(gap, count):
    assert (
        len(problems(replace(FOUND, similarities=FOUND.similarities + np.array([0, gap, 0]))))
        == count
    )


def test_an_outline_that_lacks_a_row_is_seen():
    (problem,) = problems(FOUND, [OUTLINES[0].clip(None, [60, 59]), OUTLINES[1]])
    assert f'An outline has an IoU of {IOU:.5f}' in problem


def test_what_one_run_alone_has_kept_at_the_threshold_is_passed_over():
    at_threshold = replace(FOUND, similarities=np.array([0.95, THRESHOLD, 0.85]))
    below = replace(FOUND, similarities=np.array([0.95, THRESHOLD - 1e-6, 0.85]))
    three = [OUTLINES[0], np.array([(0, 0), (70, 0), (70, 30.0)]), OUTLINES[1]]
    assert not compare(at_threshold, below, THRESHOLD, three, OUTLINES).problems


def test_a_run_that_did_not_upload_what_it_kept_is_refused():
    with pytest.raises(ValueError, match='argument 2 is shorter'):
        problems(FOUND, OUTLINES[:1])


def test_findings_are_read_as_they_were_written(tmp_path):
    save_findings(FOUND, tmp_path / 'findings.npz')
    read = load_findings(tmp_path / 'findings.npz')
    assert [one.box for one in read.objects] == [one.box for one in FOUND.objects]
    for one, other in zip(read.objects, FOUND.objects, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
    np.testing.assert_array_equal(read.predicted_iou, FOUND.predicted_iou)
    np.testing.assert_array_equal(read.similarities, FOUND.similarities)


MASKS = arrays(bool, (7, 9)).filter(np.any)


@given(MASKS, MASKS)
def test_masks_in_their_boxes_have_the_iou_of_the_whole_masks(one, other):
    assert mask_iou(cut_mask(one), cut_mask(other)) == (one & other).sum() / (one | other).sum()


@given(st.floats(0, 20), st.floats(1, 20))
def test_squares_beside_each_other_have_the_iou_of_their_overlap(shift, side):
    square = np.array([(0, 0), (side, 0), (side, side), (0, side)])
    shared = max(0, side - shift) * side
    assert outline_iou(square, square + (shift, 0)) == pytest.approx(
        shared / (2 * side**2 - shared), abs=1e-9
    )
