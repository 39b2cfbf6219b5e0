"""SAM's mask decoder for many points of one image: the numbers of `MaskDecoder`, for less work.

- Predicting the IoU needs the transformer only. So masks are predicted for those points only that
  have a good one.
- The first layer gets the same image embedding for every point. So it is projected once per image.
- A point has 7 tokens, an image has thousands of cells. So an attention between them projects the
  tokens with the matrices of both sides, and the cells not at all: q . (W k) = (W^T q) . k, and
  sum(a * (W v)) = W sum(a * v).
- The convolutions that enlarge masks have no overlap, so each is a matrix product. The channels of
  a cell stay together until there is one logit for each mask, and only logits are put in rows.

As in segment_anything, `queries` are the tokens of a point, `keys` the cells of the image, and
`query_pe` and `key_pe` their positional encodings.

B: points, T: tokens of a point, N: cells of the image embedding, C: channels, H: heads, D: channels
of a head.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock


@dataclass(frozen=True)
class ProjectedImage:
    """An image embedding, with the projections that the first layer makes of it for every point."""

    keys: torch.Tensor  # (N, C), image embedding
    key_pe: torch.Tensor  # (N, C), dense positional encoding
    token_to_image_k: torch.Tensor  # (H, D, N)
    token_to_image_v: torch.Tensor  # (H, N, D)
    image_to_token_q: torch.Tensor  # (H, D, N)


def project_image(model: Sam, image_embedding: torch.Tensor) -> ProjectedImage:
    """Do the part of the decoder's work that is the same for every point of an image.

    Parameters
    ----------
    model : Sam
    image_embedding : (1, C, h, w) float32 tensor
        From the image encoder.

    Returns
    -------
    ProjectedImage
    """
    prompt_encoder = model.prompt_encoder
    first_layer = model.mask_decoder.transformer.layers[0]

    # There is no mask prompt: its dense embedding is the same for all cells.
    dense_embedding = prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    keys = _flatten_cells(image_embedding + dense_embedding)  # (N, C)
    key_pe = _flatten_cells(prompt_encoder.get_dense_pe())  # (N, C)

    token_to_image = first_layer.cross_attn_token_to_image
    image_to_token = first_layer.cross_attn_image_to_token
    k = _separate_heads(token_to_image.k_proj(keys + key_pe), token_to_image)  # (H, N, D)
    v = _separate_heads(token_to_image.v_proj(keys), token_to_image)  # (H, N, D)
    q = _separate_heads(image_to_token.q_proj(keys + key_pe), image_to_token)  # (H, N, D)
    return ProjectedImage(
        keys,
        key_pe,
        token_to_image_k=k.transpose(1, 2).contiguous(),
        token_to_image_v=v.contiguous(),
        image_to_token_q=q.transpose(1, 2).contiguous(),
    )


def decode_points(
    model: Sam, image: ProjectedImage, point_coords: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run the decoder's transformer for some points and predict how good their masks are.

    Parameters
    ----------
    model : Sam
    image : ProjectedImage
    point_coords : (B, 2) float32 tensor
        x and y in pixels of the model's input.

    Returns
    -------
    queries : (B, T, C) tensor
    keys : (B, N, C) tensor
    iou_predictions : (B, 3) tensor
        Of the three masks of each point.
    """
    transformer = model.mask_decoder.transformer
    first_layer, *other_layers = transformer.layers
    query_pe = _embed_points(model, point_coords)  # (B, T, C)
    queries, keys = _run_first_layer(first_layer, query_pe, image)
    for layer in other_layers:
        queries, keys = _run_layer(layer, queries, keys, query_pe, image.key_pe)

    attn_out = _attend_token_to_image(
        transformer.final_attn_token_to_image,
        q=queries + query_pe,
        k=keys + image.key_pe,
        v=keys,
    )
    queries = transformer.norm_final_attn(queries + attn_out)
    iou_token = queries[:, 0]
    # The first of the four masks is for prompts of several points.
    iou_predictions = model.mask_decoder.iou_prediction_head(iou_token)[:, 1:]
    return queries, keys, iou_predictions


