import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.model import build_sam, load_model
from tests.small_model import GRID
from training.synthetic import make_image
from training.train import decode, draw_crop, draw_points, measure_loss, prepare, save

SIDE = VIT_MINI.input_size


@pytest.fixture
def labels() -> np.ndarray:
    return make_image(np.random.default_rng(0))[1][:SIDE, :SIDE]


def test_a_point_lies_on_the_mask_it_stands_for(labels):
    points, masks = draw_points(labels, np.random.default_rng(1))
    assert masks.shape == (len(points), 1, SIDE, SIDE)
    for (x, y), mask in zip(points[:, 0].tolist(), masks[:, 0], strict=True):
        assert mask[int(y), int(x)] == 1
        assert (
            len(np.unique(labels[mask.bool().numpy()])) == 1
        )  # one object or the background, all of it


def test_an_image_without_objects_gives_points_on_the_background():
    _, masks = draw_points(np.zeros((SIDE, SIDE), np.int32), np.random.default_rng(1))
    assert masks.all()


def test_an_image_full_of_objects_gives_no_point_on_the_background():
    _, masks = draw_points(np.ones((SIDE, SIDE), np.int32), np.random.default_rng(1))
    assert masks.all()


def test_a_crop_has_the_size_of_the_models_input():
    rgb, labels = draw_crop([], np.random.default_rng(2))
    assert rgb.shape == (SIDE, SIDE, 3)
    assert labels.shape == (SIDE, SIDE)


def test_the_loss_is_smallest_for_the_right_mask_with_the_right_predicted_iou(labels):
    _, masks = draw_points(labels, np.random.default_rng(3))
    small = torch.nn.functional.interpolate(masks, size=(SIDE // 4, SIDE // 4), mode='area')
    right = (small.expand(-1, 3, -1, -1) - 0.5) * 20
    sure, unsure = torch.ones(len(masks), 3), torch.zeros(len(masks), 3)
    good, best, preferred = measure_loss(right, sure, masks)
    assert best == pytest.approx(1, abs=1e-3)
    assert preferred == pytest.approx(1, abs=1e-3)
    assert good < measure_loss(right, unsure, masks)[0] < measure_loss(-right, unsure, masks)[0]


def test_from_the_prepared_start_a_points_code_meets_the_images():
    torch.manual_seed(0)
    model = build_sam(VIT_MINI)
    prepare(model)
    attention = model.mask_decoder.transformer.final_attn_token_to_image
    assert torch.equal(attention.q_proj.weight, attention.k_proj.weight)


def test_what_is_saved_is_what_the_worker_loads(tmp_path):
    torch.manual_seed(0)
    model = build_sam(VIT_MINI)
    save(AveragedModel(model), tmp_path / 'mini.pth')
    loaded = load_model(VIT_MINI, str(tmp_path / 'mini.pth')).state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded[name].cpu(), value, rtol=1e-3, atol=1e-6)


def test_points_are_decoded_to_three_masks_and_their_predicted_iou():
    model = build_sam(VIT_MINI)
    with torch.no_grad():
        logits, predicted = decode(
            model, torch.zeros(1, VIT_MINI.channels, GRID, GRID), torch.full((5, 1, 2), 40.0)
        )
    assert logits.shape == (5, 3, 4 * GRID, 4 * GRID)
    assert predicted.shape == (5, 3)
