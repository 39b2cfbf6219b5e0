"""Train the small SAM on synthetic microscopy: `python -m training.train`.

The model learns to return an object's mask for one point on it. Two processes with one core each
train together. They save their state every ten minutes, and the same command goes on from there.
The seed is fixed.
"""

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from segment_anything.modeling import Sam

from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.model import build_sam
from training.crops import Pixels, Points, choose_points, cut_crop, describe_pixels
from training.drawings import Drawings, draw_shards
from training.losses import Quality, measure_pixel_loss, measure_point_loss
from training.network import PixelHead, decode, encode, prepare

SEED = 7
SHARDS = 47  # of drawings
PROCESSES = 2
WARM_UP_STEPS = 60
AVERAGE_DECAY = 0.998  # per step, of the moving average of the weights; the average is saved
SAVE_INTERVAL_SECONDS = 600
REPORT_INTERVAL_STEPS = 50
OUT = Path(__file__).parents[1] / 'models' / VIT_MINI.file
FOLDER = Path(__file__).parent / 'out'  # for the drawings and the state


@dataclass(frozen=True)
class Stage:
    """Steps with crops of one size.

    Attributes
    ----------
    steps : int
    side : int
        Of the crops, pixels.
    crops : int
        Per step and process.
    points : int
        Per crop. Without points, the image encoder is trained alone.
    zoom : tuple of float
        Smallest and largest magnification of the drawings.
    rates : tuple of float
        Learning rate of the first and of the last step.
    """

    steps: int
    side: int
    crops: int
    points: int
    zoom: tuple[float, float]
    rates: tuple[float, float]


# At first the image encoder alone: with the masks from the start it hardly uses the image.
STAGES = (
    Stage(600, side=128, crops=8, points=0, zoom=(0.5, 1.3), rates=(2e-3, 1.8e-3)),
    Stage(1500, side=128, crops=8, points=6, zoom=(0.5, 1.3), rates=(1.8e-3, 1.5e-3)),
    Stage(3300, side=256, crops=2, points=8, zoom=(0.5, 1.3), rates=(1.5e-3, 1e-5)),
    # Larger crops: without them the model finds only parts of large objects in a whole frame
    Stage(1900, side=384, crops=1, points=8, zoom=(0.5, 2.5), rates=(1e-3, 7e-4)),
    Stage(1200, side=512, crops=1, points=8, zoom=(0.5, 3), rates=(7e-4, 1e-5)),
    # Again many small objects, so that it parts those that touch
    Stage(2000, side=256, crops=2, points=8, zoom=(0.5, 1.5), rates=(8e-4, 5e-4)),
    Stage(650, side=512, crops=1, points=16, zoom=(0.5, 2.5), rates=(5e-4, 1e-5)),
)