def predict_masks(model: Sam, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Predict the three masks of each point.

    Parameters
    ----------
    model : Sam
    queries : (B, T, C) tensor
    keys : (B, N, C) tensor
        Both from `decode_points`.

    Returns
    -------
    (B, 3, 4h, 4w) tensor
        Low-resolution logits, four along the side of each of the h x w cells.
    """
    decoder = model.mask_decoder
    first_conv, norm, activation, second_conv, _ = decoder.output_upscaling
    upscaled = _double(keys, first_conv)  # (B, N, 2, 2, C / 4)
    upscaled = F.layer_norm(upscaled, norm.weight.shape, norm.weight, norm.bias, norm.eps)
    upscaled = _double(activation(upscaled), second_conv)  # (B, N, 2, 2, 2, 2, C / 8)
    upscaled = activation(upscaled).flatten(1, -2)  # (B, 16N, C / 8)

    # Token 0 is for the IoU, token 1 for the mask of several points.
    hypernetworks = decoder.output_hypernetworks_mlps[1:]
    mask_tokens = queries[:, 2:5].unbind(dim=1)  # three of (B, C)
    hyper_in = [mlp(token) for mlp, token in zip(hypernetworks, mask_tokens, strict=True)]
    low_res_masks = torch.stack(hyper_in, dim=1) @ upscaled.transpose(1, 2)  # (B, 3, 16N)

    height, width = model.prompt_encoder.image_embedding_size
    low_res_masks = _place_cells(low_res_masks, height, width)  # (B, 3, 4hw * 4)
    low_res_masks = _place_cells(low_res_masks, 2 * height, 2 * width)
    return low_res_masks.unflatten(2, (4 * height, 4 * width))


def _double(x: torch.Tensor, conv: torch.nn.ConvTranspose2d) -> torch.Tensor:
    """Do for cells in any order what a transposed convolution with stride 2 does for an image.

    Parameters
    ----------
    x : (..., C) tensor
        Channels of each cell.
    conv : ConvTranspose2d
        Its kernel has 2 x 2 pixels, as its stride, so each cell becomes 2 x 2 cells by itself.

    Returns
    -------
    (..., 2, 2, D) tensor
        Rows, columns and channels of the new cells.
    """
    assert conv.bias is not None
    weight = conv.weight.permute(2, 3, 1, 0)  # (2, 2, D, C)
    new_cells = F.linear(x, weight.flatten(0, 2), conv.bias.repeat(4))
    return new_cells.unflatten(-1, weight.shape[:3])


def _place_cells(logits: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Put the 2 x 2 cells of each cell in their rows and columns.

    Parameters
    ----------
    logits : (B, 3, height * width * 4 * n) tensor
        Row by row, then by row and column within the cell, and n logits of each.
    height, width : int

    Returns
    -------
    (B, 3, height * width * 4 * n) tensor
        By rows of 2 * width cells.
    """
    cells = logits.unflatten(2, (height, width, 2, 2, -1))
    return cells.transpose(3, 4).flatten(2)


def _flatten_cells(embedding: torch.Tensor) -> torch.Tensor:
    """List the cells of an embedding: (1, C, h, w) -> (N, C)."""
    return embedding[0].flatten(1).T.contiguous()


def _embed_points(model: Sam, point_coords: torch.Tensor) -> torch.Tensor:
    """Embed the tokens of each point, marked as foreground: (B, 2) -> (B, T, C)."""
    decoder = model.mask_decoder
    count = len(point_coords)
    labels = torch.ones(count, 1, dtype=torch.int, device=point_coords.device)
    points = point_coords[:, None], labels
    sparse_embeddings, _ = model.prompt_encoder(points, boxes=None, masks=None)  # (B, 2, C)
    output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])  # (5, C)
    return torch.cat([output_tokens.expand(count, -1, -1), sparse_embeddings], dim=1)


