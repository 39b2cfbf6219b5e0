"""Encoder and decoder at the sizes of real checkpoints, stock against the worker.

    python -m benchmarks.real_sizes --model vit_b --random-weights
    python -m benchmarks.real_sizes --model vit_h --weights sam_vit_h_4b8939.pth

Stock and worker run in turn in one process; seconds and ratios are medians over the pairs. A mask of one point in
five is good enough. Random weights see nothing in a picture: their masks are drawn from smooth random features, and cut
so high that a mask covers a few percent of the frame, as an object does.
"""

import argparse
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from demo.dataset import BLACK, WHITE
from fewshot.geometry import CutMask
from fewshot.images.layers import Layer, merge_channel
from fewshot.sam.checkpoints import VIT_H, Checkpoint
from fewshot.sam.features import encode_image_with_sam1
from fewshot.sam.model import PATCH_SIZE, build_sam, load_model
from fewshot.sam.proposals import propose_candidates

VIT_B = replace(
    VIT_H,
    name='sam_vit_b',
    title='SAM ViT-B',
    width=768,
    depth=12,
    heads=12,
    global_blocks=(2, 5, 8, 11),
)
CHECKPOINTS = {'vit_b': VIT_B, 'vit_h': VIT_H}
SIDE = 1024  # of the frame, pixels
POINTS = 8  # per side
MIN_AREA = 30  # pixels
GOOD = 0.2  # share of the points of which a mask is good enough
COVERED = 0.97  # quantile of the logits at which random masks are cut
NODES = 8  # of random features along a side; smooth between them
CPU_INFO = Path('/proc/cpuinfo')
PROJECTED_POINTS, PROJECTED_CANDIDATES = 128, 400  # per side; of a frame


@dataclass(frozen=True)
class UnitCosts:
    """Seconds to encode a frame or a crop, and to propose a mask for one point."""

    encode: float
    point: float


def project_frame(costs: UnitCosts, points_per_side: int, candidates: int) -> float:
    """Seconds of a frame from its unit costs: encoded once, each point asked, a crop encoded for each candidate."""
    return costs.encode * (1 + candidates) + costs.point * points_per_side**2


def write_random_weights(checkpoint: Checkpoint, path: Path) -> None:
    """A checkpoint file of random weights: positions count, logits are as wide as real ones, and show no pattern."""
    torch.manual_seed(0)
    weights = build_sam(checkpoint).state_dict()
    for name, value in weights.items():
        if 'pos_embed' in name or 'rel_pos' in name:
            value.normal_(std=0.02)
        elif 'hypernetworks' in name and 'layers.2' in name:
            value *= 200
        elif 'output_upscaling' in name and value.ndim == 4:
            value.copy_(2 * value.mean(dim=(2, 3), keepdim=True).expand_as(value))
    torch.save(weights, path)


def draw_features(checkpoint: Checkpoint, device: torch.device) -> torch.Tensor:
    """Smooth random features (1, C, h, w) of unit variance."""
    grid = checkpoint.input_size // PATCH_SIZE
    nodes = torch.randn(
        1, checkpoint.channels, NODES, NODES, generator=torch.Generator().manual_seed(0)
    )
    features = F.interpolate(nodes, size=(grid, grid), mode='bicubic')
    return (features / features.std()).to(device)


def time_pairs(
    stock: Callable[[], Any], worker: Callable[[], Any], pairs: int
) -> tuple[float, float, float]:
    """Median seconds of both, run in turn in alternating order, and the median ratio. Both are run once before."""

    def seconds(call: Callable[[], Any]) -> float:
        start = time.monotonic()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.monotonic() - start

    seconds(stock), seconds(worker)
    taken = []
    for pair in range(pairs):
        if pair % 2:
            after = seconds(worker)
            taken.append((seconds(stock), after))
        else:
            taken.append((seconds(stock), seconds(worker)))
    return (
        median(one for one, _ in taken),
        median(other for _, other in taken),
        median(one / other for one, other in taken),
    )


def settle_cuts(
    predictor: SamPredictor, features: torch.Tensor, random: bool
) -> tuple[float, float]:
    """The predicted IoU above which GOOD of the points have a mask, and the logit above which a pixel is in a mask."""
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
    mask_threshold = (
        np.quantile(logits.cpu().numpy(), COVERED) if random else predictor.model.mask_threshold
    )
    return float(predicted_iou.max(dim=1).values.quantile(1 - GOOD)), float(mask_threshold)


