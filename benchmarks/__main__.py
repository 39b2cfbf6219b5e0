"""Compare the costs of the method as specified and of the worker: `python -m benchmarks`.

Both run in turn on the same frame with the small model, each run in its own process. The command
prints a Markdown table. Each cell reads "as specified → the worker" and gives medians over the
pairs. The exit status is 1 when the results disagree. `make bench` runs this module.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.findings import Agreement, Findings, compare, load_findings
from benchmarks.frames import Lab, draw_frame, running_lab
from benchmarks.job import Costs
from demo.dataset import write_dataset
from demo.processes import ROOT, last_lines
from fewshot.settings import FASTEST
from fewshot.store.files import SWITCH

SIDES = ('specified', 'worker')
HEADER = (
    '| Frame | Points per side | Candidates | Propose, s | Describe, s | Other, s | In all, s '
    '| Faster | Memory, MB | Requests | Traffic, MB |'
)


def run_job(
    side: str, lab: Lab, params: dict, folder: Path, **environment: str
) -> tuple[Findings, Costs]:
    """Run one job in its own process.

    Parameters
    ----------
    side : str
        One of SIDES.
    lab : Lab
    params : dict
        The job's parameters as the server sends them.
    folder : Path
        Gets the job's log, findings and costs.
    **environment
        Variables of the process, besides those of this one.

    Raises
    ------
    SystemExit
        The job failed. The text has the end of the log.
    """
    job = {'apiUrl': lab.apiUrl, 'token': lab.token, 'datasetId': lab.datasetId, 'params': params}
    log = folder / 'job.log'
    with log.open('w') as output:
        ended = subprocess.run(
            [sys.executable, '-m', 'benchmarks.job', side, str(folder)],
            input=json.dumps(job),
            text=True,
            cwd=ROOT,
            stdout=output,
            stderr=output,
            check=False,
            env={
                **os.environ,
                'SAM_CHECKPOINT_DIR': str(ROOT / 'models'),
                SWITCH: '0',
                **environment,
            },
        )
    if ended.returncode:
        sys.exit(
            f'The job ({side}) failed with status {ended.returncode}. '
            f'The end of its log:\n{last_lines(log)}'
        )
    costs = json.loads((folder / 'costs.json').read_text())
    return load_findings(folder / 'findings.npz'), Costs(**costs)


def run_pair(lab: Lab, points: int, pair: int, folder: Path) -> tuple[dict[str, Costs], Agreement]:
    """Run both sides once. The order alternates from pair to pair."""
    findings, costs, outlines = {}, {}, {}
    order = SIDES if pair % 2 == 0 else SIDES[::-1]
    for side in order:
        tag = f'{side}, {points} points, pair {pair}'
        findings[side], costs[side] = run_job(side, lab, lab.describe_job(points, tag), folder)
        outlines[side] = lab.read_outlines(tag)
    agreement = compare(
        findings['specified'],
        findings['worker'],
        lab.settings['Similarity Threshold'],
        outlines['specified'],
        outlines['worker'],
    )
    return costs, agreement


def compare_sources(lab: Lab, points: int, describing: float, folder: Path) -> str:
    """Measure how long it takes to describe objects from the whole frame, as a line of text.

    Parameters
    ----------
    lab : Lab
    points : int
        Points per side.
    describing : float
        Seconds that it takes to describe the objects from object crops.
    folder : Path
        Gets the files of the job.
    """
    params = lab.describe_job(points, 'whole frame', **{'Speed': FASTEST})
    _, costs = run_job('worker', lab, params, folder)
    seconds = costs.seconds['describe']
    return (
        f'Speed fastest: {seconds:.3f} s to describe objects in the whole frame, '
        f'{seconds / describing:.1%} of exact'
    )


def write_row(side: int, points: int, candidates: int, pairs: Sequence[dict[str, Costs]]) -> str:
    """Return one row of the table under HEADER."""

    def cell(name: str, digits: int) -> str:
        medians = [median(read_cost(pair[one], name) for pair in pairs) for one in SIDES]
        return ' → '.join(f'{value:,.{digits}f}' for value in medians)

    faster = median(pair['specified'].total / pair['worker'].total for pair in pairs)
    cells = [
        f'{side}×{side}',
        str(points),
        str(candidates),
        cell('propose', 1),
        cell('describe', 1),
        cell('other', 1),
        cell('total', 1),
        f'{faster:.1f}×',
        cell('memory', 0),
        cell('requests', 0),
        cell('traffic', 1),
    ]
    return f'| {" | ".join(cells)} |'


def read_cost(costs: Costs, name: str) -> float:
    """Return a cost by its name. The name of a step gives the seconds of that step."""
    if name in costs.seconds:
        return costs.seconds[name]
    return getattr(costs, name)


def measure(
    sides: Sequence[int], points: Sequence[int], pairs: int, whole_frame: bool
) -> list[Agreement]:
    """Measure every size of frame at every number of points per side, and print the table.

    Parameters
    ----------
    sides : sequence of int
        Sides of the frames in pixels.
    points : sequence of int
        Points per side.
    pairs : int
        Runs of each side.
    whole_frame : bool
        Whether to measure the Speed `fastest` too.
    """
    rows = [HEADER, '|---' * (HEADER.count('|') - 1) + '|']
    agreements = []
    for side in sides:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_dataset(folder / 'data', draw_frame(side)[None])
            with running_lab(folder / 'data', side) as lab:
                for count in points:
                    costs = []
                    for pair in range(pairs):
                        cost, agreement = run_pair(lab, count, pair, folder)
                        title = f'{side}×{side}, {count} points per side, pair {pair + 1}'
                        print(f'{title}: {agreement}', flush=True)
                        costs.append(cost)
                        agreements.append(agreement)
                    if whole_frame:
                        describing = median(cost['worker'].seconds['describe'] for cost in costs)
                        print(compare_sources(lab, count, describing, folder), flush=True)
                    rows.append(write_row(side, count, agreement.candidates, costs))
    print('\n' + '\n'.join(rows) + '\n')
    print(
        'Cells: as specified → the worker. Seconds do not include loading the model. '
        'Memory is the maximum above that of the loaded model.'
    )
    return agreements


def main(
    arguments: Sequence[str] | None = None, measure: Callable[..., list[Agreement]] = measure
) -> None:
    """Read the options, measure, and exit with status 1 if the results disagree.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line; that of the process by default.
    measure : callable
        Tests pass their own.
    """
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks', description=(__doc__ or '').splitlines()[0]
    )
    parser.add_argument(
        '--sizes', type=int, nargs='+', default=[512, 1024], help='sides of the frames in pixels'
    )
    parser.add_argument(
        '--points', type=int, nargs='+', default=[32, 64, 128], help='points per side'
    )
    parser.add_argument('--pairs', type=int, default=3, help='runs of each (default: 3)')
    parser.add_argument(
        '--quick', action='store_true', help='one pair on one small frame, with 32 points per side'
    )
    parser.add_argument('--whole-frame', action='store_true', help='also measure the Speed fastest')
    options = parser.parse_args(arguments)
    if options.quick:
        options.sizes, options.points, options.pairs = [512], [32], 1
    agreements = measure(options.sizes, options.points, options.pairs, options.whole_frame)
    problems = {problem for agreement in agreements for problem in agreement.problems}
    if problems:
        sys.exit(
            'The worker does not agree with the method as specified. ' + ' '.join(sorted(problems))
        )
    print('The worker agrees with the method as specified.')


if __name__ == '__main__':
    main()
