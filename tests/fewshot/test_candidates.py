from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from segment_anything import SamAutomaticMaskGenerator, automatic_mask_generator

from fewshot import candidates
from fewshot.candidates import Candidate, has_allowed_area, patch_nms, propose_candidates
from fewshot.crops import Box
from fewshot.frames import ensure_rgb
from tests.small_model import CENTRES, draw_discs, small_parameters, small_predictor
from tests.worker import REPOSITORY


@pytest.fixture(autouse=True)
def small_model_folder(monkeypatch):
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))


def draw_picture() -> tuple[np.ndarray, np.ndarray]:
    image, labels = draw_discs(CENTRES, radius=14)
    return ensure_rgb(image / image.max()), labels


def ignore(share: float) -> None:
    """Take a report of progress."""


def test_every_disc_is_among_the_candidates():
    rgb, labels = draw_picture()
    found = propose_candidates(small_predictor().model, rgb, small_parameters(), ignore)
    for number in (1, 2, 3):
        disc = labels == number
        best = 0.0
        for candidate in found:
            mask = np.zeros_like(disc)
            mask[candidate.box.slices] = candidate.mask
            best = max(best, (mask & disc).sum() / (mask | disc).sum())
        assert best > 0.7


def test_the_candidates_are_the_stock_generators_masks():
    rgb, _ = draw_picture()
    parameters = small_parameters()
    stock = SamAutomaticMaskGenerator(
        small_predictor().model, points_per_side=16, min_mask_region_area=30,
        pred_iou_thresh=parameters.checkpoint.pred_iou_thresh,
        stability_score_thresh=parameters.checkpoint.stability_score_thresh,
        box_nms_thresh=parameters.checkpoint.box_nms_thresh,
        crop_nms_thresh=parameters.checkpoint.box_nms_thresh).generate(rgb)
    found = propose_candidates(small_predictor().model, rgb, parameters, ignore)
    assert len(found) == len(stock) > 0
    for candidate, record in zip(found, stock, strict=True):
        np.testing.assert_array_equal(candidate.mask, record['segmentation'][candidate.box.slices])
        assert candidate.area == record['segmentation'].sum()
        assert candidate.predicted_iou == record['predicted_iou']
        assert candidate.stability_score == record['stability_score']


def test_progress_moves_while_masks_are_proposed():
    shares: list[float] = []
    propose_candidates(small_predictor().model, draw_picture()[0], small_parameters(**{'Points per side': 20}),
                       shares.append)
    assert len(shares) == 7 and shares == sorted(shares) and shares[-1] == 1


def test_a_frame_without_anything_gives_no_candidates_or_some_but_no_failure():
    found = propose_candidates(small_predictor().model, np.zeros((100, 60, 3), np.uint8), small_parameters(), ignore)
    assert all(candidate.mask.any() for candidate in found)


@pytest.mark.parametrize(('low', 'high', 'allowed'), [
    (0, 0, True), (12, 0, True), (13, 0, False), (0, 12, True), (0, 11, False), (12, 12, True)])
def test_a_candidate_is_kept_within_both_area_limits_included(low, high, allowed):
    candidate = Candidate(Box(0, 0, 4, 4), np.arange(16).reshape(4, 4) < 12, 0.9, 0.9)
    assert candidate.area == 12
    assert has_allowed_area(candidate, SimpleNamespace(min_area=low, max_area=high)) is allowed


def test_the_patch_replaces_both_references_and_suppresses_as_before():
    boxes = torch.rand(3000, 4, generator=torch.Generator().manual_seed(0)) * 50
    boxes[:, 2:] += boxes[:, :2] + 1
    scores, one_category = torch.rand(3000), torch.zeros(3000)
    expected = torchvision.ops.nms(boxes, scores, 0.7)
    patch_nms()
    for module in (torchvision.ops.boxes, automatic_mask_generator):
        assert module.batched_nms is torchvision.ops.boxes._batched_nms_coordinate_trick
        assert torch.equal(module.batched_nms(boxes, scores, one_category, 0.7), expected)


@pytest.mark.parametrize('module', ['torchvision.ops.boxes', 'segment_anything.automatic_mask_generator'])
def test_the_patch_fails_loudly_where_a_name_is_gone(monkeypatch, module):
    monkeypatch.delattr(f'{module}.batched_nms')
    with pytest.raises(AttributeError, match='batched_nms'):
        patch_nms()


def test_the_patch_fails_loudly_where_the_trick_is_gone(monkeypatch):
    monkeypatch.delattr('torchvision.ops.boxes._batched_nms_coordinate_trick')
    with pytest.raises(AttributeError, match='_batched_nms_coordinate_trick'):
        patch_nms()


def test_a_large_frame_is_asked_with_fewer_points_at_a_time(monkeypatch):
    sizes = []

    class Spy:
        def __init__(self, model, report, **settings):
            sizes.append(settings['points_per_batch'])

        def generate(self, rgb):
            return []

    monkeypatch.setattr(candidates, '_ReportingGenerator', Spy)  # a real frame of this size would take minutes
    for side in (100, 1024, 2048, 20_000):
        propose_candidates(None, np.broadcast_to(np.uint8(0), (side, side, 3)), small_parameters(), ignore)
    assert sizes == [64, 64, 16, 1]
