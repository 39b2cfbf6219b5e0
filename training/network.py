"""The small SAM in training: its first weights, and how it runs on crops.

A crop is smaller than the model's input. The blocks see no absolute position, so the encoder runs
on a crop as on a piece of a frame. Points and cells get the positional encoding of a random place.
"""

import math

import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from segment_anything.modeling.image_encoder import Attention

SHARPNESS = 1.6  # of the first attention between points and image
SLOWEST, FASTEST = 1.0, 6.0  # frequencies of the positional encoding, periods per half input
NEAR = ((0, 1), (0, -1), (1, 0), (-1, 0))  # rows and columns, cells
DIAGONAL = ((1, 1), (1, -1), (-1, 1), (-1, -1))
FAR = ((2, 0), (0, 2), (-2, 0), (0, -2))
PIXEL_MAPS = 5  # object, edge, right, down, size


class PixelHead(torch.nn.Module):
    """Read from the image embedding what is known about each pixel. Used in training only.

    Parameters
    ----------
    channels : int
        Of the image embedding.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = torch.nn.Conv2d(channels, PIXEL_MAPS * 4**2, 1)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return (B, PIXEL_MAPS, 4h, 4w) for an image embedding (B, C, h, w)."""
        return F.pixel_shuffle(self.project(embedding), 4)


@torch.no_grad()
def prepare(model: Sam) -> None:
    """Initialize the weights so that the model learns quickly.

    - There is no absolute position in the encoder.
    - Each head of a block looks at a neighbouring cell. So the encoder begins as a network of
      convolutions. The embeddings of relative positions are sines and cosines of the distance, and
      the bias of the queries chooses one.
    - Queries and keys of the attention between points and image have equal weights. So the
      positional encoding of a point matches the one at its place from the first step.
    - The positional encoding has slow and fast frequencies, for large and small objects.

    Parameters
    ----------
    model : Sam
        Changed in place.
    """
    encoder = model.image_encoder
    encoder.pos_embed.zero_()
    encoder.pos_embed.requires_grad_(False)
    for number, block in enumerate(encoder.blocks):
        reach = 1 if block.window_size else 2
        is_even = number % 2 == 0
        near = NEAR if is_even else DIAGONAL
        far = FAR[:2] if number % 4 < 2 else FAR[2:]
        look_at_neighbours(block.attn, [*near, *far], reach)

    frequencies = model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix  # (2, C / 2)
    count = frequencies.shape[1]
    size = torch.logspace(math.log10(SLOWEST), math.log10(FASTEST), count)
    angle = torch.rand(count) * 2 * math.pi
    frequencies.copy_(torch.stack([size * torch.cos(angle), size * torch.sin(angle)]))

    transformer = model.mask_decoder.transformer
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in attentions:
        shared = torch.nn.init.orthogonal_(torch.empty_like(attention.q_proj.weight)) * SHARPNESS
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight.copy_(shared)
            projection.bias.zero_()


