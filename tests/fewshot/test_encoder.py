import numpy as np
import pytest
import torch
from segment_anything import SamPredictor
from segment_anything.build_sam import build_sam_vit_h

from fewshot.encoder import (
    build_sam,
    describe_object,
    encode_image_with_sam1,
    load_predictor,
    pool_features_with_mask,
)
from fewshot.models import VIT_H, VIT_MINI
from tests.small_model import CHECKPOINT, small_predictor


def shapes(model: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def test_vit_h_is_built_as_segment_anything_builds_it():
    with torch.device('meta'):  # shapes alone, for the weights would fill 2.5 GB
        ours, theirs = build_sam(VIT_H), build_sam_vit_h()
        assert shapes(ours) == shapes(theirs)
        assert str(ours) == str(theirs)  # kinds and settings of all layers
    blocks = [(block.window_size, block.attn.num_heads) for block in ours.image_encoder.blocks]
    assert blocks == [(block.window_size, block.attn.num_heads) for block in theirs.image_encoder.blocks]
    assert ours.image_encoder.img_size == theirs.image_encoder.img_size == 1024


def test_vit_h_has_641_million_parameters():
    with torch.device('meta'):
        assert round(sum(value.numel() for value in build_sam(VIT_H).parameters()) / 1e6) == 641


def test_the_small_model_is_no_larger_than_20_megabytes():
    assert CHECKPOINT.stat().st_size < 20e6


@pytest.mark.parametrize('shape', [(128, 128), (300, 200), (90, 256)])
def test_encoding_gives_what_sam_predictor_gives(shape):
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    predictor = small_predictor()
    stock = SamPredictor(predictor.model)
    stock.set_image(image)
    features = encode_image_with_sam1(predictor, image)
    assert features.shape == (1, 128, 16, 16)
    torch.testing.assert_close(features, stock.features, rtol=0, atol=0)


def test_pooling_weights_each_cell_by_how_much_of_it_the_mask_covers():
    features = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    mask = np.zeros((8, 8), bool)
    mask[0:2, 0:2] = True  # all of cell (0, 0)
    mask[2:3, 0:2] = True  # half of cell (1, 0)
    expected = (features[0, :, 0, 0] + 0.5 * features[0, :, 1, 0]) / 1.5
    torch.testing.assert_close(pool_features_with_mask(features, mask, 4, 4), expected)


@pytest.mark.parametrize(('shape', 'cells'), [((4, 8), (2, 4)), ((8, 4), (4, 2)), ((8, 8), (4, 4))])
def test_pooling_leaves_out_what_the_encoder_padded(shape, cells):
    features = torch.full((1, 1, 4, 4), 100.0)
    features[..., :cells[0], :cells[1]] = 1  # the image; the rest is padding
    assert pool_features_with_mask(features, np.ones(shape, bool), 4, 4).item() == pytest.approx(1)


def test_an_empty_mask_averages_over_everything():
    features = torch.rand(1, 5, 4, 4)
    pooled = pool_features_with_mask(features, np.zeros((9, 9), bool), 4, 4)
    torch.testing.assert_close(pooled, features[0].mean(dim=(1, 2)))


def test_the_smallest_object_in_a_large_crop_is_pooled_where_it_lies():
    features = torch.zeros(1, 1, 4, 4)
    features[..., 3, 2] = 7
    mask = np.zeros((400, 400), bool)
    mask[399, 250] = True
    assert pool_features_with_mask(features, mask, 4, 4).item() == pytest.approx(7)


def test_like_objects_are_more_alike_than_a_bright_and_a_dark_one():
    rows, columns = np.mgrid[:64, :64]
    disc = np.hypot(rows - 32, columns - 32) < 14
    noise = np.random.default_rng(1).integers(0, 20, (64, 64, 3))
    bright, fainter, dark = (
        (np.where(disc, inside, outside)[..., None] + noise).astype(np.uint8)
        for inside, outside in ((200, 20), (180, 25), (20, 200)))
    vectors = [describe_object(small_predictor(), image, disc) for image in (bright, fainter, dark)]
    alike, unlike = (torch.cosine_similarity(vectors[0], other, dim=0) for other in vectors[1:])
    assert alike > 0.95 and alike > unlike + 0.05


@pytest.mark.parametrize('content', [b'', b'<html>404</html>', None])
def test_a_file_without_the_models_weights_is_refused_by_name(tmp_path, content):
    path = tmp_path / 'sam_vit_mini.pth'
    if content is None:
        torch.save({'some.other.weight': torch.zeros(3)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match='does not hold the weights of sam_vit_mini') as caught:
        load_predictor(VIT_MINI, str(path))
    assert str(path) in caught.value.__notes__[0]
