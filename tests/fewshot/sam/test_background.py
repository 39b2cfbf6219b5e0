"""Points on the background are skipped, and the objects are found all the same."""

import numpy as np
import pytest

from fewshot.geometry import Box
from fewshot.sam.background import find_covered, is_far_above, plan_passes
from fewshot.sam.candidates import Candidate, pack_mask
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.features import encode_image_with_sam1
from fewshot.sam.proposals import propose_candidates
from tests.fewshot.sam.drawing import place
from tests.fewshot.sam.test_proposals import draw_frame
from tests.small_model import small_predictor


def make_mask(top: int, left: int, mask: np.ndarray) -> Candidate:
    box = Box(top, left, top + mask.shape[0], left + mask.shape[1])
    return Candidate(box, pack_mask(mask), int(mask.sum()), 0.9, 0.9)


@pytest.mark.parametrize('points', [1, 2, 3, 16, 33])
def test_each_point_is_in_one_pass(points):
    passes = plan_passes(points)
    assert sorted(np.concatenate(passes).tolist()) == list(range(points**2))


def test_scores_far_above_a_threshold_are_half_way_to_one():
    assert is_far_above(0.75, threshold=0.5)
    assert not is_far_above(0.74, threshold=0.5)


def test_points_are_covered_if_their_whole_cells_are():
    mask = np.ones((20, 40), bool)
    mask[12, 33] = False  # in the cell of row 2 and column 3
    covered = find_covered([make_mask(0, 0, mask)], (20, 40, 3), 4).reshape(4, 4)
    assert np.argwhere(~covered).tolist() == [[2, 3]]

    # two masks cover a cell together; cells of a size that is no whole number of pixels
    left, right = (
        make_mask(0, 0, np.ones((20, 15), bool)),
        make_mask(0, 15, np.ones((20, 15), bool)),
    )
    covered = find_covered([left, right], (20, 40), 3).reshape(3, 3)
    assert covered.tolist() == [[True, True, False]] * 3


def test_small_masks_are_no_background():
    small = make_mask(0, 0, np.ones((10, 9), bool))
    assert not find_covered([small], (20, 20), 10).any()
    assert find_covered([make_mask(0, 0, np.ones((10, 10), bool))], (20, 20), 10).sum() == 25


def test_the_objects_are_those_of_all_points():
    rgb, labels = draw_frame()
    predictor = small_predictor()
    found, asked = [], []
    for skip_background in (False, True):
        shares: list[float] = []
        proposed = propose_candidates(
            predictor.model,
            encode_image_with_sam1(predictor, rgb),
            rgb.shape,
            VIT_MINI,
            points_per_side=24,
            report=shares.append,
            skip_background=skip_background,
        )
        assert shares == sorted(shares)
        assert shares[-1] <= 1
        asked.append(len(shares))
        found.append([place(one, rgb.shape) for one in proposed])
    assert asked[1] < asked[0] / 2  # batches of points
    for number in (1, 2, 3):
        disc = labels == number
        best = [max((mask & disc).sum() / (mask | disc).sum() for mask in some) for some in found]
        assert best[1] > best[0] - 0.05
