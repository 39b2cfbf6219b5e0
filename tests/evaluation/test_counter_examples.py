"""The demo's image without and with counter-examples, on a part of it that takes seconds."""

import re

import numpy as np
from PIL import Image, ImageColor

from demo.dataset import read_image
from demo.picture import COUNTER, RIGHT, WRONG
from evaluation import counter_examples


def test_three_wrong_outlines_of_the_first_run_make_the_second_better(capsys, tmp_path):
    image, labels = read_image()
    counter_examples.main(
        [str(tmp_path / 'pair.png'), '--points', '16'], (image[:256, :256], labels[:256, :256])
    )
    lines = capsys.readouterr().out.splitlines()
    counts = [tuple(map(int, re.findall(r'\d+', line))) for line in lines]
    (none, right, wrong, _), (three, right_now, wrong_now, _) = counts
    assert (none, three) == (0, 3)
    assert (
        wrong_now <= wrong - 3 and right_now * wrong > right * wrong_now and right_now > right / 2
    )

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
