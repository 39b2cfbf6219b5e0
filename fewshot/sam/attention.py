"""Fused attention for SAM's image encoder: the same features in less time and memory.

segment_anything computes the attention of a block with three arrays of queries x keys for every
head, 0.8 GB each for a whole image in ViT-B. Here `scaled_dot_product_attention` of PyTorch
computes it in tiles. One of these arrays remains, the bias of the relative positions, and it exists
for a few heads, or a few rows of cells, at a time.

This bias is a dot product as well: of a query with the embeddings of its row's and its column's
distances. So it could become additional dimensions of queries and keys, without any array of
queries x keys. On a CPU this takes 1.5 times as long for a whole image, because the dimensions grow
from 64 to 192. On a GPU neither should be much faster (estimated, not measured): in ViT-H the
dimensions would grow from 80 to 208, 2.6 times the arithmetic. The kernel for attention without
bias (flash attention) is about twice as fast, but does not exist for float32.
"""

from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention, Block

# Bytes of bias that exist at a time, by type of device. A CPU is fastest with what its cache
# holds. A large GPU needs several heads of a whole image (64 MiB) to keep its processors busy.
BIAS_BYTES = {'cpu': 2**23, 'cuda': 2**28}


def fuse_attention(
    image_encoder: ImageEncoderViT, bias_bytes: Mapping[str, int] = BIAS_BYTES
) -> None:
    """Replace the computation of the encoder's blocks by a faster one, equal within rounding.

    The encoder can no longer be trained. Its weights do not change.

    Parameters
    ----------
    image_encoder : ImageEncoderViT
        Changed in place.
    bias_bytes : mapping of str to int
        Bytes of position bias that exist at a time, by type of device.
    """
    for block in image_encoder.blocks:
        block.forward = partial(_run_block, block, bias_bytes)


def narrow_blocks(image_encoder: ImageEncoderViT) -> None:
    """Let the blocks of an encoder with fused attention multiply in bfloat16.

    The sums between blocks, their normalisation, the patch embedding and the neck stay float32, and
    so do the features. This costs little. The features are two to four times closer to those in
    float32 than with the whole encoder in bfloat16, or under autocast.

    Parameters
    ----------
    image_encoder : ImageEncoderViT
        Changed in place.
    """
    for block in image_encoder.blocks:
        block.attn.bfloat16()
        block.mlp.bfloat16()


def _run_block(block: Block, bias_bytes: Mapping[str, int], x: torch.Tensor) -> torch.Tensor:
    """Compute a block: (B, H, W, C) float32 -> (B, H, W, C) float32."""
    dtype = block.attn.qkv.weight.dtype
    x = x + _attend_in_windows(
        block.attn, block.norm1(x).to(dtype), block.window_size, bias_bytes[x.device.type]
    )
    return x + block.mlp(block.norm2(x).to(dtype))


