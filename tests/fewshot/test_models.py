import hashlib

import pytest

from fewshot.models import KNOWN, MODELS, VIT_H, VIT_MINI
from fewshot.parameters import checkpoint_path
from tests.small_model import CHECKPOINT


def test_vit_h_is_the_model_that_is_always_offered():
    assert MODELS == ['sam_vit_h_4b8939'] and KNOWN['sam_vit_h_4b8939'] is VIT_H
    assert (VIT_H.pred_iou_thresh, VIT_H.stability_score_thresh, VIT_H.box_nms_thresh) == (0.88, 0.95, 0.7)


def test_the_small_model_carried_here_is_the_one_described():
    content = CHECKPOINT.read_bytes()
    assert len(content) == VIT_MINI.size
    assert hashlib.sha256(content).hexdigest() == VIT_MINI.sha256


@pytest.mark.parametrize('checkpoint', KNOWN.values(), ids=KNOWN)
def test_a_checkpoint_is_looked_for_under_its_name(checkpoint, monkeypatch):
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', '/weights')
    assert checkpoint_path(checkpoint) == f'/weights/{checkpoint.name}.pth'
