"""SAM's model, built at a checkpoint's sizes and loaded from its file."""

import logging
import pickle
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

from fewshot import messages
from fewshot.sam.attention import fuse_attention, narrow_blocks
from fewshot.sam.checkpoints import Checkpoint
from fewshot.sam.hardware import PROC, has_processor_bfloat16, keep_freed_memory

AMPERE = 8  # the compute capability of NVIDIA's first GPUs with bfloat16 and TF32
CPU_INFO = PROC / 'cpuinfo'

log = logging.getLogger('sam_fewshot')


def build_sam(checkpoint: Checkpoint) -> Sam:
    """Build SAM with random weights.

    Parameters
    ----------
    checkpoint : Checkpoint
        Gives the sizes of the model.

    Returns
    -------
    Sam
        In evaluation mode, on the CPU.

    References
    ----------
    Kirillov et al., "Segment Anything", ICCV 2023
    """
    input_size = checkpoint.input_size
    grid_size = input_size // checkpoint.patch_size
    image_encoder = ImageEncoderViT(
        img_size=input_size,
        patch_size=checkpoint.patch_size,
        embed_dim=checkpoint.width,
        depth=checkpoint.depth,
        num_heads=checkpoint.heads,
        mlp_ratio=4,
        qkv_bias=True,
        use_rel_pos=True,
        window_size=checkpoint.window,
        global_attn_indexes=checkpoint.global_blocks,
        out_chans=checkpoint.channels,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    )
    prompt_encoder = PromptEncoder(
        embed_dim=checkpoint.channels,
        image_embedding_size=(grid_size, grid_size),
        input_image_size=(input_size, input_size),
        mask_in_chans=16,
    )
    mask_decoder = MaskDecoder(
        transformer_dim=checkpoint.channels,
        transformer=TwoWayTransformer(
            depth=2,
            embedding_dim=checkpoint.channels,
            num_heads=checkpoint.decoder_heads,
            mlp_dim=checkpoint.decoder_width,
        ),
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=256,
    )
    model = Sam(
        image_encoder,
        prompt_encoder,
        mask_decoder,
        # mean and standard deviation of ImageNet's colours
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )
    return model.eval()


def find_weights(stored: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights of SAM in a file's content, {name: values}.

    SAM's own files contain nothing else. A file of micro-sam can have them under `model_state`,
    with names that begin with `sam.`, beside the weights of another decoder.
    """
    weights = stored.get('model_state', stored)
    return {name.removeprefix('sam.'): values for name, values in weights.items()}


def has_bfloat16(device: torch.device, cpu_info: Path = CPU_INFO) -> bool:
    """Return whether the device multiplies bfloat16 in hardware.

    Without it, bfloat16 is several times slower than float32.

    Parameters
    ----------
    device : torch.device
    cpu_info : Path
        The file in which Linux lists what the processor can do.
    """
    if device.type == 'cuda':
        return torch.cuda.get_device_capability(device)[0] >= AMPERE
    return has_processor_bfloat16(cpu_info)


def load_model(
    checkpoint: Checkpoint, path: str, precision: str = 'float32', cpu_info: Path = CPU_INFO
) -> Sam:
    """Load SAM with the weights of a file, on the GPU if there is one, for inference only.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : str
        The checkpoint's file.
    precision : {'float32', 'bfloat16'}
        Type in which the blocks of the image encoder multiply. bfloat16 halves their memory. On
        hardware without it, float32 is used. Features are float32 in all cases.
    cpu_info : Path
        See `has_bfloat16`.

    Returns
    -------
    Sam

    Raises
    ------
    JobError
        The file does not contain the weights of this model.
    """
    keep_freed_memory()
    # The weights come from the file. Random ones would need the same memory again.
    with torch.device('meta'):
        model = build_sam(checkpoint)
    try:
        # The file is mapped and the parameters are its pages: nothing is copied in main memory.
        stored = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
        model.load_state_dict(find_weights(stored), assign=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, AttributeError, TypeError) as error:
        raise messages.CHECKPOINT_WRONG.error(
            model=checkpoint.name, path=path, expected=checkpoint.sha256 or checkpoint.xxh128
        ) from error
    model.requires_grad_(False).float()  # a file may have float16

    fuse_attention(model.image_encoder)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    if precision == 'bfloat16':
        if has_bfloat16(device, cpu_info):
            narrow_blocks(model.image_encoder)
        else:
            log.info('the hardware has no bfloat16: the image encoder uses float32')
    if device.type == 'cuda' and torch.cuda.get_device_capability(device)[0] >= AMPERE:
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    return model.to(device)
