from dataclasses import replace
from functools import cache

import pytest
import torch
from segment_anything.modeling import Sam

from fewshot.sam.checkpoints import VIT_H
from fewshot.sam.decoder import ask_points, draw_logits, prepare_ground
from fewshot.sam.model import build_sam
from tests.small_model import small_predictor


@cache
def large_decoder() -> Sam:
    """SAM with ViT-H's prompt encoder and mask decoder, their weights random, behind an encoder that is not used."""
    torch.manual_seed(0)
    model = build_sam(replace(VIT_H, width=16, depth=1, heads=1, global_blocks=(0,)))
    for parameter in model.mask_decoder.parameters():  # the biases too, which start at zero in part
        torch.nn.init.normal_(parameter, std=0.08)
    return model


def ask_stock(model: Sam, features: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and predicted IoU of the decoder as it was published."""
    sparse, dense = model.prompt_encoder(
        points=(points[:, None], torch.ones(len(points), 1, dtype=torch.int)), boxes=None, masks=None)
    return model.mask_decoder(
        image_embeddings=features, image_pe=model.prompt_encoder.get_dense_pe(), sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense, multimask_output=True)


@pytest.mark.parametrize('model', [lambda: small_predictor().model, large_decoder], ids=['small', 'size of ViT-H'])
@pytest.mark.parametrize('count', [1, 3])
def test_any_points_get_the_logits_and_the_predicted_iou_of_the_stock_decoder(model, count):
    model = model()
    height, width = model.prompt_encoder.image_embedding_size
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, model.prompt_encoder.embed_dim, height, width, generator=generator)
    points = torch.rand(count, 2, generator=generator) * model.image_encoder.img_size
    with torch.inference_mode():
        logits, scores = ask_stock(model, features, points)
        tokens, cells, predicted_iou = ask_points(model, prepare_ground(model, features), points)
        drawn = draw_logits(model, tokens, cells)
    assert drawn.shape == logits.shape == (count, 3, 4 * height, 4 * width)
    assert scores.std() > 0 and logits.std() > 0
    torch.testing.assert_close(predicted_iou, scores, rtol=1e-4, atol=1e-5 * scores.abs().max().item())
    torch.testing.assert_close(drawn, logits, rtol=1e-4, atol=1e-5 * logits.abs().max().item())
