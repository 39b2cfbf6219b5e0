"""SAM's mask decoder, asked at many points of one frame: the numbers of `MaskDecoder.predict_masks`, for less work.

- The predicted IoU needs the transformer alone: masks are drawn for those points only of which one is good enough.
- The first layer sees the same cells whatever the point: they are projected once a frame.
- A point has seven tokens, a frame thousands of cells. An attention between them never needs the cells projected, for
  q · (W c) = (Wᵀ q) · c and Σ a (W c) = W (Σ a c): the matrices go to the tokens.

B: points, T: tokens of a point, N: cells of the feature grid, C: channels, H: heads, D: channels of a head.
"""
import math
from dataclasses import dataclass

import torch
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock


@dataclass(frozen=True)
class Ground:
    """What the decoder knows of a frame before any point is asked."""

    cells: torch.Tensor  # (N, C) features
    places: torch.Tensor  # (N, C) positions
    keys: torch.Tensor  # (H, D, N) of the first layer's tokens → cells
    values: torch.Tensor  # (H, N, D) of the same
    queries: torch.Tensor  # (H, D, N) of the first layer's cells → tokens


def prepare_ground(model: Sam, features: torch.Tensor) -> Ground:
    """The part of the decoder's work that is the same for every point of a frame.

    Parameters
    ----------
    features : (1, C, h, w) from the image encoder
    """
    prompts, first = model.prompt_encoder, model.mask_decoder.transformer.layers[0]
    no_mask = prompts.no_mask_embed.weight.reshape(1, -1, 1, 1)
    cells, places = _list_cells(features + no_mask), _list_cells(prompts.get_dense_pe())
    to_image, to_tokens = first.cross_attn_token_to_image, first.cross_attn_image_to_token
    return Ground(
        cells, places,
        keys=_split_heads(to_image, to_image.k_proj(cells + places)).transpose(1, 2).contiguous(),
        values=_split_heads(to_image, to_image.v_proj(cells)).contiguous(),
        queries=_split_heads(to_tokens, to_tokens.q_proj(cells + places)).transpose(1, 2).contiguous())


