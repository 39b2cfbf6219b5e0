"""Correct the predicted IoU of the trained model: `python -m training.calibrate`.

The training sets many more points on objects than a grid does, and it knows its drawings. So the
model expects too much of doubtful points in other pictures. Here the predicted IoU is corrected
with points anywhere on new drawings. The masks and the preferred mask of a point do not change.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from tqdm import tqdm

from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.decoder import decode_points, predict_masks, project_image
from fewshot.sam.features import encode_image_with_sam1
from fewshot.sam.model import load_model
from training.crops import STEP, Crop, cut_crop
from training.shapes import IGNORED, SIDE
from training.synthetic import make_image
from training.train import OUT, SEED, SHARDS

DRAWINGS = 160
POINTS = 128  # per drawing
POINTS_AT_ONCE = 32
ZOOM = (1, 1.5)
RIDGE = 1e-3  # times the number of points


def gather(
    predictor: SamPredictor, crop: Crop, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the head sees at points of a crop, and what it should predict.

    Parameters
    ----------
    predictor : SamPredictor
    crop : Crop
        Of the size of the model's input.
    rng : numpy.random.Generator

    Returns
    -------
    tokens : (P, C) float32 tensor
        At most POINTS.
    true_iou : (P, 3) float32 tensor
        As in the training: of the first and the third mask with the object, of the second one with
        the part at the point. 0 on the background.
    """
    model = predictor.model
    image = project_image(model, encode_image_with_sam1(predictor, crop.rgb))
    rows, columns = rng.integers(0, len(crop.labels), (2, POINTS))
    is_clear = crop.labels[rows, columns] != IGNORED
    rows, columns = rows[is_clear], columns[is_clear]
    tokens, true_iou = [], []
    every = slice(STEP // 2, None, STEP)
    labels, parts = crop.labels[every, every], crop.parts[every, every]  # as low-resolution masks
    for start in range(0, len(rows), POINTS_AT_ONCE):
        at_once = slice(start, start + POINTS_AT_ONCE)
        places = np.stack([columns[at_once], rows[at_once]], axis=1) + 0.5
        queries, keys, _ = decode_points(model, image, torch.as_tensor(places).float())
        found = (predict_masks(model, queries, keys) > model.mask_threshold).numpy()
        tokens.append(queries[:, 0])
        for three, row, column in zip(found, rows[at_once], columns[at_once], strict=True):
            number = crop.labels[row, column]
            whole = labels == number if number else np.zeros_like(parts)
            part = whole & parts if crop.parts[row, column] else whole
            targets = np.stack([whole, part, whole])
            shared = (three & targets).sum((1, 2))
            true_iou.append(shared / np.maximum((three | targets).sum((1, 2)), 1))
    return torch.cat(tokens), torch.tensor(np.array(true_iou), dtype=torch.float32)


def fit(model: Sam, tokens: torch.Tensor, true_iou: torch.Tensor) -> None:
    """Correct the head that predicts the IoU. The model is changed in place.

    The correction is linear in what the last layer sees, and the same for the three masks of a
    point. So the preferred mask of a point remains the same.

    Parameters
    ----------
    model : Sam
    tokens : (P, C) float32 tensor
    true_iou : (P, 3) float32 tensor
    """
    head = model.mask_decoder.iou_prediction_head
    hidden = tokens
    for layer in head.layers[:-1]:
        hidden = F.relu(layer(hidden))
    highest, which = head.layers[-1](hidden)[:, 1:].max(dim=1)
    missing = true_iou.gather(1, which[:, None])[:, 0] - highest
    ones = torch.ones(len(hidden), 1)
    inputs = torch.cat([hidden, ones], dim=1).double()
    # Ridge regression: features that hardly vary get no large weights
    normal = inputs.T @ inputs + RIDGE * len(inputs) * torch.eye(inputs.shape[1])
    correction = torch.linalg.solve(normal, inputs.T @ missing.double()).float()
    head.layers[-1].weight += correction[:-1]
    head.layers[-1].bias += correction[-1]


def main(path: Path) -> None:
    """Correct the model in a file.

    Parameters
    ----------
    path : Path
        The model's file. It is written again.
    """
    predictor = SamPredictor(load_model(VIT_MINI, str(path)))
    gathered = []
    with torch.no_grad():
        for number in tqdm(range(DRAWINGS), unit='drawing'):
            # The shard after those of the training
            rng = np.random.default_rng([SEED, SHARDS, number])
            crop = cut_crop(make_image(rng), SIDE, ZOOM, rng)
            gathered.append(gather(predictor, crop, rng))
        tokens, true_iou = (torch.cat(parts) for parts in zip(*gathered, strict=True))
        fit(predictor.model, tokens, true_iou)
    stored = torch.load(path, weights_only=True)
    corrected = predictor.model.mask_decoder.iou_prediction_head.state_dict()
    for name, value in corrected.items():
        stored[f'mask_decoder.iou_prediction_head.{name}'] = value.half()
    torch.save(stored, path)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=OUT, help='file of the model')
    main(parser.parse_args().out.resolve())
