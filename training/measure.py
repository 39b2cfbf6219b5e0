"""Measure the small SAM: `python -m training.measure`.

The images are held-out synthetic images, drawn with another seed than those of the training, and
the labelled image of the demo. The model gets one point on each object. The module measures the
best of its three masks, and the one with the highest predicted IoU.

With --thresholds, it also measures the automatic mask generator on synthetic images, at several
thresholds of predicted IoU, stability and box NMS. The values in `fewshot/sam/checkpoints.py` were
chosen this way.
"""

import argparse
import itertools
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from segment_anything import SamPredictor
from torchvision.ops import nms

from demo.dataset import color_picture, read_image
from demo.scoring import match_iou
from fewshot.geometry import has_allowed_area
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.cleaning import clean_mask
from fewshot.sam.features import encode_image_with_sam1
from fewshot.sam.model import load_model
from fewshot.sam.proposals import propose_candidates
from training.synthetic import make_image
from training.train import OUT

SEED = 2026  # training uses another
SMALLEST = 60  # pixels; a smaller object is a fragment at a border
LARGEST = 256**2 // 8  # pixels; a larger mask is background
POINTS_PER_SIDE = 16
IOU_CUTS = (0.4, 0.5, 0.55, 0.6, 0.65, 0.7)
STABILITY_CUTS = (0.5, 0.6, 0.7, 0.8, 0.85)
NMS_CUTS = (0.2, 0.3, 0.5, 0.7)


class Proposals(NamedTuple):
    """The proposals of the mask generator for an image, the highest predicted IoU first.

    Attributes
    ----------
    iou : (proposals, objects) ndarray
        With the labelled objects.
    boxes : (proposals, 4) torch.Tensor
        In the format of the generator's NMS.
    predicted : (proposals,) torch.Tensor
        Predicted IoU.
    stability : (proposals,) torch.Tensor
    """

    iou: np.ndarray
    boxes: torch.Tensor
    predicted: torch.Tensor
    stability: torch.Tensor


def load_synthetic(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the middle 256×256 pixels of `count` held-out images, with labels."""
    rng = np.random.default_rng(SEED)
    middle = (slice(128, 384), slice(128, 384))
    images = [make_image(rng) for _ in range(count)]
    return [(rgb[middle], labels[middle]) for rgb, labels in images]


def load_nuclei() -> tuple[np.ndarray, np.ndarray]:
    """Return the labelled image with the demo's contrast, and its labels."""
    image, labels = read_image()
    return color_picture(image), labels


def masks_of(labels: np.ndarray) -> list[np.ndarray]:
    """Return the mask of each object with SMALLEST pixels or more."""
    masks = [labels == number for number in np.unique(labels[labels > 0])]
    return [mask for mask in masks if mask.sum() >= SMALLEST]


def measure_points(predictor: SamPredictor, images: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """Set a point in the middle of each object, and return the mean IoU as a line of text."""
    rows = []
    for rgb, labels in images:
        predictor.set_image(np.ascontiguousarray(rgb))
        for mask in masks_of(labels):
            pixels = np.argwhere(mask)
            distances = ((pixels - pixels.mean(0)) ** 2).sum(1)
            middle = pixels[np.argmin(distances)]
            masks, predicted, _ = predictor.predict(middle[None, ::-1], np.array([1]))
            iou = [(mask & found).sum() / (mask | found).sum() for found in masks]
            rows.append((max(iou), iou[int(np.argmax(predicted))], predicted.max()))
    best, preferred, claimed = np.array(rows).T
    return (
        f'{len(rows)} objects, best mask {best.mean():.3f}, preferred {preferred.mean():.3f} '
        f'({(preferred > 0.5).mean():.0%} above 0.5), predicted {claimed.mean():.3f}'
    )


def propose_all(predictor: SamPredictor, rgb: np.ndarray, labels: np.ndarray) -> Proposals:
    """Return all masks of an image that pass the lowest cuts, with near duplicates."""
    loosest = replace(
        VIT_MINI,
        pred_iou_thresh=min(IOU_CUTS),
        stability_score_thresh=min(STABILITY_CUTS),
        box_nms_thresh=1,
    )
    features = encode_image_with_sam1(predictor, np.ascontiguousarray(rgb))
    proposed = propose_candidates(
        predictor.model,
        features,
        rgb.shape,
        loosest,
        points_per_side=POINTS_PER_SIDE,
        report=lambda share: None,
    )
    cleaned = [clean_mask(one, rgb.shape, SMALLEST) for one in proposed]
    proposed = [one for one in cleaned if has_allowed_area(one.area, SMALLEST, LARGEST)]
    objects = masks_of(labels)
    iou = np.zeros((len(proposed), len(objects)))
    for row, candidate in enumerate(proposed):
        for column, mask in enumerate(objects):
            shared = (mask[candidate.box.slices] & candidate.mask).sum()
            iou[row, column] = shared / (mask.sum() + candidate.area - shared)
    boxes = [candidate.box for candidate in proposed]
    return Proposals(
        iou,
        torch.tensor([(b.left, b.top, b.right - 1, b.bottom - 1) for b in boxes]).float(),
        torch.tensor([candidate.predicted_iou for candidate in proposed]),
        torch.tensor([candidate.stability_score for candidate in proposed]),
    )


def score_cuts(
    images: list[Proposals], iou_cut: float, stability_cut: float, nms_cut: float
) -> tuple[float, ...]:
    """Score the proposals that pass three cuts, at IoU 0.5.

    Returns
    -------
    f1, precision, recall : float
    """
    right = found = truth = 0
    for image in images:
        passes = (image.predicted > iou_cut) & (image.stability >= stability_cut)
        good = torch.nonzero(passes)[:, 0]
        kept = good[nms(image.boxes[good], image.predicted[good], nms_cut)].numpy()
        right += len(match_iou(image.iou[kept]))
        found += len(kept)
        truth += image.iou.shape[1]
    return 2 * right / (found + truth), right / max(found, 1), right / truth


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--checkpoint', default=str(OUT), help='file of the model')
    parser.add_argument(
        '--thresholds',
        action='store_true',
        help='also measure the thresholds of the mask generator (takes minutes)',
    )
    arguments = parser.parse_args()
    with torch.inference_mode():
        predictor = SamPredictor(load_model(VIT_MINI, arguments.checkpoint))
        print('synthetic:', measure_points(predictor, load_synthetic(40)), flush=True)
        print('labelled image:', measure_points(predictor, [load_nuclei()]), flush=True)
        if arguments.thresholds:
            images = [propose_all(predictor, *image) for image in load_synthetic(24)]
            cuts = itertools.product(IOU_CUTS, STABILITY_CUTS, NMS_CUTS)
            results = [(score_cuts(images, *used), used) for used in cuts]
            for scores, used in sorted(results, reverse=True)[:10]:
                print(
                    'F1 {:.3f}, precision {:.2f}, recall {:.2f}'.format(*scores),
                    'at predicted IoU {}, stability {}, box NMS {}'.format(*used),
                )