def ask_points(model: Sam, ground: Ground, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the decoder thinks of each point, before it draws.

    Parameters
    ----------
    points : (B, 2) float32, x and y in pixels of the model's input

    Returns
    -------
    tokens : (B, T, C)
    cells : (B, N, C)
    predicted_iou : (B, 3) of the three masks
    """
    transformer = model.mask_decoder.transformer
    first, *others = transformer.layers
    prompts = _embed_points(model, points)
    tokens = first.norm1(first.self_attn(prompts, prompts, prompts))
    tokens = _take_in(first, tokens, _look_at_ground(first.cross_attn_token_to_image, tokens + prompts, ground))
    weights = _weigh_tokens_on_ground(first.cross_attn_image_to_token, tokens + prompts, ground)
    cells = first.norm4(ground.cells + _hand_out(first.cross_attn_image_to_token, tokens, weights))
    for layer in others:
        asking = tokens + prompts
        tokens = layer.norm1(tokens + layer.self_attn(asking, asking, tokens))
        placed = cells + ground.places
        tokens = _take_in(
            layer, tokens, _look_at_cells(layer.cross_attn_token_to_image, tokens + prompts, cells, placed))
        weights = _weigh_tokens(layer.cross_attn_image_to_token, tokens + prompts, placed)
        cells = layer.norm4(cells + _hand_out(layer.cross_attn_image_to_token, tokens, weights))
    seen = _look_at_cells(
        transformer.final_attn_token_to_image, tokens + prompts, cells, cells + ground.places)
    tokens = transformer.norm_final_attn(tokens + seen)
    return tokens, cells, model.mask_decoder.iou_prediction_head(tokens[:, 0])[:, 1:]


def draw_logits(model: Sam, tokens: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """The three masks of each point as logits, four to a cell's side: (B, 3, 4h, 4w).

    `tokens` and `cells` are those of `ask_points`.
    """
    decoder = model.mask_decoder
    height, width = model.prompt_encoder.image_embedding_size
    upscaled = decoder.output_upscaling(cells.transpose(1, 2).unflatten(2, (height, width)))
    strokes = torch.stack(
        [decoder.output_hypernetworks_mlps[number](tokens[:, 1 + number]) for number in (1, 2, 3)], dim=1)
    return (strokes @ upscaled.flatten(2)).unflatten(2, upscaled.shape[2:])


def _list_cells(grid: torch.Tensor) -> torch.Tensor:
    return grid[0].flatten(1).T.contiguous()  # (N, C)


def _embed_points(model: Sam, points: torch.Tensor) -> torch.Tensor:
    foreground = torch.ones(len(points), 1, dtype=torch.int, device=points.device)
    sparse, _ = model.prompt_encoder(points=(points[:, None], foreground), boxes=None, masks=None)
    decoder = model.mask_decoder
    output = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    return torch.cat([output.expand(len(points), -1, -1), sparse], dim=1)  # (B, T, C)


def _take_in(layer: TwoWayAttentionBlock, tokens: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    tokens = layer.norm2(tokens + seen)
    return layer.norm3(tokens + layer.mlp(tokens))


def _split_heads(attention: Attention, projected: torch.Tensor) -> torch.Tensor:
    return projected.unflatten(-1, (attention.num_heads, -1)).movedim(-2, 0)  # (H, ..., D)


def _scale(attention: Attention) -> float:
    return 1 / math.sqrt(attention.internal_dim // attention.num_heads)


def _look_at_ground(attention: Attention, asking: torch.Tensor, ground: Ground) -> torch.Tensor:
    """What tokens (B, T, C) see in the cells that all points share: (B, T, C)."""
    queries = _split_heads(attention, attention.q_proj(asking) * _scale(attention))  # (H, B, T, D)
    weights = torch.softmax(queries.flatten(1, 2) @ ground.keys, dim=-1)  # (H, B T, N)
    seen = (weights @ ground.values).unflatten(1, asking.shape[:2])  # (H, B, T, D)
    return attention.out_proj(seen.movedim(0, 2).flatten(2))


def _look_at_cells(
        attention: Attention, asking: torch.Tensor, cells: torch.Tensor, placed: torch.Tensor) -> torch.Tensor:
    """What tokens (B, T, C) see in their own point's cells (B, N, C), with and without positions: (B, T, C)."""
    heads = attention.num_heads
    queries = (attention.q_proj(asking) * _scale(attention)).unflatten(-1, (heads, -1))  # (B, T, H, D)
    # the keys' bias adds the same to every cell, and softmax takes it out again
    queries = torch.einsum('bthd,hdc->bhtc', queries, attention.k_proj.weight.unflatten(0, (heads, -1)))
    weights = torch.softmax(queries.flatten(1, 2) @ placed.transpose(1, 2), dim=-1)  # (B, H T, N)
    seen = (weights @ cells).unflatten(1, (heads, -1))  # (B, H, T, C)
    seen = torch.einsum('bhtc,hdc->bthd', seen, attention.v_proj.weight.unflatten(0, (heads, -1))).flatten(2)
    return attention.out_proj(seen + attention.v_proj.bias)


def _weigh_tokens_on_ground(attention: Attention, offering: torch.Tensor, ground: Ground) -> torch.Tensor:
    """How much the shared cells take from each token of each point: (B, H T, N), sums over T are 1."""
    keys = _split_heads(attention, attention.k_proj(offering) * _scale(attention))  # (H, B, T, D)
    scores = (keys.flatten(1, 2) @ ground.queries).unflatten(1, offering.shape[:2])  # (H, B, T, N)
    return torch.softmax(scores, dim=2).transpose(0, 1).flatten(1, 2)


def _weigh_tokens(attention: Attention, offering: torch.Tensor, placed: torch.Tensor) -> torch.Tensor:
    """How much the cells (B, N, C) of a point take from each of its tokens: (B, H T, N), sums over T are 1."""
    heads = attention.num_heads
    keys = (attention.k_proj(offering) * _scale(attention)).unflatten(-1, (heads, -1))  # (B, T, H, D)
    bias = torch.einsum('bthd,hd->bht', keys, attention.q_proj.bias.unflatten(0, (heads, -1))).flatten(1)
    keys = torch.einsum('bthd,hdc->bhtc', keys, attention.q_proj.weight.unflatten(0, (heads, -1))).flatten(1, 2)
    scores = torch.baddbmm(bias[..., None], keys, placed.transpose(1, 2))  # (B, H T, N)
    return torch.softmax(scores.unflatten(1, (heads, -1)), dim=2).flatten(1, 2)


def _hand_out(attention: Attention, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """What the cells get from the tokens (B, T, C) by the weights (B, H T, N): (B, N, C)."""
    heads = attention.num_heads
    values = attention.v_proj(tokens).unflatten(-1, (heads, -1))  # (B, T, H, D)
    values = torch.einsum('bthd,chd->bhtc', values, attention.out_proj.weight.unflatten(1, (heads, -1))).flatten(1, 2)
    return torch.baddbmm(attention.out_proj.bias, weights.transpose(1, 2), values)
