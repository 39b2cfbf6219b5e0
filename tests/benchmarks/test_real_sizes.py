"""The measurement at real sizes, run at the small model's size."""

import re
from functools import partial

import pytest
import torch

from benchmarks.real_sizes import (
    main,
    measure,
    time_in_turn,
    write_random_weights,
)
from fewshot.sam.checkpoints import VIT_MINI


def test_the_sides_are_run_in_turn_and_the_first_alternates():
    order = []
    calls = {name: partial(order.append, name) for name in ('stock', 'float32', 'bfloat16')}
    seconds = time_in_turn(calls, 3)
    assert order == [
        *('stock', 'float32', 'bfloat16'),  # not measured
        *('stock', 'float32', 'bfloat16'),
        *('bfloat16', 'float32', 'stock'),
        *('stock', 'float32', 'bfloat16'),
    ]
    assert {name: len(some) for name, some in seconds.items()} == dict.fromkeys(calls, 3)


def test_random_weights_have_positions_and_are_the_same_every_time(tmp_path):
    for name in ('one', 'other'):
        write_random_weights(VIT_MINI, tmp_path / name)
    one, other = (torch.load(tmp_path / name, weights_only=True) for name in ('one', 'other'))
    assert all(torch.equal(one[name], other[name]) for name in one)
    positions = [name for name in one if 'pos_embed' in name or 'rel_pos' in name]
    assert len(positions) == 1 + 2 * VIT_MINI.depth
    assert all(one[name].std() > 0.01 for name in positions)


def test_the_stock_and_the_worker_propose_the_same_from_random_weights(tmp_path, capsys):
    write_random_weights(VIT_MINI, tmp_path / 'random.pth')
    measure(VIT_MINI, tmp_path / 'random.pth', random=True, pairs=1, side=256)
    lines = capsys.readouterr().out.splitlines()
    (encoding,) = [line for line in lines if line.startswith('Encoding, float32: ')]
    gap = re.search(r' differ by (\S+) of', encoding)
    assert gap
    assert float(gap[1]) < 1e-3
    (describing,) = [line for line in lines if line.startswith('Describing, float32: ')]
    assert ' s per candidate, ' in describing
    found = re.search(r'Proposing: .*; (\d+) and (\d+) candidates, lowest IoU 1\.00000', lines[-2])
    assert found
    assert found[1] == found[2] != '0'
    assert {line.split(':')[0] for line in lines} > {'Memory, stock', 'Memory, worker, float32'}
    assert lines[-1].startswith(
        'Projected, not measured: a frame at 128 points per side with 400 candidates'
    )


def test_missing_file_is_named(capsys):
    with pytest.raises(SystemExit):
        main(['--weights', 'nothing.pth'])
    assert 'nothing.pth does not exist.' in capsys.readouterr().err
