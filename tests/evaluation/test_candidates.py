"""The candidates and their vectors are those of a job, and the truth is that of the scores."""

from dataclasses import replace

import numpy as np
import pytest

from demo.dataset import color_picture
from demo.processes import ROOT
from evaluation import groups
from evaluation.candidates import Describer, judge, try_group
from evaluation.groups import draw_group
from evaluation.images import Scene
from evaluation.scoring import find_ignored, forget_shown
from fewshot.geometry import Box
from fewshot.sam.candidates import Candidate, pack_mask
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.model import load_model
from fewshot.sam.segmenter import SamSegmenter
from tests.small_model import GRID, SIDE


@pytest.fixture(scope='module')
def model():
    return load_model(VIT_MINI, str(ROOT / 'models' / VIT_MINI.file), 'float32')


@pytest.fixture(scope='module')
def group():
    scene = Scene(SIDE, (groups.ROUND, groups.LONG), (5, 4), gap=4)
    return draw_group('two kinds', scene, 2, groups.SEED)


@pytest.mark.parametrize('tile_size', [0, 220])
def test_a_trial_has_the_candidates_and_vectors_of_a_search(model, group, tile_size):
    group = replace(group, tile_size=tile_size)
    trial = try_group(group, Describer(model, VIT_MINI, points=16))
    shape = len(group.examples), VIT_MINI.channels
    assert trial.examples.by_crop.shape == trial.examples.by_frame.shape == shape
    assert len(trial.candidates) == len(trial.wanted) == (2 if not tile_size else 8)
    assert sum(one.sum() for one in trial.wanted) >= 2
    assert trial.cells == pytest.approx(
        GRID / (tile_size or SIDE) * min(max(one.mask.shape) for one in trial.examples.objects)
    )
    if tile_size:
        return
    rgb = color_picture(group.images[1])
    for whole_frame, name in ((False, 'by_crop'), (True, 'by_frame')):
        segmenter = SamSegmenter(
            model, VIT_MINI, points_per_side=16, occupancy=0.2, whole_frame=whole_frame
        )
        found = trial.candidates[1]
        vectors = segmenter.describe(rgb, found.objects, lambda share: None)
        assert getattr(found, name) == pytest.approx(vectors, abs=1e-5)


def test_candidates_are_judged_by_the_objects_that_count(group):
    labels, wanted = group.labels[0], group.wanted[0]
    shown = group.examples
    unseen = forget_shown(group, shown)[0]
    ignored = find_ignored(labels, unseen, wanted, smallest=50)
    assert not ignored[0]
    assert ignored.sum() >= sum(one.position == 0 for one in shown)

    found = []
    for number in range(1, labels.max() + 1):
        mask = labels == number
        whole = Box(0, 0, *labels.shape)
        found.append(Candidate(whole, pack_mask(mask), int(mask.sum()), 0.9, 0.9))
    square = pack_mask(np.ones((4, 4), bool))
    row, column = np.argwhere(labels == 0)[0]
    found.append(Candidate(Box(row, column, row + 4, column + 4), square, 16, 0.9, 0.9))
    counts, is_wanted = judge(found, None, labels, wanted, ignored)
    assert counts.tolist() == [*(~ignored[1:]), True]
    assert is_wanted.tolist() == [*(wanted & ~ignored)[1:], False]