@dataclass
class State:
    """What changes in a training.

    Attributes
    ----------
    model : Sam
    head : PixelHead
    optimizers : list of torch.optim.Optimizer
    average : dict of str to torch.Tensor
        Moving average of the model's weights.
    step : int
        Steps that are done.
    """

    model: Sam
    head: PixelHead
    optimizers: list[torch.optim.Optimizer]
    average: dict[str, torch.Tensor]
    step: int = 0

    def save(self, path: Path) -> None:
        """Write everything that is needed to go on. The file is complete or not there."""
        part = path.with_suffix('.part')
        content = {
            'model': self.model.state_dict(),
            'head': self.head.state_dict(),
            'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
            'average': self.average,
            'step': self.step,
        }
        torch.save(content, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a file of `save`."""
        content = torch.load(path, weights_only=True)
        self.model.load_state_dict(content['model'])
        self.head.load_state_dict(content['head'])
        for optimizer, stored in zip(self.optimizers, content['optimizers'], strict=True):
            optimizer.load_state_dict(stored)
        self.average = content['average']
        self.step = content['step']


def start() -> State:
    """Return the state before the first step. It is the same in every process."""
    torch.manual_seed(SEED)
    model = build_sam(VIT_MINI).train()
    prepare(model)
    head = PixelHead(VIT_MINI.channels)
    matrices, others = split_parameters(model, head)
    optimizers = [
        torch.optim.Muon(matrices, weight_decay=0.01, adjust_lr_fn='match_rms_adamw'),
        torch.optim.AdamW(others, weight_decay=0, betas=(0.9, 0.98)),
    ]
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return State(model, head, optimizers, average)


def split_parameters(
    model: Sam, head: PixelHead
) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """Return the matrices of linear layers, for Muon, and all other parameters, for AdamW.

    The layers for mask prompts are not trained, because there are no mask prompts.
    """
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    is_matrix = {id(layer.weight) for layer in layers}
    for name, parameter in [*model.named_parameters(), *head.named_parameters()]:
        if parameter.requires_grad and 'mask_downscaling' not in name:
            (matrices if id(parameter) in is_matrix else others).append(parameter)
    return matrices, others


def find_stage(step: int, stages: tuple[Stage, ...]) -> tuple[Stage, float]:
    """Return the stage of a step, and the share of the stage that is done before it."""
    for stage in stages:
        if step <= stage.steps:
            return stage, (step - 1) / stage.steps
        step -= stage.steps
    raise ValueError(f'The stages have {step} steps less.')


def draw_batch(
    drawings: Drawings, stage: Stage, rng: np.random.Generator
) -> tuple[torch.Tensor, Pixels, Points]:
    """Draw the crops of a step and choose points on them.

    Returns
    -------
    rgb : (B, 3, S, S) float32 tensor
    pixels : Pixels
        Of tensors with a first axis for the crops.
    points : Points
        Of tensors, the points of all crops together. Without points, those of none.
    """
    crops = [
        cut_crop(drawings[int(rng.integers(drawings.count))], stage.side, stage.zoom, rng)
        for _ in range(stage.crops)
    ]
    rgb = torch.from_numpy(np.stack([crop.rgb for crop in crops])).permute(0, 3, 1, 2).float()
    described = [describe_pixels(crop.labels) for crop in crops]
    pixels = Pixels(*(torch.stack(maps) for maps in zip(*described, strict=True)))
    chosen = [choose_points(crop, max(stage.points, 1), rng) for crop in crops]
    points = Points(*(torch.cat(parts) for parts in zip(*chosen, strict=True)))
    return rgb, pixels, points


def train_step(
    state: State, stage: Stage, rate: float, batch: tuple, rng: np.random.Generator
) -> tuple[float, Quality | None]:
    """Do one step. Return the loss and how good the masks are."""
    model = state.model
    rgb, pixels, points = batch
    cell = model.image_encoder.img_size // model.prompt_encoder.image_embedding_size[0]
    room = (model.image_encoder.img_size - stage.side) // cell + 1
    places = torch.from_numpy(rng.integers(0, room, (len(rgb), 2)))
    with torch.autocast('cpu', torch.bfloat16):
        embeddings = encode(model, (rgb - model.pixel_mean) / model.pixel_std)
        maps = state.head(embeddings)
    loss = measure_pixel_loss(maps.float(), pixels)
    quality = None
    if stage.points:
        per_crop = points.places.view(len(rgb), -1, 2)
        with torch.autocast('cpu', torch.bfloat16):
            logits, predicted_iou = decode(model, embeddings.float(), per_crop, places)
        point_loss, quality = measure_point_loss(logits.float(), predicted_iou.float(), points)
        loss = loss + point_loss

    trained = [one for optimizer in state.optimizers for one in optimizer.param_groups[0]['params']]
    for optimizer in state.optimizers:
        optimizer.zero_grad()
        optimizer.param_groups[0]['lr'] = rate
    loss.backward()
    average_gradients([one.grad for one in trained if one.grad is not None])
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    for optimizer in state.optimizers:
        optimizer.step()
    state.step += 1
    # The average forgets the first steps quickly
    decay = min(AVERAGE_DECAY, 1 - 1 / (state.step / 5 + 1))
    for name, value in model.state_dict().items():
        state.average[name].lerp_(value, 1 - decay)
    return loss.item(), quality


def average_gradients(gradients: list[torch.Tensor]) -> None:
    """Average the gradients of all processes. They are changed in place."""
    if not dist.is_initialized():
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def train(
    state: State,
    drawings: Drawings,
    stages: tuple[Stage, ...],
    process: int,
    save: Callable[[State], None],
) -> None:
    """Train from the state's step to the end of the stages.

    Every step has a seed of its own. So a training that was interrupted goes on with the crops that
    it would have had.

    Parameters
    ----------
    state : State
        Changed in place.
    drawings : Drawings
    stages : tuple of Stage
    process : int
        Number of this process, from 0.
    save : callable
        Called with the state every ten minutes and at the end.
    """
    steps = sum(stage.steps for stage in stages)
    history = []
    started = saved = time.monotonic()
    while state.step < steps:
        step = state.step + 1
        stage, done = find_stage(step, stages)
        rate = stage.rates[0] + (stage.rates[1] - stage.rates[0]) * done
        rng = np.random.default_rng([SEED, process, step])
        batch = draw_batch(drawings, stage, rng)
        loss, quality = train_step(state, stage, rate * min(1, step / WARM_UP_STEPS), batch, rng)
        history.append((loss, *(quality or (math.nan,) * 4)))
        now = time.monotonic()
        if step % REPORT_INTERVAL_STEPS == 0 or step == steps:
            recent = np.array(history[-REPORT_INTERVAL_STEPS:])
            text = f'step {step} of {steps}, {now - started:.0f} s: loss {recent[:, 0].mean():.3f}'
            # Of the steps with points on objects and on background
            complete = recent[~np.isnan(recent).any(axis=1)]
            if len(complete):
                text += (
                    ', IoU of the object {:.3f}, of the preferred mask {:.3f}; '
                    'predicted IoU {:.3f}, on background {:.3f}'
                ).format(*complete[:, 1:].mean(axis=0))
            print(text, flush=True)
        if now - saved > SAVE_INTERVAL_SECONDS or step == steps:
            save(state)
            saved = now


def run(process: int, meeting: str, folder: Path, out: Path) -> None:
    """Train as one of the processes. The first one saves."""
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{meeting}', rank=process, world_size=PROCESSES
    )
    draw_shards(folder, SEED, range(process, SHARDS, PROCESSES))
    dist.barrier()
    state = start()
    path = folder / 'state.pth'
    if path.exists():
        state.load(path)
    if process:
        # Only the first process reports and saves
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def save(state: State) -> None:
        if process == 0:
            state.save(path)
            save_average(state, out)

    train(state, Drawings(folder, SHARDS), STAGES, process, save)
    dist.destroy_process_group()


def save_average(state: State, out: Path) -> None:
    """Write the averaged weights in half precision.

    The measures of this package are the same as with single precision.
    """
    torch.save({name: value.half() for name, value in state.average.items()}, out)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=OUT, help='file to write')
    parser.add_argument(
        '--folder', type=Path, default=FOLDER, help='for the drawings and the state of the training'
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        mp.spawn(
            run,
            args=(f'{temporary}/meeting', arguments.folder.resolve(), arguments.out.resolve()),
            nprocs=PROCESSES,
        )
