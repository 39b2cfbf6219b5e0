"""`python -m benchmarks`, on a frame that takes seconds."""

import os
import re
import subprocess
import sys

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.findings import Agreement
from benchmarks.frames import draw_frame, running_lab
from benchmarks.job import STEPS, Costs
from demo.dataset import write_dataset
from tests.worker import REPOSITORY

SIDE = 80  # pixels; a dozen candidates


def test_the_worker_agrees_with_the_method_as_specified():
    ended = subprocess.run(
        [
            sys.executable,
            '-m',
            'benchmarks',
            '--sizes',
            str(SIDE),
            '--points',
            '16',
            '--pairs',
            '1',
            '--whole-frame',
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )  # threads that wait for each other are slow on a busy machine
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith('The worker agrees with the method as specified.\n')
    title = f'{SIDE}×{SIDE}, 16 points per side, pair 1'
    candidates = re.search(rf'{title}: (\d+) candidates', ended.stdout)
    assert candidates
    assert int(candidates[1]) > 10
    share = re.search(r'Speed fastest: .*, ([0-9.]+)% of exact', ended.stdout)
    assert share
    assert float(share[1]) < 50
    (row,) = re.findall(rf'^\| {SIDE}×{SIDE} \| 16 \|.*$', ended.stdout, re.MULTILINE)
    assert row.count('|') == benchmarks.HEADER.count('|')
    assert row.count(' → ') == 7


@pytest.mark.parametrize(
    ('problems', 'status'),
    [
        ([], None),
        (
            ['A mask is missing.'],
            'The worker does not agree with the method as specified. A mask is missing.',
        ),
    ],
)
def test_the_command_fails_with_what_differs(problems, status):
    agreements = [Agreement(1, 0, 1, 0, 1, 0, problems)] * 2
    if status is None:
        benchmarks.main([], lambda *_: agreements)
    else:
        with pytest.raises(SystemExit) as ended:
            benchmarks.main([], lambda *_: agreements)
        assert ended.value.code == status


def test_quick_is_one_pair_on_one_small_frame():
    asked = []
    benchmarks.main(['--quick'], lambda *arguments: asked.append(arguments) or [])
    assert asked == [([512], [32], 1, False)]


def test_a_row_holds_medians_and_the_median_of_the_ratios():
    def costs(propose: float, memory: float) -> Costs:
        return Costs(
            {**dict.fromkeys(STEPS, 0.0), 'propose': propose, 'rest': 0.5}, memory, 9, 1.25
        )

    pairs = [
        {'specified': costs(propose, 1000), 'worker': costs(1.5, memory)}
        for propose, memory in ((9.5, 100), (19.5, 300), (3.5, 200))
    ]  # ratios 5, 10 and 2
    assert benchmarks.write_row(512, 32, 41, pairs) == (
        '| 512×512 | 32 | 41 | 9.5 → 1.5 | 0.0 → 0.0 | 0.5 → 0.5 | 10.0 → 2.0 | 5.0× | '
        '1,000 → 200 | 9 → 9 | 1.2 → 1.2 |'
    )


def test_a_job_that_fails_ends_the_measurement_with_the_end_of_its_log(tmp_path):
    write_dataset(tmp_path / 'data', draw_frame(64)[None])
    with running_lab(tmp_path / 'data', 64) as lab, pytest.raises(SystemExit) as ended:
        benchmarks.run_job(
            'worker', lab, lab.describe_job(16, 'found', Model='unheard of'), tmp_path
        )
    assert 'The job (worker) failed' in str(ended.value)
    assert 'does not know this model' in str(ended.value)
