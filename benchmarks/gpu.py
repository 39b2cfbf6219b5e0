"""Measure the worker on a GPU with the real weights: `python -m benchmarks.gpu`.

First the GPU and the CPU search the same small frame, and their findings are compared. Then the GPU
searches a larger frame with every Speed. The command prints a Markdown table for
docs/performance.md. The exit status is 1 if GPU and CPU disagree. Each job has its own process.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.__main__ import run_job
from benchmarks.findings import Findings, mask_iou
from benchmarks.frames import Lab, draw_frame, running_lab
from benchmarks.job import Costs
from demo.dataset import write_dataset
from fewshot.sam.checkpoints import KNOWN, VIT_H
from fewshot.settings import EXACT, SPEEDS

# TF32 has 10 bits of fraction. So a mask on the edge of a threshold may be on one side only, and
# pixels at the border of a mask may differ.
LOWEST_IOU = 0.9  # of two masks that count as the same
LOWEST_SHARE = 0.95  # of the masks that must be on both sides
SIMILARITY_GAP = 0.01
HIDDEN_GPU = {'CUDA_VISIBLE_DEVICES': ''}
HEADER = (
    '| Model | Speed | Frame | Points per side | Candidates | Load, s | Propose, s | Describe, s '
    '| Other, s | In all, s | GPU memory, MB |'
)


class Match(NamedTuple):
    """How far the findings of two devices agree.

    Attributes
    ----------
    counts : tuple of int
        Masks on each side.
    share : float
        Share of the masks of both sides that the other side has too.
    similarity_gap : float
        The largest difference of the similarities of a mask that both sides have.
    """

    counts: tuple[int, int]
    share: float
    similarity_gap: float

    @property
    def problems(self) -> list[str]:
        """One sentence per disagreement."""
        problems = []
        if not any(self.counts):
            problems.append('Neither the GPU nor the CPU proposes a mask.')
        if self.share < LOWEST_SHARE:
            problems.append(f'Only {self.share:.0%} of the masks are the same.')
        if self.similarity_gap > SIMILARITY_GAP:
            problems.append(f'The similarities of a mask differ by {self.similarity_gap:.3f}.')
        return problems

    def __str__(self) -> str:
        first, second = self.counts
        return (
            f'{first} and {second} masks, {self.share:.1%} on both sides, '
            f'similarities differ by {self.similarity_gap:.1e} at most'
        )


def match(first: Findings, second: Findings) -> Match:
    """Match the masks of two runs by their IoU, and compare their similarities."""
    total = len(first.objects) + len(second.objects)
    matched, gap = 0, 0.0
    left = list(range(len(second.objects)))
    for number, one in enumerate(first.objects):
        same = [other for other in left if mask_iou(one, second.objects[other]) >= LOWEST_IOU]
        if same:
            left.remove(same[0])
            matched += 2
            difference = abs(first.similarities[number] - second.similarities[same[0]])
            gap = max(gap, float(difference))
    return Match((len(first.objects), len(second.objects)), matched / max(total, 1), gap)


def compare_devices(model: str, checkpoints: Path, side: int, points: int) -> Match:
    """Search a small frame on the GPU and on the CPU, and compare the findings."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / 'data', draw_frame(side)[None])
        with running_lab(folder / 'data', side) as lab:
            on_gpu, _ = search(lab, model, checkpoints, folder, points, EXACT)
            on_cpu, _ = search(lab, model, checkpoints, folder, points, EXACT, **HIDDEN_GPU)
    return match(on_gpu, on_cpu)


def search(
    lab: Lab,
    model: str,
    checkpoints: Path,
    folder: Path,
    points: int,
    speed: str,
    **environment: str,
) -> tuple[Findings, Costs]:
    """Run a job in its own process. The arguments are those of `run_job` and values of the form."""
    changes = {'Model': model, 'Speed': speed}
    params = lab.describe_job(points, speed, **changes)
    return run_job(
        'worker', lab, params, folder, SAM_CHECKPOINT_DIR=str(checkpoints), **environment
    )


def measure(model: str, checkpoints: Path, side: int, points: Sequence[int]) -> list[str]:
    """Search a frame with every Speed, and return the rows of the table."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / 'data', draw_frame(side)[None])
        with running_lab(folder / 'data', side) as lab:
            for count in points:
                for speed in SPEEDS:
                    findings, costs = search(lab, model, checkpoints, folder, count, speed)
                    rows.append(write_row(model, speed, side, count, len(findings.objects), costs))
                    print(rows[-1], flush=True)
    return rows


def write_row(model: str, speed: str, side: int, points: int, candidates: int, costs: Costs) -> str:
    """Return one row of the table under HEADER."""
    cells = [
        model,
        f'`{speed}`',
        f'{side}×{side}',
        str(points),
        str(candidates),
        f'{costs.seconds["load"]:.1f}',
        f'{costs.seconds["propose"]:.1f}',
        f'{costs.seconds["describe"]:.1f}',
        f'{costs.other:.1f}',
        f'{costs.total:.1f}',
        f'{costs.gpu_memory:,.0f}',
    ]
    return f'| {" | ".join(cells)} |'


def name_device() -> str:
    """Return the name of the GPU and the versions on which the figures depend."""
    if not torch.cuda.is_available():
        return f'no GPU was found: all jobs use the CPU, {torch.get_num_threads()} threads'
    return f'{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}'


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, measure, and exit with status 1 if GPU and CPU disagree."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.gpu',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--model', choices=KNOWN, default=VIT_H.name, help='default: %(default)s')
    parser.add_argument(
        '--checkpoints',
        type=Path,
        default=Path(os.environ.get('SAM_CHECKPOINT_DIR', '/')),
        help="folder with the model's file (default: %(default)s)",
    )
    parser.add_argument('--side', type=int, default=1024, help='of the frame, pixels')
    parser.add_argument('--points', type=int, nargs='+', default=[64, 128], help='points per side')
    parser.add_argument(
        '--small-side',
        type=int,
        default=512,
        help='of the frame that the CPU searches too, pixels (default: %(default)s)',
    )
    parser.add_argument(
        '--small-points',
        type=int,
        default=16,
        help='points per side of the small frame (default: %(default)s)',
    )
    options = parser.parse_args(arguments)
    file = options.checkpoints / KNOWN[options.model].file
    if not file.is_file():
        parser.error(f'{file} does not exist. Name the folder with --checkpoints.')
    print(f'{options.model}, {name_device()}', flush=True)
    agreement = compare_devices(
        options.model, options.checkpoints, options.small_side, options.small_points
    )
    print(f'GPU and CPU: {agreement}', flush=True)
    rows = measure(options.model, options.checkpoints, options.side, options.points)
    print('\n' + '\n'.join([HEADER, '|---' * (HEADER.count('|') - 1) + '|', *rows]) + '\n')
    print('Seconds in all do not include loading the model.')
    if agreement.problems:
        sys.exit(f'GPU and CPU disagree. {" ".join(agreement.problems)}')
    print('GPU and CPU agree.')


if __name__ == '__main__':
    main()