def look_at_neighbours(attention: Attention, neighbours: list[tuple[int, int]], reach: int) -> None:
    """Let each head of a block attend to a cell at some distance.

    Parameters
    ----------
    attention : Attention
        Changed in place.
    neighbours : list of tuple of int
        Rows and columns to the cell, one for each head in turn.
    reach : int
        Factor of these distances.
    """
    heads, channels = attention.num_heads, attention.qkv.in_features
    half = channels // heads // 2  # of a head's channels: for rows, and for columns
    frequencies = torch.logspace(math.log10(0.1), math.log10(2.6), half // 2)

    def encode_distance(distance: torch.Tensor) -> torch.Tensor:
        phases = distance[..., None] * frequencies
        return torch.stack([torch.cos(phases), torch.sin(phases)], dim=-1).flatten(-2)

    positions = len(attention.rel_pos_h)
    distances = encode_distance(torch.arange(positions) - positions // 2)
    attention.rel_pos_h.zero_()
    attention.rel_pos_w.zero_()
    attention.rel_pos_h[:, :half] = distances
    attention.rel_pos_w[:, half:] = distances
    query_bias = attention.qkv.bias[:channels].view(heads, 2 * half)
    for head in range(heads):
        row, column = neighbours[head % len(neighbours)]
        # The distance is that of the query from the key
        query_bias[head, :half] = encode_distance(torch.tensor(-reach * row))
        query_bias[head, half:] = encode_distance(torch.tensor(-reach * column))


def encode(model: Sam, pixels: torch.Tensor) -> torch.Tensor:
    """Compute the image embeddings of crops.

    The same as the model's own image encoder, for inputs of other sizes. Its attention adds the
    bias of relative positions as additional channels of queries and keys. This is faster to train.

    Parameters
    ----------
    model : Sam
    pixels : (B, 3, S, S) float32 tensor
        Normalised. S is a multiple of the windows' side.

    Returns
    -------
    (B, C, h, w) tensor
    """
    encoder = model.image_encoder
    x = encoder.patch_embed(pixels)
    for block in encoder.blocks:
        x = x + _attend(block.attn, block.norm1(x), block.window_size)
        x = x + block.mlp(block.norm2(x))
    return encoder.neck(x.permute(0, 3, 1, 2))


def _attend(attention: Attention, x: torch.Tensor, window_size: int) -> torch.Tensor:
    """Compute attention in windows, or over all cells if `window_size` is 0: (B, H, W, C)."""
    batch, height, width, channels = x.shape
    heads = attention.num_heads
    side = window_size or height
    down, across = height // side, width // side
    qkv = attention.qkv(x).view(batch, down, side, across, side, 3, heads, -1)
    qkv = qkv.permute(5, 0, 1, 3, 6, 2, 4, 7)  # (3, B, down, across, heads, side, side, d)
    q, k, v = qkv.reshape(3, batch * down * across, heads, side, side, -1)

    row_bias = torch.einsum('nhrcd,rkd->nhrck', q, _relative(attention.rel_pos_h, side, q.dtype))
    column_bias = torch.einsum('nhrcd,ckd->nhrck', q, _relative(attention.rel_pos_w, side, q.dtype))
    own = torch.eye(side, dtype=k.dtype)
    own_row = own[:, None].expand(side, side, side)
    own_column = own[None].expand(side, side, side)
    position = torch.cat([own_row, own_column], -1).expand(*k.shape[:4], -1)
    q = torch.cat([q * attention.scale, row_bias, column_bias], -1).flatten(2, 3)
    k = torch.cat([k, position], -1).flatten(2, 3)
    weights = (q @ k.transpose(-1, -2)).softmax(-1, dtype=q.dtype)
    x = weights @ v.flatten(2, 3)

    x = x.view(batch, down, across, heads, side, side, -1).permute(0, 1, 4, 2, 5, 3, 6)
    return attention.proj(x.reshape(batch, height, width, channels))


def _relative(embeddings: torch.Tensor, side: int, dtype: torch.dtype) -> torch.Tensor:
    """Look up the embedding of the distance of each query from each key: (side, side, d)."""
    position = torch.arange(side)
    distance = position[:, None] - position
    return embeddings[distance + len(embeddings) // 2].to(dtype)


def decode(
    model: Sam, embeddings: torch.Tensor, points: torch.Tensor, places: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode the masks at points of crops, like SAM's mask decoder.

    Parameters
    ----------
    model : Sam
    embeddings : (B, C, h, w) tensor
        Of crops.
    points : (B, P, 2) tensor
        x and y in pixels of the crop.
    places : (B, 2) tensor of int
        Column and row of each crop's first cell in the frame that it is taken to be in.

    Returns
    -------
    logits : (B * P, 3, 4h, 4w) tensor
    predicted_iou : (B * P, 3) tensor
    """
    prompts, decoder = model.prompt_encoder, model.mask_decoder
    per_crop = points.shape[1]
    height, width = embeddings.shape[2:]
    count = len(points) * per_crop
    with torch.no_grad():
        frame = prompts.get_dense_pe()[0]
        cells = [
            frame[:, row : row + height, column : column + width] for column, row in places.tolist()
        ]
        dense_pe = torch.stack(cells).repeat_interleave(per_crop, 0)
        cell_size = model.image_encoder.img_size / prompts.image_embedding_size[0]
        in_frame = points + (places * cell_size)[:, None]
        in_frame = in_frame.flatten(0, 1)[:, None] / model.image_encoder.img_size
        point_pe = prompts.pe_layer._pe_encoding(in_frame)  # (B * P, 1, C)
    point = point_pe + prompts.point_embeddings[1].weight
    no_box = prompts.not_a_point_embed.weight.expand(count, 1, -1)
    output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([output_tokens.expand(count, -1, -1), point, no_box], dim=1)
    source = embeddings + prompts.no_mask_embed.weight[..., None, None]
    source = source.repeat_interleave(per_crop, 0)

    tokens, source = decoder.transformer(source, dense_pe, tokens)
    source = source.transpose(1, 2).unflatten(2, (height, width))
    upscaled = decoder.output_upscaling(source)
    hypernetworks = decoder.output_hypernetworks_mlps[1:]
    weights = [mlp(tokens[:, number]) for number, mlp in enumerate(hypernetworks, start=2)]
    logits = torch.stack(weights, 1) @ upscaled.flatten(2)
    predicted_iou = decoder.iou_prediction_head(tokens[:, 0])[:, 1:]
    return logits.unflatten(2, upscaled.shape[2:]), predicted_iou
