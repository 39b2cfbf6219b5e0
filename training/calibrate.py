"""Correct the predicted IoU of the trained model: `python -m training.calibrate`.

The training sets many more points on objects, and close to them, than a grid does. So it expects
too much or too little of doubtful points. Here the head that predicts the IoU is trained once more,
alone, with points anywhere on drawings of the training. The masks do not change.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from tqdm import tqdm

from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.decoder import decode_points, predict_masks, project_image
from fewshot.sam.features import encode_image_with_sam1
from fewshot.sam.model import load_model
from training.crops import STEP, Crop, cut_crop
from training.drawings import Drawings
from training.shapes import IGNORED, SIDE
from training.train import FOLDER, OUT, SEED, SHARDS

DRAWINGS = 120
POINTS = 192  # per drawing
POINTS_AT_ONCE = 32
ZOOM = (1, 2)
FIT_STEPS = 800
POINTS_PER_STEP = 1024
RATE = 1e-3  # at the first step; it falls to 0


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
    """Train the head that predicts the IoU. The model is changed in place.

    Parameters
    ----------
    model : Sam
    tokens : (P, C) float32 tensor
    true_iou : (P, 3) float32 tensor
    """
    head = model.mask_decoder.iou_prediction_head.requires_grad_(True)
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.01)
    chooser = torch.Generator().manual_seed(SEED)
    for step in range(FIT_STEPS):
        optimizer.param_groups[0]['lr'] = RATE * (1 - step / FIT_STEPS)
        chosen = torch.randint(len(tokens), (POINTS_PER_STEP,), generator=chooser)
        error = head(tokens[chosen])[:, 1:] - true_iou[chosen]
        optimizer.zero_grad()
        (error**2).mean().backward()
        optimizer.step()
    head.requires_grad_(False)


def main(folder: Path, path: Path) -> None:
    """Correct the model in a file.

    Parameters
    ----------
    folder : Path
        With the drawings of the training.
    path : Path
        The model's file. It is written again.
    """
    predictor = SamPredictor(load_model(VIT_MINI, str(path)))
    drawings = Drawings(folder, SHARDS)
    rng = np.random.default_rng(SEED)
    gathered = []
    with torch.no_grad():
        for number in tqdm(rng.permutation(drawings.count)[:DRAWINGS], unit='drawing'):
            crop = cut_crop(drawings[int(number)], SIDE, ZOOM, rng)
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
    parser.add_argument('--folder', type=Path, default=FOLDER, help='with the drawings')
    arguments = parser.parse_args()
    main(arguments.folder.resolve(), arguments.out.resolve())
