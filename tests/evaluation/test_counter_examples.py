"""A picture without and with counter-examples, on a small one that takes seconds."""

import re

import numpy as np
from PIL import Image, ImageColor

from demo.picture import COUNTER, RIGHT, WRONG
from evaluation import counter_examples, groups
from evaluation.groups import draw_group
from evaluation.images import Scene


def test_three_wrong_outlines_of_the_first_run_make_the_second_better(capsys, tmp_path):
    scene = Scene(256, (groups.ROUND, groups.LONG), (9, 9), gap=3)
    group = draw_group('two kinds', scene, 1, groups.SEED)
    labels = np.where(group.wanted[0], np.arange(len(group.wanted[0])), 0)[group.labels[0]]
    counter_examples.main([str(tmp_path / 'pair.png'), '--points', '16'], (group.images[0], labels))
    lines = capsys.readouterr().out.splitlines()
    counts = [tuple(map(int, re.findall(r'\d+', line))) for line in lines]
    (none, right, wrong, _), (three, right_now, wrong_now, _) = counts
    assert (none, three) == (0, 3)
    assert wrong_now <= wrong - 3
    assert right_now * wrong > right * wrong_now
    assert right_now > right / 2

    pixels = np.array(Image.open(tmp_path / 'pair.png').convert('RGB')).astype(int)
    assert pixels.shape[1] == 2 * 256 * 3 // 2 + counter_examples.GAP
    near = {
        colour: abs(pixels - ImageColor.getrgb(colour)).max(axis=-1) < 40
        for colour in (COUNTER, RIGHT, WRONG)
    }
    left, right_half = slice(0, 384), slice(-384, None)
    assert near[RIGHT][:, left].sum() > 100 < near[RIGHT][:, right_half].sum()
    assert near[COUNTER][:, left].sum() == 0 < near[COUNTER][:, right_half].sum()
    assert near[WRONG][:, left].sum() > near[WRONG][:, right_half].sum()