def _run_first_layer(
    layer: TwoWayAttentionBlock, query_pe: torch.Tensor, image: ProjectedImage
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the layer whose keys are the same for all points.

    Parameters
    ----------
    layer : TwoWayAttentionBlock
    query_pe : (B, T, C) tensor
    image : ProjectedImage

    Returns
    -------
    queries : (B, T, C) tensor
    keys : (B, N, C) tensor
    """
    # Self-attention, without positional encoding in this layer
    queries = layer.norm1(layer.self_attn(query_pe, query_pe, query_pe))

    # Tokens attend to the image
    attn_out = _attend_token_to_projected_image(
        layer.cross_attn_token_to_image, queries + query_pe, image
    )
    queries = _run_mlp(layer, queries + attn_out)

    # The image attends to the tokens
    attention = layer.cross_attn_image_to_token
    attn = _weigh_tokens_for_projected_image(attention, image, queries + query_pe)
    return queries, layer.norm4(_add_tokens(image.keys, attention, attn, queries))


def _run_layer(
    layer: TwoWayAttentionBlock,
    queries: torch.Tensor,
    keys: torch.Tensor,
    query_pe: torch.Tensor,
    key_pe: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run any layer but the first.

    Parameters
    ----------
    layer : TwoWayAttentionBlock
    queries : (B, T, C) tensor
    keys : (B, N, C) tensor
    query_pe : (B, T, C) tensor
    key_pe : (N, C) tensor

    Returns
    -------
    queries : (B, T, C) tensor
    keys : (B, N, C) tensor
    """
    # Self-attention
    q = queries + query_pe
    queries = layer.norm1(queries + layer.self_attn(q, q, queries))

    # Tokens attend to the image
    q, k = queries + query_pe, keys + key_pe
    attn_out = _attend_token_to_image(layer.cross_attn_token_to_image, q, k, v=keys)
    queries = _run_mlp(layer, queries + attn_out)

    # The image attends to the tokens
    attention = layer.cross_attn_image_to_token
    attn = _weigh_tokens(attention, q=k, k=queries + query_pe)
    return queries, layer.norm4(_add_tokens(keys, attention, attn, queries))


def _run_mlp(layer: TwoWayAttentionBlock, queries: torch.Tensor) -> torch.Tensor:
    """Normalise the tokens (B, T, C) after the attention to the image, and apply the MLP."""
    queries = layer.norm2(queries)
    return layer.norm3(queries + layer.mlp(queries))


def _attend_token_to_image(
    attention: Attention, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """Compute `attention(q, k, v)` without projecting the cells of the image.

    Parameters
    ----------
    attention : Attention
    q : (B, T, C) tensor
        Tokens.
    k, v : (B, N, C) tensor
        Cells, with and without positional encoding.

    Returns
    -------
    (B, T, C) tensor
    """
    heads = attention.num_heads
    q = attention.q_proj(q) * _scale(attention)
    q = q.unflatten(-1, (heads, -1))  # (B, T, H, D)
    # The bias of k_proj adds the same to the scores of all cells, so softmax removes it.
    k_weight = attention.k_proj.weight.unflatten(0, (heads, -1))  # (H, D, C)
    q = torch.einsum('bthd,hdc->bhtc', q, k_weight)  # (B, H, T, C)
    attn = torch.softmax(q.flatten(1, 2) @ k.transpose(1, 2), dim=-1)  # (B, H * T, N)
    out = (attn @ v).unflatten(1, (heads, -1))  # (B, H, T, C)
    v_weight = attention.v_proj.weight.unflatten(0, (heads, -1))  # (H, D, C)
    out = torch.einsum('bhtc,hdc->bthd', out, v_weight).flatten(2)  # (B, T, H * D)
    return attention.out_proj(out + attention.v_proj.bias)


def _attend_token_to_projected_image(
    attention: Attention, q: torch.Tensor, image: ProjectedImage
) -> torch.Tensor:
    """Compute `attention(q, k, v)` in the first layer: (B, T, C) -> (B, T, C)."""
    q = _separate_heads(attention.q_proj(q) * _scale(attention), attention)  # (H, B, T, D)
    attn = torch.softmax(q.flatten(1, 2) @ image.token_to_image_k, dim=-1)  # (H, B * T, N)
    out = (attn @ image.token_to_image_v).unflatten(1, q.shape[1:3])  # (H, B, T, D)
    return attention.out_proj(out.movedim(0, 2).flatten(2))


def _weigh_tokens(attention: Attention, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Compute how much each cell takes from each token of its point.

    Parameters
    ----------
    attention : Attention
    q : (B, N, C) tensor
        Cells with positional encoding.
    k : (B, T, C) tensor
        Tokens with positional encoding.

    Returns
    -------
    (B, H * T, N) tensor
        Sums over T are 1.
    """
    heads = attention.num_heads
    k = attention.k_proj(k) * _scale(attention)
    k = k.unflatten(-1, (heads, -1))  # (B, T, H, D)
    q_bias = attention.q_proj.bias.unflatten(0, (heads, -1))  # (H, D)
    bias = torch.einsum('bthd,hd->bht', k, q_bias).flatten(1)[..., None]  # (B, H * T, 1)
    q_weight = attention.q_proj.weight.unflatten(0, (heads, -1))  # (H, D, C)
    k = torch.einsum('bthd,hdc->bhtc', k, q_weight).flatten(1, 2)  # (B, H * T, C)
    scores = torch.baddbmm(bias, k, q.transpose(1, 2))  # (B, H * T, N)
    return torch.softmax(scores.unflatten(1, (heads, -1)), dim=2).flatten(1, 2)


def _weigh_tokens_for_projected_image(
    attention: Attention, image: ProjectedImage, k: torch.Tensor
) -> torch.Tensor:
    """Do what `_weigh_tokens` does in the first layer: (B, T, C) -> (B, H * T, N)."""
    k = _separate_heads(attention.k_proj(k) * _scale(attention), attention)  # (H, B, T, D)
    scores = (k.flatten(1, 2) @ image.image_to_token_q).unflatten(1, k.shape[1:3])  # (H, B, T, N)
    return torch.softmax(scores, dim=2).transpose(0, 1).flatten(1, 2)


def _add_tokens(
    keys: torch.Tensor, attention: Attention, attn: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """Add the projected tokens, summed by their weights, to the cells.

    Parameters
    ----------
    keys : (N, C) or (B, N, C) tensor
    attention : Attention
    attn : (B, H * T, N) tensor
        From `_weigh_tokens`.
    v : (B, T, C) tensor
        Tokens without positional encoding.

    Returns
    -------
    (B, N, C) tensor
    """
    heads = attention.num_heads
    v = attention.v_proj(v).unflatten(-1, (heads, -1))  # (B, T, H, D)
    out_weight = attention.out_proj.weight.unflatten(1, (heads, -1))  # (C, H, D)
    v = torch.einsum('bthd,chd->bhtc', v, out_weight).flatten(1, 2)  # (B, H * T, C)
    # The weights of a head sum to 1, so a share of the bias in each token adds up to the bias.
    v = v + attention.out_proj.bias / heads
    return torch.baddbmm(keys, attn.transpose(1, 2), v)


def _separate_heads(projected: torch.Tensor, attention: Attention) -> torch.Tensor:
    """Split channels by head and put the heads first: (..., H * D) -> (H, ..., D)."""
    return projected.unflatten(-1, (attention.num_heads, -1)).movedim(-2, 0)


def _scale(attention: Attention) -> float:
    """Return 1 / sqrt(D)."""
    return 1 / math.sqrt(attention.internal_dim // attention.num_heads)