def multiplies_bfloat16(device: torch.device, cpu_info: Path = CPU_INFO) -> bool:
    """Whether the device has instructions for it, without which bfloat16 is slower than float32."""
    return device.type == 'cuda' or bool(re.search('avx512_bf16|amx_bf16', cpu_info.read_text()))


def measure_encoding(
    checkpoint: Checkpoint, path: Path, rgb: np.ndarray, pairs: int
) -> tuple[float, float]:
    """Time the encoders on a frame (H, W, 3) uint8 and print it; seconds of the stock and of the worker in float32."""
    stock = specified.load_model(checkpoint, str(path))
    seconds = {}
    for precision in ('float32', 'bfloat16'):
        if precision == 'bfloat16' and not multiplies_bfloat16(stock.device):
            print('bfloat16 is left out: this processor has neither avx512_bf16 nor amx_bf16.')
            continue
        worker = SamPredictor(load_model(checkpoint, str(path), precision))
        before, after, ratio = time_pairs(
            lambda: stock.set_image(rgb), lambda: encode_image_with_sam1(worker, rgb), pairs
        )  # noqa: B023 - called here
        gap = ((worker.features - stock.features).abs().max() / stock.features.std()).item()
        print(
            f'Encoding, {precision}: {before:.3f} → {after:.3f} s, {ratio:.2f}× faster; features differ by '
            f'{gap:.1e} of their standard deviation at most',
            flush=True,
        )
        seconds[precision] = before, after
    return seconds['float32']


def measure_proposing(
    checkpoint: Checkpoint, path: Path, rgb: np.ndarray, random: bool, pairs: int
) -> tuple[float, float]:
    """Measure and print the seconds per point of both sides, without the encoding of the frame."""
    stock = specified.load_model(checkpoint, str(path))
    worker = SamPredictor(load_model(checkpoint, str(path)))
    features = (
        draw_features(checkpoint, stock.device) if random else encode_image_with_sam1(worker, rgb)
    )
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
            min_area=MIN_AREA,
            report=lambda share: None,
        )
        found['worker'] = [CutMask(one.box, one.mask) for one in candidates]

    before, after, ratio = time_pairs(ask_stock, ask_worker, pairs)
    counts = len(found['stock']), len(found['worker'])
    lowest = (
        min(map(mask_iou, found['stock'], found['worker']), default=1)
        if counts[0] == counts[1]
        else 0
    )
    print(
        f'Proposing: {before / POINTS**2:.4f} → {after / POINTS**2:.4f} s a point, {ratio:.2f}× faster; '
        f'{counts[0]} and {counts[1]} candidates, lowest IoU {lowest:.5f}',
        flush=True,
    )
    return before / POINTS**2, after / POINTS**2


def measure(checkpoint: Checkpoint, path: Path, random: bool, pairs: int, side: int = SIDE) -> None:
    """Measure the weights in a file on a frame of `side` pixels and print what a frame would cost."""
    rgb = np.zeros((side, side, 3), np.uint8)
    merge_channel(rgb, draw_frame(side), Layer(0, (1, 1, 1), True, BLACK, WHITE))
    encoding = measure_encoding(checkpoint, path, rgb, pairs)
    proposing = measure_proposing(checkpoint, path, rgb, random, pairs)
    before, after = (
        project_frame(UnitCosts(*costs), PROJECTED_POINTS, PROJECTED_CANDIDATES)
        for costs in zip(encoding, proposing, strict=True)
    )
    print(
        f'Projected, not measured: a frame at {PROJECTED_POINTS} points per side with {PROJECTED_CANDIDATES} '
        f'candidates, from the seconds above: {before:,.0f} → {after:,.0f} s, {before / after:.1f}× faster'
    )


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.real_sizes',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--model', choices=CHECKPOINTS, default='vit_b')
    parser.add_argument('--pairs', type=int, default=3, help='runs of each side (default: 3)')
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument('--random-weights', action='store_true')
    weights.add_argument('--weights', type=Path, help="SAM's own checkpoint file")
    options = parser.parse_args()
    checkpoint = CHECKPOINTS[options.model]
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f'CPU, {torch.get_num_threads()} threads'
    )
    print(f'{checkpoint.title}, frame of {SIDE}×{SIDE}, {device}; stock → worker', flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = options.weights or Path(folder) / 'random.pth'
        if options.random_weights:
            write_random_weights(checkpoint, path)
        measure(checkpoint, path, options.random_weights, options.pairs)


if __name__ == '__main__':
    main()
