"""What a frame costs by the method as specified and by the worker: `python -m benchmarks`, or `make bench`.

Each run is a process of its own, the two in turn, on the same frame with the small model. Prints a Markdown table,
each cell the method as specified → the worker, medians over the pairs. Ends with status 1 when the results disagree.
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
from fewshot.settings import WHOLE_FRAME

SIDES = ('specified', 'worker')
HEADER = (
    '| Frame | Points per side | Candidates | Propose, s | Describe, s | Other, s | In all, s | Faster | '
    'Memory, MB | Requests | Traffic, MB |'
)


def run_job(side: str, lab: Lab, params: dict, folder: Path) -> tuple[Findings, Costs]:
    """One job in a process of its own. Raises SystemExit with the end of its log when it fails."""
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
            env={**os.environ, 'SAM_CHECKPOINT_DIR': str(ROOT / 'models')},
        )
    if ended.returncode:
        sys.exit(
            f'The job ({side}) failed with status {ended.returncode}. The end of its log:\n{last_lines(log)}'
        )
    return load_findings(folder / 'findings.npz'), Costs(
        **json.loads((folder / 'costs.json').read_text())
    )


def run_pair(lab: Lab, points: int, pair: int, folder: Path) -> tuple[dict[str, Costs], Agreement]:
    """Both sides once, in an order that alternates from pair to pair."""
    findings, costs, outlines = {}, {}, {}
    for side in SIDES if pair % 2 == 0 else SIDES[::-1]:
        tag = f'{side}, {points} points, pair {pair}'
        findings[side], costs[side] = run_job(side, lab, lab.describe_job(points, tag), folder)
        outlines[side] = lab.read_outlines(tag)
    return costs, compare(
        findings['specified'],
        findings['worker'],
        lab.settings['Similarity Threshold'],
        outlines['specified'],
        outlines['worker'],
    )


def compare_sources(lab: Lab, points: int, describing: float, folder: Path) -> str:
    """What describing from the whole frame costs, beside the seconds of describing from object crops."""
    params = lab.describe_job(points, 'whole frame', **{'Feature Source': WHOLE_FRAME})
    seconds = run_job('worker', lab, params, folder)[1].seconds['describe']
    return f'Feature Source whole frame: {seconds:.3f} s to describe, {seconds / describing:.1%} of object crops'


def write_row(side: int, points: int, candidates: int, pairs: Sequence[dict[str, Costs]]) -> str:
    """One row of the table, under HEADER."""

    def cell(name: str, digits: int) -> str:
        return ' → '.join(
            f'{median(read_cost(pair[one], name) for pair in pairs):,.{digits}f}' for one in SIDES
        )

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
    """A cost by its name, the seconds of a step by the step's."""
    return costs.seconds[name] if name in costs.seconds else getattr(costs, name)


def measure(
    sides: Sequence[int], points: Sequence[int], pairs: int, whole_frame: bool
) -> list[Agreement]:
    """Measure every size of frame at every number of points per side, and print the table."""
    rows, agreements = [HEADER, '|---' * (HEADER.count('|') - 1) + '|'], []
    for side in sides:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_dataset(folder / 'data', draw_frame(side)[None])
            with running_lab(folder / 'data', side) as lab:
                for count in points:
                    costs = []
                    for pair in range(pairs):
                        cost, agreement = run_pair(lab, count, pair, folder)
                        print(
                            f'{side}×{side}, {count} points per side, pair {pair + 1}: {agreement}',
                            flush=True,
                        )
                        costs.append(cost)
                        agreements.append(agreement)
                    if whole_frame:
                        describing = median(cost['worker'].seconds['describe'] for cost in costs)
                        print(compare_sources(lab, count, describing, folder), flush=True)
                    rows.append(write_row(side, count, agreement.candidates, costs))
    print('\n' + '\n'.join(rows) + '\n')
    print(
        'As specified → the worker; seconds without loading the model, memory above the loaded model at most.'
    )
    return agreements


def main(
    arguments: Sequence[str] | None = None, measure: Callable[..., list[Agreement]] = measure
) -> None:
    """Read the options, measure, and end with status 1 where the results disagree. Tests pass their own `measure`."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks', description=(__doc__ or '').splitlines()[0]
    )
    parser.add_argument(
        '--sizes', type=int, nargs='+', default=[512, 1024], help='sides of the frames, pixels'
    )
    parser.add_argument(
        '--points', type=int, nargs='+', default=[32, 64, 128], help='points per side'
    )
    parser.add_argument('--pairs', type=int, default=3, help='runs of each side (default: 3)')
    parser.add_argument(
        '--quick', action='store_true', help='one pair on one small frame, 32 points per side'
    )
    parser.add_argument(
        '--whole-frame', action='store_true', help='try the Feature Source whole frame too'
    )
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
