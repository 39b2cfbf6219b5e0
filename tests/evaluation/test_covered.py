"""The share of the points that lie inside accepted masks."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation import groups
from evaluation.covered import count_covered, is_far_above, main
from evaluation.groups import Group, draw_group
from evaluation.images import Scene
from fewshot.geometry import Box
from fewshot.sam.candidates import Candidate, pack_mask
from fewshot.sam.checkpoints import VIT_H


def make_candidate(box: Box, predicted_iou: float = 1.0, stability_score: float = 1.0) -> Candidate:
    """Return a mask that fills its box."""
    mask = np.ones((box.height, box.width), bool)
    return Candidate(box, pack_mask(mask), mask.size, predicted_iou, stability_score)


@pytest.mark.parametrize(
    ('boxes', 'covered'),
    [
        ([], 0),
        ([Box(0, 0, 8, 8)], 16),  # all cells of 2×2 pixels
        ([Box(0, 0, 4, 4)], 4),
        ([Box(1, 1, 5, 5)], 1),  # only one cell lies inside completely
        ([Box(0, 0, 2, 1), Box(0, 1, 2, 2)], 1),  # two masks cover a cell together
    ],
)
def test_a_point_is_covered_if_all_pixels_of_its_cell_are(boxes, covered):
    masks = [make_candidate(box) for box in boxes]
    assert count_covered(masks, (8, 8, 3), points=4) == covered


@pytest.mark.parametrize(
    ('predicted_iou', 'stability_score', 'far'),
    [(0.95, 0.98, True), (0.93, 0.98, False), (0.95, 0.97, False)],
)
def test_both_scores_must_be_half_the_way_from_the_threshold_to_1(
    predicted_iou, stability_score, far
):
    one = make_candidate(Box(0, 0, 2, 2), predicted_iou, stability_score)
    checkpoint = replace(VIT_H, pred_iou_thresh=0.88, stability_score_thresh=0.95)
    assert is_far_above(one, checkpoint) == far


def draw_small(name: str, seed: int = 0) -> Group:
    """Draw a picture that takes seconds."""
    scene = Scene(256, (groups.PLAIN,), (12,), gap=3)
    return draw_group(name, scene, 1, groups.SEED + 10 * seed)


def test_the_table_bounds_the_time_by_the_points_inside_masks(capsys):
    main(['--groups', 'plain', '--points', '16'], draw_small)
    head, _, row = capsys.readouterr().out.splitlines()
    assert head.split('|')[1].strip() == 'Pictures'
    name, points, every, faster, far, less_faster = (one.strip() for one in row.split('|')[1:-1])
    assert name == 'plain'
    assert points == '256'
    assert 0 < int(far.rstrip('%')) <= int(every.rstrip('%')) < 100
    assert 1 < float(less_faster.rstrip('×')) <= float(faster.rstrip('×'))
