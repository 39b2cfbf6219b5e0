import copy
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT

from fewshot.sam import attention
from fewshot.sam.attention import fuse_attention, narrow_blocks
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.model import build_sam
from tests.small_model import CENTRES, CHECKPOINT, draw_discs


def small_encoder() -> ImageEncoderViT:
    """The small model's encoder with its weights, as segment_anything computes it."""
    model = build_sam(VIT_MINI)
    model.load_state_dict(torch.load(CHECKPOINT, weights_only=True))
    return model.image_encoder.requires_grad_(False)


def three_blocks_of_vit_b(side: int = 320) -> ImageEncoderViT:
    """Two blocks with windows of 14 cells and one without, at ViT-B's width, all weights random.

    With 20 cells a side, the second window of a row is filled up with 8 columns of zeros.
    """
    torch.manual_seed(0)
    encoder = ImageEncoderViT(img_size=side, depth=3, use_rel_pos=True, window_size=14, global_attn_indexes=(1,))
    for name, values in encoder.named_parameters():
        if 'pos' in name:  # zeros, as the encoder is built
            torch.nn.init.normal_(values, std=0.3)
    return encoder.eval().requires_grad_(False)


def fused(encoder: ImageEncoderViT) -> ImageEncoderViT:
    """A copy of an encoder, with fused attention."""
    encoder = copy.deepcopy(encoder)
    fuse_attention(encoder)
    return encoder


def picture() -> torch.Tensor:
    """Discs as the small model's encoder takes them: (1, 3, 256, 256) float32."""
    image = draw_discs(CENTRES, 9, side=256)[0] / 1000 - 1
    return torch.as_tensor(np.stack([image] * 3)[None], dtype=torch.float32)


def test_the_small_model_gives_the_same_features_with_fused_attention():
    encoder, image = small_encoder(), picture()
    torch.testing.assert_close(fused(encoder)(image), encoder(image), rtol=0, atol=1e-4)


@pytest.mark.parametrize(('shape', 'side'), [
    ((1, 3, 320, 320), 320),  # windows that are filled up
    ((2, 3, 320, 320), 320),  # two images, which must not mix
    ((1, 3, 224, 224), 224),  # windows that fit: 14 cells
])
def test_vit_b_gives_the_same_features_with_fused_attention(shape, side):
    encoder, images = three_blocks_of_vit_b(side), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(fused(encoder)(images), encoder(images), rtol=0, atol=1e-4)


@pytest.mark.parametrize('heads', [1, 5])  # the last group of the latter has 2 of the 12
def test_heads_come_out_the_same_in_groups_of_any_size(heads):
    encoder, image = three_blocks_of_vit_b(), torch.randn(2, 3, 320, 320)
    with patch.dict(attention.BIAS_BYTES, cpu=heads * 2 * 4 * 196 ** 2 * 4):  # of 2 × 4 windows
        torch.testing.assert_close(fused(encoder)(image), encoder(image), rtol=0, atol=1e-4)


def test_no_more_bias_exists_at_a_time_than_is_allowed():
    encoder, sizes = fused(three_blocks_of_vit_b()), []

    def attend(*arguments, attn_mask):
        sizes.append(attn_mask.nbytes)
        return stock(*arguments, attn_mask=attn_mask)

    stock, most = F.scaled_dot_product_attention, 3 * 400 ** 2 * 4  # three heads of 20 × 20 cells
    with patch.dict(attention.BIAS_BYTES, cpu=most), patch.object(F, 'scaled_dot_product_attention', attend):
        encoder(torch.randn(1, 3, 320, 320))
    assert max(sizes) == most
    assert sizes.count(most) == 4  # the 12 heads of the block without windows


def test_narrow_blocks_give_float32_features_close_to_those_of_wide_ones():
    encoder, image = fused(small_encoder()), picture()
    expected = encoder(image)
    narrow_blocks(encoder)
    features = encoder(image)
    assert features.dtype == torch.float32
    error = (features - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 0 < error < 0.005
    assert {values.dtype for name, values in encoder.named_parameters() if '.attn.' in name or '.mlp.' in name} == {
        torch.bfloat16}
