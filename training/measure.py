"""Measure the small SAM: `python -m training.measure`.

The images are held-out drawings, with another seed than those of the training, and the labelled
image of the demo.

- The model gets one point in the middle of each object. The module measures the best of its three
  masks, and the one with the highest predicted IoU.
- The model gets a grid of points on each drawing, on objects and background. The module compares
  the predicted IoU of the preferred mask with its true IoU.

With --thresholds, it also measures the automatic mask generator on drawings, at several thresholds
of predicted IoU, stability and box NMS.
"""

import argparse
import itertools
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from segment_anything import SamPredictor
from segment_anything.utils.amg import build_point_grid
from torchvision.ops import nms

from demo.dataset import color_picture, read_image
from demo.scoring import match_iou
from fewshot.geometry import has_allowed_area
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.cleaning import clean_mask
from fewshot.sam.decoder import decode_points, predict_masks, project_image
from fewshot.sam.features import encode_image_with_sam1
from fewshot.sam.model import load_model
from fewshot.sam.proposals import propose_candidates
from training.synthetic import make_image
from training.train import OUT

SEED = 2026  # training uses another
SMALLEST = 60  # pixels; a smaller object is a fragment at a border
LARGEST = 512**2 // 8  # pixels; a larger mask is background
DRAWINGS = 24
DRAWINGS_FOR_THRESHOLDS = 16
POINTS_PER_SIDE = 24
POINTS_AT_ONCE = 32
IOU_CUTS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)
STABILITY_CUTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
NMS_CUTS = (0.1, 0.2, 0.3, 0.5)


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


class Tenth(NamedTuple):
    """The points whose preferred mask has a predicted IoU within a tenth.

    Attributes
    ----------
    share : float
        Of all points.
    predicted, true : float
        Mean predicted IoU and mean true IoU.
    """

    share: float
    predicted: float
    true: float


def load_synthetic(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return `count` held-out drawings with their labels."""
    rng = np.random.default_rng(SEED)
    drawings = [make_image(rng) for _ in range(count)]
    return [(drawing.rgb, drawing.labels) for drawing in drawings]


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


def measure_calibration(
    predictor: SamPredictor, images: list[tuple[np.ndarray, np.ndarray]]
) -> list[Tenth]:
    """Compare predicted with true IoU at a grid of points.

    The mask is the preferred one of each point. Its true IoU is the one with the object at the
    point, and 0 on the background. Points on fragments do not count.

    Returns
    -------
    list of Tenth
        For a predicted IoU of 0 to 0.1, 0.1 to 0.2 and so on. Values outside 0 to 1 are in the
        first or the last one.
    """
    rows = [measure_grid(predictor, rgb, labels) for rgb, labels in images]
    predicted, true = np.concatenate(rows, axis=1)
    which = np.clip((predicted * 10).astype(int), 0, 9)
    tenths = []
    for number in range(10):
        chosen = which == number
        count = max(1, int(chosen.sum()))
        tenths.append(
            Tenth(
                share=float(chosen.mean()),
                predicted=float(predicted[chosen].sum() / count),
                true=float(true[chosen].sum() / count),
            )
        )
    return tenths


def measure_grid(predictor: SamPredictor, rgb: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return predicted and true IoU of the preferred masks of a grid of points: (2, points)."""
    model = predictor.model
    height, width = labels.shape
    embedding = encode_image_with_sam1(predictor, np.ascontiguousarray(rgb))
    image = project_image(model, embedding)
    places = build_point_grid(POINTS_PER_SIDE) * (width, height)
    columns, rows = np.minimum(places.astype(int), (width - 1, height - 1)).T
    here = labels[rows, columns]
    places, here = places[here >= 0], here[here >= 0]
    areas = np.bincount(np.maximum(labels, 0).ravel())
    points = predictor.transform.apply_coords(places, labels.shape)
    pairs = []
    for start in range(0, len(points), POINTS_AT_ONCE):
        numbers = here[start : start + POINTS_AT_ONCE]
        batch = torch.as_tensor(points[start : start + POINTS_AT_ONCE], dtype=torch.float32)
        queries, keys, predicted = decode_points(model, image, batch)
        highest, which = predicted.max(dim=1)
        low_res_masks = predict_masks(model, queries, keys)[range(len(batch)), which][:, None]
        masks = model.postprocess_masks(low_res_masks, predictor.input_size, labels.shape)
        found = (masks[:, 0] > model.mask_threshold).numpy()
        for mask, number, claimed in zip(found, numbers, highest.tolist(), strict=True):
            shared = int((labels[mask] == number).sum()) if number else 0
            pairs.append((claimed, shared / (mask.sum() + areas[number] - shared)))
    return np.array(pairs).T


def write_calibration(tenths: list[Tenth]) -> str:
    """Return the table of the calibration as Markdown."""
    lines = [
        '| predicted IoU | share of the points | predicted, mean | true, mean |',
        '|---' * 4 + '|',
    ]
    for number, tenth in enumerate(tenths):
        lines.append(
            f'| {number / 10:.1f} to {number / 10 + 0.1:.1f} | {tenth.share:.1%} '
            f'| {tenth.predicted:.2f} | {tenth.true:.2f} |'
        )
    return '\n'.join(lines)


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
        drawings = load_synthetic(DRAWINGS)
        print('drawings:', measure_points(predictor, drawings), flush=True)
        print('labelled image:', measure_points(predictor, [load_nuclei()]), flush=True)
        print(write_calibration(measure_calibration(predictor, drawings)), flush=True)
        if arguments.thresholds:
            images = [
                propose_all(predictor, *image) for image in drawings[:DRAWINGS_FOR_THRESHOLDS]
            ]
            cuts = itertools.product(IOU_CUTS, STABILITY_CUTS, NMS_CUTS)
            results = [(score_cuts(images, *used), used) for used in cuts]
            for scores, used in sorted(results, reverse=True)[:10]:
                print(
                    'F1 {:.3f}, precision {:.2f}, recall {:.2f}'.format(*scores),
                    'at predicted IoU {}, stability {}, box NMS {}'.format(*used),
                )
