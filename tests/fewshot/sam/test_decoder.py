from dataclasses import replace
from functools import cache

import pytest
import torch
from segment_anything.modeling import Sam

from fewshot.sam.checkpoints import VIT_H
from fewshot.sam.decoder import decode_points, predict_masks, project_image
from fewshot.sam.model import build_sam
from tests.small_model import small_predictor


@cache
def model_with_large_decoder() -> Sam:
    """Build SAM with ViT-H's prompt encoder and mask decoder, and a tiny image encoder."""
    torch.manual_seed(0)
    model = build_sam(replace(VIT_H, width=16, depth=1, heads=1, global_blocks=(0,)))
    for parameter in model.mask_decoder.parameters():  # some biases are built as zeros
        torch.nn.init.normal_(parameter, std=0.08)
    return model


def decode_as_published(
    model: Sam, image_embedding: torch.Tensor, points: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute low-resolution masks and IoU predictions by `MaskDecoder.forward`."""
    labels = torch.ones(len(points), 1, dtype=torch.int)
    sparse, dense = model.prompt_encoder((points[:, None], labels), boxes=None, masks=None)
    return model.mask_decoder(
        image_embeddings=image_embedding,
        image_pe=model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )


@pytest.mark.parametrize(
    'get_model',
    [lambda: small_predictor().model, model_with_large_decoder],
    ids=['small', 'size of ViT-H'],
)
@pytest.mark.parametrize('count', [1, 3])
def test_decoder_gives_the_published_numbers(get_model, count):
    model = get_model()
    height, width = model.prompt_encoder.image_embedding_size
    channels = model.prompt_encoder.embed_dim
    generator = torch.Generator().manual_seed(1)
    image_embedding = torch.randn(1, channels, height, width, generator=generator)
    points = torch.rand(count, 2, generator=generator) * model.image_encoder.img_size

    with torch.inference_mode():
        expected_masks, expected_iou = decode_as_published(model, image_embedding, points)
        image = project_image(model, image_embedding)
        queries, keys, iou_predictions = decode_points(model, image, points)
        masks = predict_masks(model, queries, keys)

    assert masks.shape == expected_masks.shape == (count, 3, 4 * height, 4 * width)
    for actual, expected in ((iou_predictions, expected_iou), (masks, expected_masks)):
        assert expected.std() > 0
        tolerance = 1e-5 * expected.abs().max().item()
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=tolerance)
