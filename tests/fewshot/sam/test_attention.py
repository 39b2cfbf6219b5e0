import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT
from torch.overrides import TorchFunctionMode

from fewshot.sam.attention import fuse_attention, narrow_blocks
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.model import build_sam
from tests.small_model import CENTRES, CHECKPOINT, draw_discs


def small_encoder() -> ImageEncoderViT:
    """Load the small model's encoder, as segment_anything computes it."""
    model = build_sam(VIT_MINI)
    model.load_state_dict(torch.load(CHECKPOINT, weights_only=True))
    return model.image_encoder.requires_grad_(False)


def three_blocks_of_vit_b(side: int = 320) -> ImageEncoderViT:
    """Build two blocks with windows of 14 cells and one without, with ViT-B's width.

    With 20 cells per side, the second window of a row has 8 columns of padding.
    """
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=side, depth=3, use_rel_pos=True, window_size=14, global_attn_indexes=(1,)
    )
    for name, values in encoder.named_parameters():
        if 'pos' in name:  # these are built as zeros
            torch.nn.init.normal_(values, std=0.3)
    return encoder.eval().requires_grad_(False)


def fuse(encoder: ImageEncoderViT, **options) -> ImageEncoderViT:
    """Copy an encoder and fuse its attention."""
    encoder = copy.deepcopy(encoder)
    fuse_attention(encoder, **options)
    return encoder


def draw_input() -> torch.Tensor:
    """Draw discs as the small model's encoder takes them: (1, 3, side, side) float32."""
    image = draw_discs(CENTRES, 9, side=VIT_MINI.input_size)[0] / 1000 - 1
    return torch.as_tensor(np.stack([image] * 3)[None], dtype=torch.float32)


class RecordBias(TorchFunctionMode):
    """Records the bytes of every position bias."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = options or {}
        if function is F.scaled_dot_product_attention:
            self.sizes.append(options['attn_mask'].nbytes)
        return function(*arguments, **options)


def test_fused_attention_keeps_the_features_of_the_small_model():
    encoder, image = small_encoder(), draw_input()
    torch.testing.assert_close(fuse(encoder)(image), encoder(image), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ('shape', 'side'),
    [
        pytest.param((1, 3, 320, 320), 320, id='padded windows'),
        pytest.param((2, 3, 320, 320), 320, id='two images'),
        pytest.param((1, 3, 224, 224), 224, id='windows that fit'),
    ],
)
def test_fused_attention_keeps_the_features_of_vit_b(shape, side):
    encoder = three_blocks_of_vit_b(side)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(fuse(encoder)(images), encoder(images), rtol=0, atol=1e-4)


ROW = 14 * 196 * 4  # bytes of bias of a row of a window, in one head


@pytest.mark.parametrize(
    'bias_bytes',
    [
        pytest.param(ROW // 2, id='single rows'),
        pytest.param(4 * ROW, id='the last group has 2 of 14 rows'),
        pytest.param(14 * ROW, id='single heads'),
        pytest.param(5 * 14 * ROW, id='the last group has 1 of 96 heads of windows'),
    ],
)
def test_size_of_groups_does_not_change_the_features(bias_bytes):
    encoder, images = three_blocks_of_vit_b(), torch.randn(2, 3, 320, 320)
    fused = fuse(encoder, bias_bytes={'cpu': bias_bytes})
    torch.testing.assert_close(fused(images), encoder(images), rtol=0, atol=1e-4)


def test_bias_stays_within_its_memory():
    bias_bytes = 3 * 400**2 * 4  # three heads of 20 x 20 cells
    encoder = fuse(three_blocks_of_vit_b(), bias_bytes={'cpu': bias_bytes})
    with RecordBias() as record:
        encoder(torch.randn(1, 3, 320, 320))
    assert max(record.sizes) == bias_bytes
    assert record.sizes.count(bias_bytes) == 4  # the 12 heads of the block without windows


def test_narrow_blocks_give_nearly_the_same_float32_features():
    encoder, image = fuse(small_encoder()), draw_input()
    expected = encoder(image)
    narrow_blocks(encoder)
    features = encoder(image)
    assert features.dtype == torch.float32
    error = (features - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 0 < error < 0.005
    for name, values in encoder.named_parameters():
        is_narrow = '.attn.' in name or '.mlp.' in name
        assert (values.dtype == torch.bfloat16) == is_narrow, name
