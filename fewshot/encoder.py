"""SAM's image encoder: a crop becomes features, and the features under a mask one vector."""
import pickle
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from segment_anything import SamPredictor
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from fewshot.models import Checkpoint
from fewshot.parameters import explain

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


def load_predictor(checkpoint: Checkpoint, path: str) -> SamPredictor:
    """SAM with the weights of a checkpoint file, on the GPU where there is one.

    Raises ValueError, with a note for the user, when the file does not hold this model's weights.
    """
    model = build_sam(checkpoint)
    try:
        model.load_state_dict(torch.load(path, map_location='cpu', weights_only=True))
    except (RuntimeError, pickle.UnpicklingError, EOFError, AttributeError, TypeError) as error:
        raise explain(ValueError(f'The checkpoint file does not hold the weights of {checkpoint.name}'),
                      f'Read: {path}. Download it again and compare its SHA-256 ({checkpoint.sha256}).') from error
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if device == 'cuda' and torch.cuda.get_device_capability()[0] >= 8:  # Ampere and later
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    return SamPredictor(model.to(device))


def encode_image_with_sam1(predictor: SamPredictor, image: np.ndarray) -> torch.Tensor:
    """Features of an (H, W, 3) uint8 image: (1, C, h, w), 1×256×64×64 for ViT-H.

    The image is enlarged or shrunk to the model's input side and padded to a square at the bottom and the right.
    """
    predictor.set_image(image)
    return predictor.features


def pool_features_with_mask(features: torch.Tensor, mask: np.ndarray, feat_h: int, feat_w: int) -> torch.Tensor:
    """The features under a mask as one vector: their mean, each cell weighted by how much of it the mask covers.

    Parameters
    ----------
    features : (1, C, feat_h, feat_w)
    mask : (H, W) of the encoded image, not zero on the object; an empty mask averages over everything

    Returns
    -------
    (C,) on the features' device
    """
    weights = torch.as_tensor(np.asarray(mask) != 0, dtype=features.dtype, device=features.device)
    height, width = weights.shape
    side = max(height, width)
    weights = F.pad(weights, (0, side - width, 0, side - height))  # as the encoder pads the image
    weights = F.interpolate(weights[None, None], size=(feat_h, feat_w), mode='area')[0]  # (1, feat_h, feat_w)
    if not weights.any():
        return features[0].mean(dim=(1, 2))
    return (features[0] * weights).sum(dim=(1, 2)) / weights.sum()


def describe_object(predictor: SamPredictor, crop_image: np.ndarray, crop_mask: np.ndarray) -> torch.Tensor:
    """The vector (C,) of the object under `crop_mask` in its crop."""
    features = encode_image_with_sam1(predictor, crop_image)
    return pool_features_with_mask(features, crop_mask, *features.shape[-2:])
