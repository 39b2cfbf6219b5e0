"""The blocks of SAM's image encoder with fused attention: the same features in less time and memory.

segment_anything writes the attention of each block out: three arrays of queries × keys for every head, 0.8 GB each for
a whole image in ViT-B. Here PyTorch's `scaled_dot_product_attention` goes through them in tiles, and the bias of the
relative positions, the one such array that is left, is made for a few heads at a time.

The bias is a dot product as well, of a query with the embeddings of its row's and its column's distances, so it could
ride along as further dimensions of queries and keys, and no array of queries × keys were left. On a CPU that takes half
as long again for a whole image, whose dimensions grow from 64 to 192. On a GPU (reasoned, not measured) neither should
be much better: ViT-H would grow from 80 to 208 dimensions, 2.6 times the arithmetic, in a kernel (flash attention) that
is about twice as fast for taking no bias, and that in float32 does not exist.
"""
from functools import partial

import torch
import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention, Block

# Bytes of bias at a time. A CPU wants no more than one head of a whole image, 64 MiB, in memory that is used again and
# again; a large GPU wants several heads, to have work for all its processors.
BIAS_BYTES = {'cpu': 2 ** 26, 'cuda': 2 ** 28}


def fuse_attention(image_encoder: ImageEncoderViT) -> None:
    """Replace what the encoder's blocks compute with by what is faster and gives the same within rounding.

    For encoding alone: gradients cannot be taken. The weights stay where and as they are.
    """
    for block in image_encoder.blocks:
        block.forward = partial(_run_block, block)


def narrow_blocks(image_encoder: ImageEncoderViT) -> None:
    """Let the blocks of an encoder with fused attention multiply in bfloat16.

    What runs from block to block, its normalisation, the patches and the neck stay float32, and so do the features.
    That costs little, and the features come two to four times closer to those in float32 than when all of the encoder
    is bfloat16, or under autocast.
    """
    for block in image_encoder.blocks:
        block.attn.bfloat16()
        block.mlp.bfloat16()


def _run_block(block: Block, x: torch.Tensor) -> torch.Tensor:
    """One block: (B, H, W, D) float32 → (B, H, W, D) float32."""
    dtype = block.attn.qkv.weight.dtype
    x = x + _attend_in_windows(block.attn, block.norm1(x).to(dtype), block.window_size)
    return x + block.mlp(block.norm2(x).to(dtype))


def _attend_in_windows(attention: Attention, x: torch.Tensor, window: int) -> torch.Tensor:
    """Attention of cells (B, H, W, D) within squares of `window` cells, or to all cells where `window` is 0."""
    batch, height, width, channels = x.shape
    qkv = attention.qkv(x)  # (B, H, W, 3D)
    rows, columns = (window, window) if window else (height, width)
    down, across = -(-height // rows), -(-width // columns)  # windows
    if (down * rows, across * columns) != (height, width):
        # SAM fills the last windows up with zeros, which take part: their queries, keys and values are the layer's bias
        filled = attention.qkv.bias.expand(batch, down * rows, across * columns, -1).clone()
        filled[:, :height, :width] = qkv
        qkv = filled
    q, k, v = (
        qkv.view(batch, down, rows, across, columns, 3, attention.num_heads, -1)
        .permute(5, 0, 1, 3, 6, 2, 4, 7)  # (3, B, down, across, heads, rows, columns, d)
        .reshape(3, batch * down * across, attention.num_heads, rows, columns, -1))
    x = _attend(q, k, v, _spread(attention.rel_pos_h, rows), _spread(attention.rel_pos_w, columns))
    x = (
        x.view(batch, down, across, attention.num_heads, rows, columns, -1)
        .permute(0, 1, 4, 2, 5, 3, 6)  # (B, down, rows, across, columns, heads, d)
        .reshape(batch, down * rows, across * columns, channels))
    return attention.proj(x[:, :height, :width])


def _spread(embeddings: torch.Tensor, size: int) -> torch.Tensor:
    """Embeddings of the distances 1 - size to size - 1, (2 size - 1, d), by query and key position: (size, size, d)."""
    position = torch.arange(size, device=embeddings.device)
    return embeddings[position[:, None] - position + size - 1]


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
            by_row: torch.Tensor, by_column: torch.Tensor) -> torch.Tensor:
    """Softmax attention with a decomposed relative position bias.

    Parameters
    ----------
    q, k, v : (n, heads, rows, columns, d)
    by_row, by_column : (rows, rows, d) and (columns, columns, d), embedding for each position of query and key

    Returns
    -------
    (n, heads, rows · columns, d)

    References
    ----------
    Li et al., "MViTv2: Improved Multiscale Vision Transformers", CVPR 2022, section 4.1
    """
    count, heads, rows, columns, _ = q.shape
    of_row = torch.einsum('nhrcd,rkd->nhrck', q, by_row)
    of_column = torch.einsum('nhrcd,ckd->nhrck', q, by_column)
    q, k, v = (values.flatten(2, 3) for values in (q, k, v))
    head_bytes = count * (rows * columns) ** 2 * q.element_size()
    group = min(max(1, BIAS_BYTES[q.device.type] // head_bytes), heads)
    memory = q.new_empty(group, count, rows, columns, rows, columns)  # one for all groups: filling new pages is slow
    attended = []
    for start in range(0, heads, group):
        part = slice(start, min(start + group, heads))
        bias = memory[:part.stop - start].transpose(0, 1)  # (n, group, rows, columns, rows, columns)
        torch.add(of_row[:, part, ..., None], of_column[:, part, ..., None, :], out=bias)
        attended.append(F.scaled_dot_product_attention(
            q[:, part], k[:, part], v[:, part], attn_mask=bias.flatten(4).flatten(2, 3)))
    return torch.cat(attended, dim=1)
