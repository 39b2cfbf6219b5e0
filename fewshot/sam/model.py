"""SAM's model, built for a checkpoint and loaded from its file."""
import pickle
from functools import partial

import torch
from segment_anything import SamPredictor
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from fewshot.errors import JobError
from fewshot.sam.attention import fuse_attention, narrow_blocks
from fewshot.sam.checkpoints import Checkpoint

PATCH = 16  # pixels of the model's input along the side of one cell of the feature grid


def build_sam(checkpoint: Checkpoint) -> Sam:
    """SAM1 at the checkpoint's sizes, in evaluation mode on the CPU, its weights random.

    The layout of Kirillov et al., "Segment Anything", ICCV 2023.
    """
    grid = checkpoint.input_size // PATCH
    image_encoder = ImageEncoderViT(
        img_size=checkpoint.input_size, patch_size=PATCH, embed_dim=checkpoint.width, depth=checkpoint.depth,
        num_heads=checkpoint.heads, mlp_ratio=4, qkv_bias=True, use_rel_pos=True, window_size=checkpoint.window,
        global_attn_indexes=checkpoint.global_blocks, out_chans=checkpoint.channels,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6))
    prompt_encoder = PromptEncoder(
        embed_dim=checkpoint.channels, image_embedding_size=(grid, grid),
        input_image_size=(checkpoint.input_size, checkpoint.input_size), mask_in_chans=16)
    mask_decoder = MaskDecoder(
        transformer_dim=checkpoint.channels, num_multimask_outputs=3, iou_head_depth=3, iou_head_hidden_dim=256,
        transformer=TwoWayTransformer(
            depth=2, embedding_dim=checkpoint.channels, num_heads=8, mlp_dim=checkpoint.decoder_width))
    return Sam(
        image_encoder, prompt_encoder, mask_decoder,
        pixel_mean=[123.675, 116.28, 103.53], pixel_std=[58.395, 57.12, 57.375]).eval()


def load_predictor(checkpoint: Checkpoint, path: str, precision: str = 'float32') -> SamPredictor:
    """SAM with the weights of a checkpoint file, on the GPU where there is one, ready to encode but not to train.

    With 'bfloat16' as `precision` the blocks of the image encoder multiply in that type: for a GPU of Ampere or later,
    where it halves the memory. Features are float32 in any case.

    Raises JobError when the file does not hold this model's weights.
    """
    with torch.device('meta'):  # the weights come from the file, and random ones would need as much memory again
        model = build_sam(checkpoint)
    try:
        # the file is mapped, and the parameters are its pages: no copy in main memory
        weights = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
        model.load_state_dict(weights, assign=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, AttributeError, TypeError) as error:
        raise JobError(
            f'The checkpoint file does not hold the weights of {checkpoint.name}.',
            f'Read: {path}. Download it again and compare its SHA-256 ({checkpoint.sha256}).') from error
    model.requires_grad_(False).float()  # a file may be float16
    fuse_attention(model.image_encoder)
    if precision == 'bfloat16':
        narrow_blocks(model.image_encoder)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if device == 'cuda' and torch.cuda.get_device_capability()[0] >= 8:  # Ampere and later
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    return SamPredictor(model.to(device))
