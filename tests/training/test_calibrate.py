"""The correction of the predicted IoU, with the small model's own tokens."""

import numpy as np
import pytest
import torch

from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.model import load_model
from tests.small_model import CENTRES, CHECKPOINT, draw_discs, small_predictor
from training.calibrate import POINTS, fit, gather
from training.crops import Crop
from training.shapes import IGNORED


@pytest.fixture(scope='module')
def crop() -> Crop:
    """Return three discs, with a part in the first one. The third is a fragment."""
    side = VIT_MINI.input_size
    image, labels = draw_discs([(2 * row, 2 * column) for row, column in CENTRES], 28, side)
    parts = draw_discs([(2 * CENTRES[0][0], 2 * CENTRES[0][1])], 10, side)[1] > 0
    rgb = np.repeat((image / image.max() * 255).astype(np.uint8)[..., None], 3, axis=2)
    labels[labels == 3] = IGNORED
    return Crop(rgb, labels, parts)


@torch.no_grad()
def test_true_iou_is_high_on_objects_and_zero_on_the_background(crop):
    tokens, true_iou = gather(small_predictor(), crop, np.random.default_rng(0))
    assert len(tokens) == len(true_iou) < POINTS  # no points on the fragment
    assert tokens.shape[1] == VIT_MINI.channels
    on_object = true_iou.any(dim=1)
    expected = (crop.labels > 0).mean() / (crop.labels >= 0).mean()
    assert on_object.float().mean() == pytest.approx(expected, abs=0.05)
    assert true_iou[on_object, 0].mean() > 0.7
    assert 0 <= true_iou.min() <= true_iou.max() <= 1


@torch.no_grad()
def test_only_the_predicted_iou_changes_and_the_preferred_masks_stay():
    model = load_model(VIT_MINI, str(CHECKPOINT))
    head = model.mask_decoder.iou_prediction_head
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tokens = torch.randn(500, VIT_MINI.channels, generator=torch.Generator().manual_seed(1))
    predicted = head(tokens)[:, 1:]
    true_iou = 0.5 * predicted - 0.1
    fit(model, tokens, true_iou)

    corrected = head(tokens)[:, 1:]
    highest, which = corrected.max(dim=1)
    assert torch.equal(which, predicted.argmax(dim=1))
    expected = true_iou.gather(1, which[:, None])[:, 0]
    assert (highest - expected).abs().mean() < 0.02
    for name, value in model.state_dict().items():
        if 'iou_prediction_head.layers.2' not in name:
            assert torch.equal(value, before[name]), name
