"""How good the results are, on drawn pictures and the demo's image: `python -m evaluation`, or `make evaluate`.

The small model looks for objects in groups of pictures that it was not trained on, each job over HTTP. All jobs have
the demo's threshold, and area limits from the examples as the README recommends. Prints a Markdown table.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

from evaluation.groups import NAMES, Group, make_group
from evaluation.jobs import POINTS, run_ways, running_lab
from evaluation.scoring import Result, score_group

HEADER = '| Pictures | Number | Objects | Way | Precision | Recall | F1 at IoU 0.5 | F1 at IoU 0.75 | Duplicates |'


def evaluate(group: Group, points: int) -> dict[str, Result]:
    """Return the result of each way on a group, with so many points per side."""
    found, counter = {}, {}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_lab(Path(folder), group, points=points) as lab,
    ):
        start = time.monotonic()
        for way, outlines, counterexamples in run_ways(lab, group):
            print(
                f'{group.name}, {way}: {time.monotonic() - start:.0f} s',
                file=sys.stderr,
                flush=True,
            )
            start = time.monotonic()
            found[way], counter[way] = outlines, counterexamples
    shown = [
        *lab.examples,
        *chain(*counter.values()),
    ]  # the same objects are to be found in every way
    return {
        way: score_group(group, outlines, shown, lab.smallest) for way, outlines in found.items()
    }


def write_row(group: Group, way: str, result: Result) -> str:
    """One row of the table, under HEADER."""
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


def main(
    arguments: Sequence[str] | None = None, make_group: Callable[[str], Group] = make_group
) -> None:
    """Read the options, evaluate, print the table. Tests pass their own pictures."""
    parser = argparse.ArgumentParser(
        prog='python -m evaluation', description=(__doc__ or '').splitlines()[0]
    )
    parser.add_argument(
        '--groups',
        nargs='+',
        choices=NAMES,
        default=NAMES,
        metavar='NAME',
        help=f'what to evaluate: {", ".join(NAMES)} (default: all)',
    )
    parser.add_argument(
        '--points', type=int, default=POINTS, help=f'points per side (default: {POINTS})'
    )
    options = parser.parse_args(arguments)
    rows = [HEADER, '|---' * (HEADER.count('|') - 1) + '|']
    for name in options.groups:
        group = make_group(name)
        rows += [
            write_row(group, way, result) for way, result in evaluate(group, options.points).items()
        ]
    print('\n'.join(rows))


if __name__ == '__main__':
    main()
