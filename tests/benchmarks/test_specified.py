"""The method as specified, on pictures small enough to check by hand."""
import numpy as np
import pytest
import torch
import torchvision
from segment_anything import automatic_mask_generator

from benchmarks.specified import cut_mask, load_model, patch_nms, pool, propose
from fewshot.frames import ensure_rgb
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.features import pool_features_with_mask
from tests.small_model import CENTRES, CHECKPOINT, draw_discs, small_parameters
from tests.worker import REPOSITORY


@pytest.fixture
def names_are_put_back(monkeypatch):
    """What a test patches for good is as before after it."""
    for module in (torchvision.ops.boxes, automatic_mask_generator):
        monkeypatch.setattr(module, 'batched_nms', module.batched_nms)


def test_the_patch_replaces_both_references_and_suppresses_as_before(names_are_put_back):
    boxes = torch.rand(3000, 4, generator=torch.Generator().manual_seed(0)) * 50
    boxes[:, 2:] += boxes[:, :2] + 1
    scores, one_category = torch.rand(3000), torch.zeros(3000)
    expected = torchvision.ops.nms(boxes, scores, 0.7)
    patch_nms()
    for module in (torchvision.ops.boxes, automatic_mask_generator):
        assert module.batched_nms is torchvision.ops.boxes._batched_nms_coordinate_trick
        assert torch.equal(module.batched_nms(boxes, scores, one_category, 0.7), expected)


@pytest.mark.parametrize('module', ['torchvision.ops.boxes', 'segment_anything.automatic_mask_generator'])
def test_the_patch_fails_loudly_where_a_name_is_gone(monkeypatch, names_are_put_back, module):
    monkeypatch.delattr(f'{module}.batched_nms')
    with pytest.raises(AttributeError, match='batched_nms'):
        patch_nms()


def test_the_patch_fails_loudly_where_the_trick_is_gone(monkeypatch, names_are_put_back):
    monkeypatch.delattr('torchvision.ops.boxes._batched_nms_coordinate_trick')
    with pytest.raises(AttributeError, match='_batched_nms_coordinate_trick'):
        patch_nms()


def test_it_proposes_full_size_masks_of_every_disc_within_the_area_limits(monkeypatch):
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))
    image, labels = draw_discs(CENTRES, radius=14)
    parameters = small_parameters(**{'Min Mask Area': 300, 'Max Mask Area': 900})
    records = propose(load_model(VIT_MINI, str(CHECKPOINT)).model, ensure_rgb(image / image.max()), parameters)
    masks = [record['segmentation'] for record in records]
    assert all(mask.shape == labels.shape and 300 <= mask.sum() <= 900 for mask in masks)
    for number in (1, 2, 3):
        disc = labels == number
        assert max((mask & disc).sum() / (mask | disc).sum() for mask in masks) > 0.7


@pytest.mark.parametrize('shape', [(40, 40), (23, 40), (57, 31), (200, 133)])
def test_its_pooling_and_the_workers_are_the_same_mean(shape):
    rng = np.random.default_rng(0)
    features = torch.tensor(rng.normal(size=(1, 5, 16, 16)), dtype=torch.float32)
    mask = rng.random(shape) < 0.3
    torch.testing.assert_close(pool(features, mask), pool_features_with_mask(features, mask, 16, 16))


def test_pooling_one_cell_gives_its_features():
    features = torch.arange(2 * 16, dtype=torch.float32).reshape(1, 2, 4, 4)
    mask = np.zeros((40, 40), bool)
    mask[10:20, 30:40] = True
    assert pool(features, mask).tolist() == [7, 23]


def test_a_mask_is_cut_to_the_smallest_box_around_it():
    mask = np.zeros((20, 30), bool)
    mask[4:7, 9], mask[5, 9:12] = True, True
    cut = cut_mask(mask)
    assert cut.box == (4, 9, 7, 12) and cut.mask.tolist() == [[1, 0, 0], [1, 1, 1], [1, 0, 0]]
