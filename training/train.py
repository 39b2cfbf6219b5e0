"""Train the small SAM on synthetic microscopy: `python -m training.train`.

The model learns to return an object's mask for one point on it. Training takes almost two hours on
two cores. The seed is fixed.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.model import build_sam
from training.synthetic import SIDE, make_image

SEED = 7
STEPS = 7_500
IMAGES = 4  # per step
POINTS = 16  # per image
POOL = 1_000  # images kept for reuse
LEARNING_RATE = 8e-4
WARM_UP = 150  # steps
AVERAGED = 0.998  # decay of the moving average of the weights; the average is saved
BACKGROUND = 0.1  # share of the points on the background, whose mask is the whole background
OUT = Path(__file__).parents[1] / 'models' / VIT_MINI.file


def prepare(model: Sam) -> None:
    """Initialize the weights so that the model can tell points apart and find them in the image.

    From SAM's own initialization it learns nothing. Queries and keys of the attention between
    points and image get equal weights. So from the first step, a point's positional encoding
    matches the one at its place in the image. The frequencies of the encoding are doubled, because
    the input is small.
    """
    model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.mul_(2)
    transformer = model.mask_decoder.transformer
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    with torch.no_grad():
        for attention in attentions:
            shared = torch.nn.init.orthogonal_(torch.empty_like(attention.q_proj.weight)) * 1.6
            for projection in (attention.q_proj, attention.k_proj):
                projection.weight.copy_(shared)
                projection.bias.zero_()


def draw_crop(pool: list, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a random crop at the model's input size S, turned and mirrored.

    Parameters
    ----------
    pool : list of tuple
        Images and labels for reuse. New ones are added.
    rng : numpy.random.Generator

    Returns
    -------
    rgb : (S, S, 3) ndarray of uint8
    labels : (S, S) ndarray
    """
    if len(pool) < 8 or (len(pool) < POOL and rng.random() < 0.3):
        pool.append(make_image(rng))
        rgb, labels = pool[-1]
    else:
        rgb, labels = pool[rng.integers(len(pool))]
    side = VIT_MINI.input_size
    row, column = rng.integers(0, SIDE - side + 1, 2)
    window = slice(row, row + side), slice(column, column + side)
    rgb, labels = rgb[window], labels[window]
    turns = int(rng.integers(4))
    rgb, labels = np.rot90(rgb, turns), np.rot90(labels, turns)
    if rng.random() < 0.5:
        rgb, labels = rgb[:, ::-1], labels[:, ::-1]
    if rng.random() < 0.3:
        rgb = rgb[..., rng.permutation(3)]
    return np.ascontiguousarray(rgb), np.ascontiguousarray(labels)


def draw_points(labels: np.ndarray, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw points on objects and background.

    Returns
    -------
    points : (P, 1, 2) torch.Tensor
        x and y in pixels.
    masks : (P, 1, S, S) torch.Tensor
        The mask of the object, or of the background, at each point.
    """
    present = np.unique(labels)
    objects = present[present > 0]
    points, masks = [], []
    for _ in range(POINTS):
        on_background = not len(objects) or (present[0] == 0 and rng.random() < BACKGROUND)
        mask = labels == (0 if on_background else rng.choice(objects))
        rows, columns = np.nonzero(mask)
        chosen = rng.integers(len(rows))
        points.append((columns[chosen] + 0.5, rows[chosen] + 0.5))
        masks.append(mask)
    return (
        torch.tensor(points, dtype=torch.float32)[:, None],
        torch.from_numpy(np.stack(masks)[:, None].astype(np.float32)),
    )


def decode(
    model: Sam, features: torch.Tensor, points: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode the masks at the points of one image.

    Returns
    -------
    logits : (P, 3, S/4, S/4) torch.Tensor
    predicted_iou : (P, 3) torch.Tensor
    """
    sparse, dense = model.prompt_encoder(
        points=(points, torch.ones(len(points), 1)), boxes=None, masks=None
    )
    return model.mask_decoder(
        image_embeddings=features,
        image_pe=model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )


def measure_loss(logits: torch.Tensor, predicted_iou: torch.Tensor, masks: torch.Tensor) -> tuple:
    """Measure the loss of one image.

    It has three parts: Dice loss and cross-entropy of the best mask of each point, a tenth of the
    mean over all three masks, and the squared error of the predicted IoU.

    Returns
    -------
    loss : torch.Tensor
    best : float
        Mean IoU of the best mask of each point.
    preferred : float
        Mean IoU of the mask with the highest predicted IoU.
    """
    target = F.interpolate(masks, size=logits.shape[-2:], mode='area').expand_as(logits)
    shown = logits.sigmoid()
    shared = (shown * target).sum((2, 3))
    dice = 1 - (2 * shared + 1) / (shown.sum((2, 3)) + target.sum((2, 3)) + 1)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction='none').mean((2, 3))
    error = dice + 2 * entropy  # (P, 3)
    with torch.no_grad():
        found, truth = logits > 0, target > 0.5
        iou = (found & truth).sum((2, 3)) / ((found | truth).sum((2, 3)) + 1e-6)
    loss = error.min(1).values.mean() + 0.1 * error.mean() + F.mse_loss(predicted_iou, iou)
    preferred = iou.gather(1, predicted_iou.argmax(1, keepdim=True))
    return loss, iou.max(1).values.mean().item(), preferred.mean().item()


def save(averaged: AveragedModel, out: Path) -> None:
    """Write the averaged weights in half precision.

    The measures of this package are the same as with single precision.
    """
    torch.save({name: value.half() for name, value in averaged.module.state_dict().items()}, out)


def train(steps: int, out: Path) -> None:
    """Train for a number of steps, and write the state dict to `out`."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    model = build_sam(VIT_MINI).train()
    prepare(model)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGED))
    model.image_encoder.compile()  # a quarter faster on two cores
    model.mask_decoder.compile()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, betas=(0.9, 0.99))
    pool: list = []
    history, start = [], time.time()
    for step in range(1, steps + 1):
        warm_up = min(1, step / WARM_UP)
        decay = 0.03 + 0.97 * (1 + math.cos(math.pi * step / steps)) / 2
        rate = LEARNING_RATE * warm_up * decay
        for group in optimizer.param_groups:
            group['lr'] = rate
        crops = [draw_crop(pool, rng) for _ in range(IMAGES)]
        pixels = torch.stack(
            [model.preprocess(torch.from_numpy(rgb).permute(2, 0, 1).float()) for rgb, _ in crops]
        )
        features = model.image_encoder(pixels)
        losses = []
        for index, (_, labels) in enumerate(crops):
            points, masks = draw_points(labels, rng)
            logits, predicted_iou = decode(model, features[index : index + 1], points)
            loss, best, preferred = measure_loss(logits, predicted_iou, masks)
            losses.append(loss)
            history.append((loss.item(), best, preferred))
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        averaged.update_parameters(model)
        if step % 100 == 0 or step == steps:
            loss, best, preferred = np.mean(history[-100 * IMAGES :], axis=0)
            print(
                f'step {step} of {steps}, {time.time() - start:.0f} s: loss {loss:.3f}, '
                f'IoU of the best mask {best:.3f}, of the preferred {preferred:.3f}',
                flush=True,
            )
        if step % 1000 == 0 or step == steps:
            save(averaged, out)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--steps', type=int, default=STEPS, help=f'steps of the training (default: {STEPS})'
    )
    parser.add_argument('--out', type=Path, default=OUT, help='file to write')
    arguments = parser.parse_args()
    train(arguments.steps, arguments.out)