def _attend_in_windows(
    attention: Attention, x: torch.Tensor, window_size: int, bias_bytes: int
) -> torch.Tensor:
    """Compute attention within windows, or over all cells if `window_size` is 0.

    Parameters
    ----------
    attention : Attention
    x : (B, H, W, C) tensor
    window_size : int
        Side of a window, cells.
    bias_bytes : int

    Returns
    -------
    (B, H, W, C) tensor
    """
    batch, height, width, channels = x.shape
    heads = attention.num_heads
    rows, columns = (window_size, window_size) if window_size else (height, width)  # of a window
    down, across = -(-height // rows), -(-width // columns)  # number of windows, rounded up
    padded_height, padded_width = down * rows, across * columns

    qkv = attention.qkv(x)  # (B, H, W, 3C)
    if (padded_height, padded_width) != (height, width):
        # SAM pads x with zeros, and the padding takes part in the attention. The projection of
        # zero is the bias.
        padded = attention.qkv.bias.expand(batch, padded_height, padded_width, -1).clone()
        padded[:, :height, :width] = qkv
        qkv = padded

    # Partition into windows and separate the heads.
    qkv = qkv.view(batch, down, rows, across, columns, 3, heads, -1)
    qkv = qkv.permute(5, 0, 1, 3, 6, 2, 4, 7)  # (3, B, down, across, heads, rows, columns, d)
    q, k, v = qkv.reshape(3, batch * down * across, heads, rows, columns, -1)

    x = _attend(
        q,
        k,
        v,
        _relative_positions(attention.rel_pos_h, rows),
        _relative_positions(attention.rel_pos_w, columns),
        bias_bytes,
    )

    # Recombine the heads and put the windows together again, without the padding.
    x = x.view(batch, down, across, heads, rows, columns, -1)
    x = x.permute(0, 1, 4, 2, 5, 3, 6)  # (B, down, rows, across, columns, heads, d)
    x = x.reshape(batch, padded_height, padded_width, channels)
    return attention.proj(x[:, :height, :width])


def _relative_positions(embeddings: torch.Tensor, size: int) -> torch.Tensor:
    """Look up the embedding of the distance from each key to each query.

    Parameters
    ----------
    embeddings : (2 * size - 1, d) tensor
        Of the distances 1 - size to size - 1.
    size : int
        Number of positions.

    Returns
    -------
    (size, size, d) tensor
        By position of query and key.
    """
    position = torch.arange(size, device=embeddings.device)
    distance = position[:, None] - position
    return embeddings[distance + size - 1]


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    rel_pos_h: torch.Tensor,
    rel_pos_w: torch.Tensor,
    bias_bytes: int,
) -> torch.Tensor:
    """Compute softmax attention with a decomposed bias for relative positions.

    Parameters
    ----------
    q, k, v : (n, heads, rows, columns, d) tensor
    rel_pos_h, rel_pos_w : (rows, rows, d) and (columns, columns, d) tensor
        Embedding of the distance between each position of query and key.
    bias_bytes : int

    Returns
    -------
    (n, heads, rows * columns, d) tensor

    References
    ----------
    Li et al., "MViTv2: Improved Multiscale Vision Transformers", CVPR 2022, section 4.1
    """
    count, heads, rows, columns, _ = q.shape
    bias_h = torch.einsum('nhrcd,rkd->nhrck', q, rel_pos_h)  # (n, heads, rows, columns, rows)
    bias_w = torch.einsum('nhrcd,ckd->nhrck', q, rel_pos_w)  # (n, heads, rows, columns, columns)
    bias_h, bias_w = bias_h.flatten(0, 1), bias_w.flatten(0, 1)
    q = q.flatten(0, 1)  # (n * heads, rows, columns, d)
    k, v = k.flatten(0, 1).flatten(1, 2), v.flatten(0, 1).flatten(1, 2)  # (n * heads, keys, d)
    keys = rows * columns

    bytes_per_row = columns * keys * q.element_size()
    group_rows = min(max(1, bias_bytes // bytes_per_row), rows)
    group_heads = min(max(1, bias_bytes // (rows * bytes_per_row)), count * heads)
    # All groups use the same memory, because writing to new pages is slow.
    memory = q.new_empty(group_heads * group_rows * columns * keys)
    attended = torch.empty_like(q)
    for first in range(0, count * heads, group_heads):
        head = slice(first, first + group_heads)
        for top in range(0, rows, group_rows):
            row = slice(top, top + group_rows)
            part = q[head, row]  # (group of heads, group of rows, columns, d)
            bias = memory[: part.shape[:3].numel() * keys].view(*part.shape[:3], rows, columns)
            torch.add(bias_h[head, row, :, :, None], bias_w[head, row, :, None, :], out=bias)
            attended[head, row] = F.scaled_dot_product_attention(
                part.flatten(1, 2)[None],
                k[None, head],
                v[None, head],
                attn_mask=bias.flatten(3).flatten(1, 2)[None],
            ).view(part.shape)
    return attended.view(count, heads, keys, -1)
