"""Measure the small SAM: `python -m training.measure`.

Held-out synthetic images (another seed than training) and the labelled image of the demo. One point on each object:
how good is the best of the three masks, and the one that the model prefers? With --thresholds also the automatic mask
generator on synthetic images, at several cuts of predicted IoU and stability: this chose the values in
`fewshot/models.py`.
"""
import argparse
import itertools
from dataclasses import replace

import numpy as np
import torch
from segment_anything import SamPredictor

from demo.dataset import BLACK, WHITE, cut, read_image
from demo.scoring import match
from fewshot.candidates import propose_candidates
from fewshot.encoder import load_predictor
from fewshot.frames import Layer, ensure_rgb, stretch
from fewshot.models import VIT_MINI, Checkpoint
from fewshot.parameters import Location, Parameters
from training.synthetic import make_image
from training.train import OUT

SEED = 2026  # training uses another
SMALLEST = 60  # pixels; fragments at a border are left out


def load_synthetic(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The middle 256×256 pixels of so many held-out images, with labels."""
    rng = np.random.default_rng(SEED)
    middle = (slice(128, 384), slice(128, 384))
    return [(rgb[middle], labels[middle]) for rgb, labels in (make_image(rng) for _ in range(count))]


def load_nuclei(side: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The labelled image in squares of `side` pixels, each with the demo's contrast."""
    layer = Layer(0, (1, 1, 1), True, BLACK, WHITE)
    image, labels = (cut(whole, side) for whole in read_image())
    return [(ensure_rgb(stretch(square, layer)), numbers) for square, numbers in zip(image, labels, strict=True)]


def masks_of(labels: np.ndarray) -> list[np.ndarray]:
    """The mask of each object of a label image that is large enough."""
    masks = [labels == number for number in np.unique(labels[labels > 0])]
    return [mask for mask in masks if mask.sum() >= SMALLEST]


def measure_points(predictor: SamPredictor, images: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """One point in the middle of each object: mean IoU of the masks, as a line of text."""
    rows = []
    for rgb, labels in images:
        predictor.set_image(np.ascontiguousarray(rgb))
        for mask in masks_of(labels):
            pixels = np.argwhere(mask)
            middle = pixels[np.argmin(((pixels - pixels.mean(0)) ** 2).sum(1))]
            masks, predicted, _ = predictor.predict(middle[None, ::-1], np.array([1]))
            iou = [(mask & found).sum() / (mask | found).sum() for found in masks]
            rows.append((max(iou), iou[int(np.argmax(predicted))], predicted.max()))
    best, preferred, claimed = np.array(rows).T
    return (f'{len(rows)} objects, best mask {best.mean():.3f}, preferred {preferred.mean():.3f} '
            f'({(preferred > 0.5).mean():.0%} above 0.5), predicted {claimed.mean():.3f}')


def measure_generator(predictor: SamPredictor, images: list[tuple[np.ndarray, np.ndarray]],
                      checkpoint: Checkpoint) -> str:
    """Precision, recall and F1 at IoU 0.5 of the automatic masks, as a line of text."""
    parameters = Parameters(
        training_tags=(), batches={}, threshold=0, occupancy=0.2, points_per_side=24, min_area=SMALLEST,
        max_area=256 ** 2 // 8, smoothing=0, tags=(), channel=0, current=Location(0, 0, 0), connect_to=None,
        checkpoint=checkpoint)
    right = found = truth = 0
    for rgb, labels in images:
        masks = []
        for candidate in propose_candidates(predictor.model, rgb, parameters, lambda share: None):
            if candidate.area <= parameters.max_area:
                mask = np.zeros(labels.shape, bool)
                mask[candidate.box.slices] = candidate.mask
                masks.append(mask)
        objects = masks_of(labels)
        right, found, truth = right + len(match(masks, objects)), found + len(masks), truth + len(objects)
    return (f'predicted IoU {checkpoint.pred_iou_thresh}, stability {checkpoint.stability_score_thresh}, box NMS '
            f'{checkpoint.box_nms_thresh}: precision {right / max(found, 1):.2f}, recall {right / truth:.2f}, '
            f'F1 {2 * right / (found + truth):.3f}')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--checkpoint', default=str(OUT))
    parser.add_argument('--thresholds', action='store_true', help='try cuts of the mask generator (minutes)')
    arguments = parser.parse_args()
    with torch.inference_mode():
        predictor = load_predictor(VIT_MINI, arguments.checkpoint)
        print('synthetic:', measure_points(predictor, load_synthetic(40)), flush=True)
        print('labelled image, squares of 128:', measure_points(predictor, load_nuclei(128)), flush=True)
        print('labelled image, squares of 256:', measure_points(predictor, load_nuclei(256)), flush=True)
        if arguments.thresholds:
            images = load_synthetic(8)
            for iou, stability, nms in itertools.product((0.6, 0.7, 0.8), (0.6, 0.75, 0.9), (0.3, 0.5, 0.7)):
                checkpoint = replace(
                    VIT_MINI, pred_iou_thresh=iou, stability_score_thresh=stability, box_nms_thresh=nms)
                print(measure_generator(predictor, images, checkpoint), flush=True)
