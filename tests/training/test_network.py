import pytest
import torch

from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.model import build_sam
from training.network import decode, encode, look_at_neighbours, prepare


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    model = build_sam(VIT_MINI)
    prepare(model)
    return model


@pytest.fixture(scope='module')
def pixels():
    torch.manual_seed(1)
    return torch.randn(1, 3, VIT_MINI.input_size, VIT_MINI.input_size)


@torch.inference_mode()
def test_a_whole_input_is_encoded_as_by_the_model_itself(model, pixels):
    torch.testing.assert_close(encode(model, pixels), model.image_encoder(pixels))


@torch.inference_mode()
def test_points_are_decoded_as_by_the_model_itself(model, pixels):
    embedding = model.image_encoder(pixels)
    points = torch.tensor([[30.5, 100.5], [200.5, 8.5]])
    logits, predicted_iou = decode(model, embedding, points[None], torch.zeros(1, 2, dtype=int))
    # SAM adds half a pixel to get from a pixel's number to its middle
    prompt = (points - 0.5)[:, None], torch.ones(2, 1)
    sparse, dense = model.prompt_encoder(points=prompt, boxes=None, masks=None)
    expected = model.mask_decoder(
        image_embeddings=embedding,
        image_pe=model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
    torch.testing.assert_close(logits, expected[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(predicted_iou, expected[1], rtol=1e-3, atol=1e-4)


@torch.inference_mode()
def test_a_head_looks_at_the_neighbour_it_was_given(model):
    attention = build_sam(VIT_MINI).image_encoder.blocks[0].attn
    look_at_neighbours(attention, [(0, 3)], 1)
    channels = attention.qkv.in_features
    query = attention.qkv.bias[:channels].view(attention.num_heads, -1)[0]
    across = attention.rel_pos_w @ query
    # The first position of the embeddings is the key farthest to the right
    key_to_the_right = len(across) // 2 - int(across.argmax())
    assert key_to_the_right == 3


def test_the_encoder_sees_no_absolute_position(model):
    assert not model.image_encoder.pos_embed.any()
    assert not model.image_encoder.pos_embed.requires_grad
