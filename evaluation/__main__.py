"""Measure the results on drawn pictures and the demo's image: `python -m evaluation`.

The small model searches groups of pictures that it was not trained on. Each job runs over HTTP.
All jobs use the demo's threshold and its Speed, fast, and area limits from the examples as the
guide recommends. Three more tables compare the candidates themselves, with pictures of several
seeds: how well scores rank them, how many could be dropped before they are described, and how the
threshold divides them. The command prints Markdown.
`make evaluate` runs this module.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from segment_anything.modeling import Sam

from demo.__main__ import DEFAULT_THRESHOLD, SMALL_MODEL, THRESHOLDS
from demo.processes import ROOT
from evaluation.candidates import Describer, Trial, try_group
from evaluation.dropping import drop_trials
from evaluation.groups import NAMES, Group, make_group
from evaluation.jobs import POINTS, POINTS_SIDE, choose_points, run_ways, running_lab
from evaluation.ranking import rank_trials
from evaluation.scoring import Result, score_group
from evaluation.thresholds import divide_trials
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.model import load_model

HEADER = (
    '| Pictures | Number | Objects | Way | Precision | Recall | F1 at IoU 0.5 | F1 at IoU 0.75 '
    '| Duplicates |'
)
SEEDS = 3
CORNER = 1536  # side of the part of a large frame of which the candidates are compared, pixels


def evaluate(group: Group, points: int) -> dict[str, Result]:
    """Return the result of each way on a group, with `points` per side of a small picture."""
    found, counter = {}, {}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_lab(Path(folder), group, points=points) as lab,
    ):
        start = time.monotonic()
        for way, outlines, counterexamples in run_ways(lab, group):
            seconds = time.monotonic() - start
            print(f'{group.name}, {way}: {seconds:.0f} s', file=sys.stderr, flush=True)
            start = time.monotonic()
            found[way], counter[way] = outlines, counterexamples
    # An object that was shown in one way counts in none, so all ways have the same objects to find.
    shown = [*lab.examples, *chain(*counter.values())]
    return {
        way: score_group(group, outlines, shown, lab.smallest) for way, outlines in found.items()
    }


def try_seeds(
    name: str, model: Sam, seeds: int, points: int, make_group: Callable[..., Group]
) -> list[Trial]:
    """Return the candidates of a group, once per seed."""
    trials = []
    for seed in range(seeds):
        start = time.monotonic()
        group = cut_corner(make_group(name, seed))
        describer = Describer(model, VIT_MINI, choose_points(group, points))
        trials.append(try_group(group, describer))
        seconds = time.monotonic() - start
        print(f'{name}, candidates {seed}: {seconds:.0f} s', file=sys.stderr, flush=True)
    return trials


def cut_corner(group: Group) -> Group:
    """Return the group with the upper left corner of its pictures, to save time."""
    corner = slice(CORNER), slice(CORNER)
    labels = group.labels[:, *corner]
    wanted = tuple(
        one[: numbers.max() + 1] for one, numbers in zip(group.wanted, labels, strict=True)
    )
    return replace(group, images=group.images[:, *corner], labels=labels, wanted=wanted)


def write_table(rows: Mapping[str, Mapping[str, str]]) -> str:
    """Return a Markdown table with a row per group: {group: {column: cell}}."""
    columns = next(iter(rows.values()))
    lines = [['Pictures', *columns], ['---'] * (1 + len(columns))]
    lines += [[name, *cells.values()] for name, cells in rows.items()]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def write_row(group: Group, way: str, result: Result) -> str:
    """Return one row of the table under HEADER."""
    cells = [
        group.name,
        str(len(group.images)),
        str(result.objects),
        way,
        f'{result.score.precision:.2f}',
        f'{result.score.recall:.2f}',
        f'{result.score.f1:.2f}',
        f'{result.strict.f1:.2f}',
        str(result.duplicates),
    ]
    return f'| {" | ".join(cells)} |'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the groups and the points per side."""
    parser.add_argument(
        '--groups',
        nargs='+',
        choices=NAMES,
        default=NAMES,
        metavar='NAME',
        help=f'groups of pictures: {", ".join(NAMES)} (default: all)',
    )
    parser.add_argument(
        '--points',
        type=int,
        default=POINTS,
        help=f'points per side of a picture of {POINTS_SIDE} pixels (default: {POINTS})',
    )


def main(
    arguments: Sequence[str] | None = None, make_group: Callable[..., Group] = make_group
) -> None:
    """Read the options, evaluate, and print the tables.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line; that of the process by default.
    make_group : callable
        Returns a group by its name and a seed. Tests pass their own.
    """
    parser = argparse.ArgumentParser(
        prog='python -m evaluation', description=(__doc__ or '').splitlines()[0]
    )
    add_options(parser)
    parser.add_argument(
        '--seeds',
        type=int,
        default=SEEDS,
        help='number of seeds of the pictures whose candidates are compared; 0 compares none '
        f'(default: {SEEDS})',
    )
    options = parser.parse_args(arguments)
    print(HEADER, '|---' * (HEADER.count('|') - 1) + '|', sep='\n', flush=True)
    ranks, drops, divisions = {}, {}, {}
    model = load_model(VIT_MINI, str(ROOT / 'models' / VIT_MINI.file), 'bfloat16')
    threshold = THRESHOLDS.get(SMALL_MODEL, DEFAULT_THRESHOLD)
    for name in options.groups:
        group = make_group(name)
        for way, result in evaluate(group, options.points).items():
            print(write_row(group, way, result), flush=True)
        trials = try_seeds(name, model, options.seeds, options.points, make_group)
        if trials:
            ranks[name], drops[name] = rank_trials(trials), drop_trials(trials, threshold)
            divisions[name] = divide_trials(trials)
    for table in (ranks, drops, divisions):
        if table:
            print('', write_table(table), sep='\n')


if __name__ == '__main__':
    main()
