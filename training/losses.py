"""What the small SAM is trained to do better: its losses, and how good its masks are."""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from training.crops import Pixels, Points

OFFSET_UNIT = 16  # pixels
MASK_WEIGHTS = (1.0, 0.4, 0.25)  # object, part, clump
# Of a point on the background when the predicted IoU is learnt. A grid sets most of its points
# there, the training a fifth. Without the weight, the model expects too much of doubtful points.
BACKGROUND_WEIGHT = 6


class Quality(NamedTuple):
    """How good the masks at points are; means over the points.

    Attributes
    ----------
    whole : float
        IoU of the first mask with the object.
    preferred : float
        IoU of the mask with the highest predicted IoU with what it should be.
    predicted, predicted_on_background : float
        Highest predicted IoU at points on objects and on background.
    """

    whole: float
    preferred: float
    predicted: float
    predicted_on_background: float


def measure_pixel_loss(maps: torch.Tensor, pixels: Pixels) -> torch.Tensor:
    """Measure how far the maps of `PixelHead` are from what is known.

    Parameters
    ----------
    maps : (B, 5, n, n) float32 tensor
    pixels : Pixels
        (B, n, n) tensors.
    """
    weight = pixels.is_known * pixels.is_object
    count = weight.sum() + 1
    is_object = F.binary_cross_entropy_with_logits(maps[:, 0], pixels.is_object, reduction='none')
    is_object = (is_object * pixels.is_known).sum() / pixels.is_known.sum()
    edge = F.binary_cross_entropy_with_logits(maps[:, 1], pixels.edge)
    # In units of half the object, so that small objects count as much as large ones
    tolerance = 0.5 * pixels.size / OFFSET_UNIT + 0.25
    offset = torch.zeros(())
    for number, distance in ((2, pixels.right), (3, pixels.down)):
        known = distance / OFFSET_UNIT / tolerance
        error = F.smooth_l1_loss(maps[:, number] / tolerance, known, reduction='none')
        offset = offset + (error * weight).sum() / count
    size = F.smooth_l1_loss(maps[:, 4], torch.log(pixels.size / OFFSET_UNIT), reduction='none')
    return is_object + edge + offset + 0.5 * (size * weight).sum() / count


def measure_point_loss(
    logits: torch.Tensor, predicted_iou: torch.Tensor, points: Points
) -> tuple[torch.Tensor, Quality]:
    """Measure the loss of masks and of predicted IoU.

    The masks count at points on objects, with Dice loss and cross-entropy. The predicted IoU counts
    everywhere, with the squared error, and more on the background. The true IoU is 0 on the
    background. That of the third mask is its IoU with the object, so that the model does not prefer
    clumps.

    Parameters
    ----------
    logits : (P, 3, n, n) float32 tensor
    predicted_iou : (P, 3) float32 tensor
    points : Points
        Tensors; `masks` (P, 3, n, n).
    """
    on_object, target = points.on_object, points.masks
    shown = logits.sigmoid()
    area = target.sum((2, 3))
    dice = 1 - (2 * (shown * target).sum((2, 3)) + 1) / (shown.sum((2, 3)) + area + 1)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction='none').sum((2, 3))
    error = dice + entropy / (3 * area + 40)  # (P, 3)
    weights = torch.tensor(MASK_WEIGHTS)
    # Without any point on an object it is 0, with gradients of 0: all processes have the same ones
    count = on_object.sum().clamp(min=1)
    mask_loss = (error * weights * on_object[:, None]).sum() / (count * weights.sum())

    true_iou = measure_iou(logits > 0, target > 0.5)
    true_iou[:, 2] = measure_iou(logits[:, 2] > 0, target[:, 0] > 0.5)
    true_iou[~on_object] = 0
    weight = torch.where(on_object, 1.0, BACKGROUND_WEIGHT)
    iou_error = ((predicted_iou - true_iou) ** 2).mean(1)
    loss = mask_loss + (iou_error * weight).sum() / weight.sum()

    highest, which = predicted_iou.detach().max(1)
    preferred = true_iou.gather(1, which[:, None])[:, 0]
    quality = Quality(
        whole=true_iou[on_object, 0].mean().item(),
        preferred=preferred[on_object].mean().item(),
        predicted=highest[on_object].mean().item(),
        predicted_on_background=highest[~on_object].mean().item(),
    )
    return loss, quality


def measure_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the IoU of masks (..., H, W), 0 for two empty ones."""
    shared = (first & second).sum((-2, -1))
    return shared / (first | second).sum((-2, -1)).clamp(min=1)
