"""Measure models of the sizes of real checkpoints: stock SAM against the worker.

    python -m benchmarks.real_sizes --model vit_b --random-weights
    python -m benchmarks.real_sizes --model vit_h --weights sam_vit_h_4b8939.pth

The command prints the seconds per encoding, per candidate and per point, and the memory. Stock and
worker run in turn in one process; for the memory, each has its own. Seconds and ratios are medians
over the pairs. One point in five has a mask that passes the predicted IoU. Random weights find no
objects in a picture. So their masks come from smooth random features, with a threshold that lets a
mask cover a few percent of the frame, as an object does.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from segment_anything import SamPredictor
from segment_anything.utils.amg import build_point_grid

from benchmarks import specified
from benchmarks.findings import mask_iou
from benchmarks.frames import draw_frame
from benchmarks.job import forget_most_memory, read_memory
from demo.dataset import color_picture
from fewshot.geometry import Box, CutMask
from fewshot.sam.checkpoints import VIT_B, VIT_H, VIT_L, Checkpoint, Costs
from fewshot.sam.cleaning import clean_mask, select_cleaned
from fewshot.sam.features import describe_objects, encode_image_with_sam1
from fewshot.sam.model import build_sam, has_bfloat16, load_model
from fewshot.sam.proposals import propose_candidates

CHECKPOINTS = {'vit_b': VIT_B, 'vit_l': VIT_L, 'vit_h': VIT_H}
SIDE = 1024  # of the frame, pixels
POINTS = 8  # per side
MIN_AREA = 30  # pixels
OBJECT = Box(100, 100, 140, 140)  # in the frame, pixels
OCCUPANCY = 0.2  # of the crop around it
GOOD = 0.2  # share of the points that have a mask above the predicted IoU
COVERED = 0.97  # quantile of the logits that is the threshold of random masks
NODES = 8  # of random features along a side, interpolated between them
PROJECTED_POINTS = 128  # per side
PROJECTED_CANDIDATES = 400  # per frame


def write_random_weights(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint file of random weights.

    Positional encodings have an effect, logits have the range of real ones, the upscaling adds no
    pattern to the masks, and the predicted IoU is above 0: SAM ignores thresholds that are not.
    """
    torch.manual_seed(0)
    weights = build_sam(checkpoint).state_dict()
    for name, value in weights.items():
        if 'pos_embed' in name or 'rel_pos' in name:
            value.normal_(std=0.02)
        elif 'hypernetworks' in name and 'layers.2' in name:
            value *= 200
        elif 'iou_prediction_head' in name and name.endswith('layers.2.bias'):
            value += 1
        elif 'output_upscaling' in name and value.ndim == 4:
            value.copy_(2 * value.mean(dim=(2, 3), keepdim=True).expand_as(value))
    torch.save(weights, path)


def draw_features(checkpoint: Checkpoint, device: torch.device) -> torch.Tensor:
    """Return smooth random features (1, C, h, w) of unit variance."""
    grid = checkpoint.input_size // checkpoint.patch_size
    generator = torch.Generator().manual_seed(0)
    nodes = torch.randn(1, checkpoint.channels, NODES, NODES, generator=generator)
    features = F.interpolate(nodes, size=(grid, grid), mode='bicubic')
    return (features / features.std()).to(device)


