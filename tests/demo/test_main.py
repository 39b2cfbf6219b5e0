"""The whole demo: what it finds, prints and draws."""

import re

from PIL import Image

from demo.__main__ import EXAMPLES, SMALL_MODEL, run
from demo.dataset import read_image
from demo.picture import ZOOM
from demo.processes import ROOT


def test_demo_finds_most_nuclei_of_the_image(tmp_path, capsys):
    result, strict = run(SMALL_MODEL, ROOT / 'models', tmp_path / 'out')
    assert result.f1 >= 0.8
    assert strict.f1 <= result.f1
    table = dict(re.findall(r'^  (\S.*\S)  +(\S+)$', capsys.readouterr().out, re.MULTILINE))
    assert table['examples'] == str(EXAMPLES)
    assert table['found nuclei'] == str(len(result.right))
    assert table['F1 at IoU 0.5'] == f'{result.f1:.2f}'
    assert table['F1 at IoU 0.75'] == f'{strict.f1:.2f}'
    picture = Image.open(tmp_path / 'out' / 'overlay.png')
    assert picture.width == read_image()[0].shape[1] * ZOOM
