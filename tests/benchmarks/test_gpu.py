"""The measurement on a GPU, with the small model on the CPU."""

import re
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.findings import Findings
from fewshot.geometry import Box, CutMask
from fewshot.settings import SPEEDS
from tests.worker import REPOSITORY

FOUND = Findings(
    [CutMask(Box(0, left, 20, left + 20), np.ones((20, 20), bool)) for left in (0, 30, 60)],
    np.array([0.9, 0.8, 0.7]),
    np.array([0.95, 0.5, 0.85]),
)


def test_every_speed_is_measured_and_both_devices_agree(monkeypatch, capsys):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    sizes = ['--side', '80', '--points', '16', '--small-side', '80', '--small-points', '16']
    gpu.main(['--model', 'sam_vit_mini2', '--checkpoints', str(REPOSITORY / 'models'), *sizes])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('sam_vit_mini2, ')
    counts = re.search(r'GPU and CPU: (\d+) and (\d+) masks', lines[1])
    assert counts
    assert int(counts[1]) > 5
    assert lines[-1] == 'GPU and CPU agree.'
    start = lines.index(gpu.HEADER)
    rows = lines[start + 2 : start + 2 + len(SPEEDS)]
    for speed, row in zip(SPEEDS, rows, strict=True):
        assert row.count('|') == gpu.HEADER.count('|')
        assert f'| `{speed}` | 80×80 | 16 |' in row


def test_missing_file_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu.main(['--checkpoints', str(tmp_path)])
    assert f'{tmp_path}/sam_vit_h_4b8939.pth does not exist' in capsys.readouterr().err


def test_same_findings_in_another_order_agree():
    order = [2, 0, 1]
    other = Findings(
        [FOUND.objects[number] for number in order],
        FOUND.predicted_iou[order],
        FOUND.similarities[order],
    )
    agreement = gpu.match(FOUND, other)
    assert agreement == gpu.Match((3, 3), 1.0, 0.0)
    assert agreement.problems == []


def test_other_masks_are_a_problem():
    box = FOUND.objects[0].box
    moved = CutMask(box.shift(0, 4), FOUND.objects[0].mask)  # an IoU of 16 / 24
    agreement = gpu.match(FOUND, replace(FOUND, objects=[moved, *FOUND.objects[1:]]))
    assert agreement.share == pytest.approx(2 / 3)
    assert agreement.problems == ['Only 67% of the masks are the same.']


def test_other_similarities_are_a_problem():
    agreement = gpu.match(FOUND, replace(FOUND, similarities=FOUND.similarities + 0.02))
    assert agreement.problems == ['The similarities of a mask differ by 0.020.']


def test_no_mask_is_a_problem():
    nothing = Findings([], np.empty(0), np.empty(0))
    assert 'Neither the GPU nor the CPU proposes a mask.' in gpu.match(nothing, nothing).problems