def time_in_turn(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Time functions in turn, after one run of each. Every second round has the opposite order.

    Parameters
    ----------
    calls : mapping
        Functions by name.
    rounds : int

    Returns
    -------
    dict
        The seconds of each round, by name.
    """
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in list(calls)[:: 1 if number % 2 == 0 else -1]:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            start = time.monotonic()
            calls[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.monotonic() - start)
    return seconds


def compare_seconds(stock: Sequence[float], worker: Sequence[float], unit: str) -> str:
    """Return the medians of both and the median of their ratio, as text."""
    ratio = median(one / other for one, other in zip(stock, worker, strict=True))
    return f'{median(stock):.4g} → {median(worker):.4g} s per {unit}, {ratio:.2f}× faster'


def settle_cuts(
    predictor: SamPredictor, features: torch.Tensor, random: bool
) -> tuple[float, float]:
    """Choose the thresholds for which a share GOOD of the points has a mask.

    Parameters
    ----------
    predictor : SamPredictor
    features : (1, C, h, w) torch.Tensor
        Used in place of the encoder's.
    random : bool
        Whether the weights are random.

    Returns
    -------
    predicted_iou : float
        A mask passes above it.
    logit : float
        A pixel belongs to a mask above it.
    """
    with (
        torch.inference_mode(),
        patch.object(predictor.model.image_encoder, 'forward', return_value=features),
    ):
        side = predictor.model.image_encoder.img_size
        predictor.set_image(np.zeros((side, side, 3), np.uint8))
        points = torch.as_tensor(build_point_grid(POINTS) * side, device=predictor.device)
        points = predictor.transform.apply_coords_torch(points, (side, side))
        foreground = torch.ones(len(points), 1, dtype=torch.int, device=predictor.device)
        _, predicted_iou, logits = predictor.predict_torch(
            points[:, None], foreground, return_logits=True
        )
    best = predicted_iou.max(dim=1).values  # of the masks of each point
    mask_threshold = predictor.model.mask_threshold
    if random:
        mask_threshold = np.quantile(logits.cpu().numpy(), COVERED)
    return float(best.quantile(1 - GOOD)), float(mask_threshold)


def measure_encoding(
    checkpoint: Checkpoint, path: Path, rgb: np.ndarray, precisions: Sequence[str], pairs: int
) -> tuple[float, float]:
    """Time the encoding of a frame and of a candidate with stock SAM and the worker, and print it.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : Path
        Its file.
    rgb : (H, W, 3) ndarray of uint8
        The frame.
    precisions : sequence of str
        The worker's, float32 among them.
    pairs : int
        Runs of each side.

    Returns
    -------
    stock, worker : float
        Seconds per encoding of the frame in float32.
    """
    mask = np.zeros(rgb.shape[:2], bool)
    mask[OBJECT.slices] = True
    candidate = specified.cut_mask(mask)
    stock = specified.load_model(checkpoint, str(path))
    encode: dict[str, Callable[[], Any]] = {'stock': partial(stock.set_image, rgb)}
    describe = {'stock': partial(specified.describe, stock, rgb, mask, OCCUPANCY)}
    workers = {}
    for precision in precisions:
        worker = SamPredictor(load_model(checkpoint, str(path), precision))
        workers[precision] = worker
        encode[precision] = partial(encode_image_with_sam1, worker, rgb)
        describe[precision] = partial(
            describe_objects, worker.model, rgb, [candidate], OCCUPANCY, lambda share: None
        )
    encoding = time_in_turn(encode, pairs)
    for precision, worker in workers.items():
        gap = ((worker.features - stock.features).abs().max() / stock.features.std()).item()
        compared = compare_seconds(encoding['stock'], encoding[precision], 'encoding')
        print(
            f'Encoding, {precision}: {compared}; '
            f'features differ by {gap:.1e} of their standard deviation at most',
            flush=True,
        )
    describing = time_in_turn(describe, pairs)
    for precision in workers:
        compared = compare_seconds(describing['stock'], describing[precision], 'candidate')
        print(f'Describing, {precision}: {compared}', flush=True)
    return median(encoding['stock']), median(encoding['float32'])


def list_precisions() -> list[str]:
    """Return the precisions to measure: bfloat16 only where the hardware has it."""
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    if has_bfloat16(device):
        return ['float32', 'bfloat16']
    print('bfloat16 is not measured. The hardware does not have it.')
    return ['float32']


def measure_proposing(
    checkpoint: Checkpoint, path: Path, rgb: np.ndarray, random: bool, pairs: int
) -> tuple[float, float]:
    """Measure and print the seconds per point of both sides, without encoding the frame.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : Path
        Its file.
    rgb : (H, W, 3) ndarray of uint8
        The frame.
    random : bool
        Whether the weights are random.
    pairs : int
        Runs of each side.

    Returns
    -------
    stock, worker : float
    """
    stock = specified.load_model(checkpoint, str(path))
    worker = SamPredictor(load_model(checkpoint, str(path)))
    if random:
        features = draw_features(checkpoint, stock.device)
    else:
        features = encode_image_with_sam1(worker, rgb)
    cut, mask_threshold = settle_cuts(stock, features, random)
    stock.model.mask_threshold = worker.model.mask_threshold = mask_threshold
    loose = replace(checkpoint, pred_iou_thresh=cut, stability_score_thresh=0)
    found: dict[str, list[CutMask]] = {}

    def ask_stock() -> None:
        with patch.object(stock.model.image_encoder, 'forward', return_value=features):
            records = specified.propose(stock.model, rgb, loose, POINTS, MIN_AREA, max_area=0)
        found['stock'] = [specified.cut_mask(record['segmentation']) for record in records]

    def ask_worker() -> None:
        candidates = propose_candidates(
            worker.model,
            features,
            rgb.shape,
            loose,
            points_per_side=POINTS,
            report=lambda share: None,
        )
        cleaned = [clean_mask(one, rgb.shape, MIN_AREA) for one in candidates]
        numbers = select_cleaned(candidates, cleaned, loose.box_nms_thresh)
        found['worker'] = [CutMask(cleaned[n].box, cleaned[n].mask) for n in numbers]

    seconds = time_in_turn({'stock': ask_stock, 'worker': ask_worker}, pairs)
    per_point = {name: [one / POINTS**2 for one in some] for name, some in seconds.items()}
    counts = len(found['stock']), len(found['worker'])
    lowest = 0.0
    if counts[0] == counts[1]:
        lowest = min(map(mask_iou, found['stock'], found['worker']), default=1)
    compared = compare_seconds(per_point['stock'], per_point['worker'], 'point')
    print(
        f'Proposing: {compared}; {counts[0]} and {counts[1]} candidates, lowest IoU {lowest:.5f}',
        flush=True,
    )
    return median(per_point['stock']), median(per_point['worker'])


def measure_memory(
    checkpoint: Checkpoint, path: Path, rgb: np.ndarray, precisions: Sequence[str]
) -> None:
    """Print the memory of processes that load the model, encode a frame and propose masks.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : Path
        Its file.
    rgb : (H, W, 3) ndarray of uint8
        The frame.
    precisions : sequence of str
        The worker's.
    """
    for kind in ('stock', *precisions):
        # A new process, because the memory of this one would count too.
        with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process:
            searching = process.submit(read_most_memory, kind, checkpoint, path, rgb)
            loading, working = searching.result()
        title = kind if kind == 'stock' else f'worker, {kind}'
        print(
            f'Memory, {title}: {loading:,.0f} MB at most to load the model, '
            f'{working:,.0f} MB at most for a frame',
            flush=True,
        )


def read_most_memory(
    kind: str, checkpoint: Checkpoint, path: Path, rgb: np.ndarray
) -> tuple[float, float]:
    """Load the model, encode a frame and propose masks, and return the memory of this process.

    Parameters
    ----------
    kind : str
        `stock`, or the worker's precision.
    checkpoint : Checkpoint
    path : Path
    rgb : (H, W, 3) ndarray of uint8

    Returns
    -------
    loading, working : float
        The maximum until the model is loaded, and after it, MB.
    """
    if kind == 'stock':
        predictor = specified.load_model(checkpoint, str(path))
    else:
        predictor = SamPredictor(load_model(checkpoint, str(path), kind))
    loading = read_memory('VmHWM')
    forget_most_memory()
    if kind == 'stock':
        specified.propose(predictor.model, rgb, checkpoint, POINTS, MIN_AREA, max_area=0)
    else:
        propose_candidates(
            predictor.model,
            encode_image_with_sam1(predictor, rgb),
            rgb.shape,
            checkpoint,
            points_per_side=POINTS,
            report=lambda share: None,
        )
    return loading, read_memory('VmHWM')


def measure(checkpoint: Checkpoint, path: Path, random: bool, pairs: int, side: int = SIDE) -> None:
    """Measure a checkpoint file on a frame of `side` pixels, and print an estimate per frame."""
    rgb = color_picture(draw_frame(side))
    precisions = list_precisions()
    measure_memory(checkpoint, path, rgb, precisions)
    encoding = measure_encoding(checkpoint, path, rgb, precisions, pairs)
    proposing = measure_proposing(checkpoint, path, rgb, random, pairs)
    before, after = (
        Costs(*costs).estimate_frame(PROJECTED_POINTS, PROJECTED_CANDIDATES)
        for costs in zip(encoding, proposing, strict=True)
    )
    print(
        f'Projected, not measured: a frame at {PROJECTED_POINTS} points per side with '
        f'{PROJECTED_CANDIDATES} candidates, from the seconds above: '
        f'{before:,.0f} → {after:,.0f} s, {before / after:.1f}× faster'
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.real_sizes',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--model', choices=CHECKPOINTS, default='vit_b', help='size of SAM (default: vit_b)'
    )
    parser.add_argument('--pairs', type=int, default=3, help='runs of each (default: 3)')
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument(
        '--random-weights', action='store_true', help='measure without a checkpoint file'
    )
    weights.add_argument('--weights', type=Path, help="SAM's own checkpoint file")
    options = parser.parse_args(arguments)
    if options.weights and not options.weights.is_file():
        parser.error(f'{options.weights} does not exist. Name a checkpoint file with --weights.')
    checkpoint = CHECKPOINTS[options.model]
    device = f'CPU, {torch.get_num_threads()} threads'
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    print(f'{checkpoint.title}, frame of {SIDE}×{SIDE}, {device}; stock → worker', flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = options.weights or Path(folder) / 'random.pth'
        if options.random_weights:
            write_random_weights(checkpoint, path)
        measure(checkpoint, path, options.random_weights, options.pairs)


if __name__ == '__main__':
    main()
