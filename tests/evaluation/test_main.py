"""`python -m evaluation`, on pictures that take seconds."""

import re

import numpy as np
import pytest

from demo.scoring import Score
from evaluation import groups
from evaluation.__main__ import HEADER, main, write_row
from evaluation.groups import Group, draw_group
from evaluation.images import Scene
from evaluation.scoring import Result


def draw_small(name: str) -> Group:
    """Two pictures of two kinds that take seconds."""
    return draw_group(name, Scene(160, (groups.ROUND, groups.LONG), (8, 5), gap=3), 2, groups.SEED)


def read_rows(text: str) -> list[list[str]]:
    """The cells of each row of the table."""
    head, line, *rows = text.splitlines()
    assert head == HEADER and re.fullmatch(r'(\|---)+\|', line)
    return [[cell.strip() for cell in row.split('|')[1:-1]] for row in rows]


def test_a_group_gets_a_row_for_each_way(capsys):
    main(['--groups', 'two kinds', '--points', '16'], draw_small)
    rows = read_rows(capsys.readouterr().out)
    assert {row[0] for row in rows} == {'two kinds'} and {row[1] for row in rows} == {'2'}
    assert [row[3] for row in rows] == [
        'as specified',
        'as specified, duplicates skipped',
        'as specified, own box NMS',
        'defaults',
        'counter-examples',
    ]
    assert len({row[2] for row in rows}) == 1
    assert all(0 <= float(cell) <= 1 for row in rows for cell in row[4:8])
    specified, skipped, own_nms, defaults, countered = rows
    duplicates = [int(row[8]) for row in rows]
    assert duplicates[0] > max(duplicates[1:3]) and duplicates[3:] == [0, 0]
    assert float(defaults[5]) > 0.5  # recall
    assert float(skipped[6]) > float(specified[6]) < float(own_nms[6])  # F1
    assert float(countered[4]) > float(defaults[4])  # precision


def test_a_row_gives_the_measures_with_two_digits():
    group = Group(
        'plain', np.zeros((2, 8, 8)), np.zeros((2, 8, 8), int), (np.zeros(1, bool),) * 2, 0
    )
    places = [(0, number) for number in range(20)]
    result = Result(
        Score(places[:6], places[6:8], places[:3]), Score(places[:3], places[3:8], places[:6]), 4
    )
    assert (
        write_row(group, 'tiles', result)
        == '| plain | 2 | 9 | tiles | 0.75 | 0.67 | 0.71 | 0.35 | 4 |'
    )


def test_an_unknown_group_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(['--groups', 'unheard of'])
    assert 'unheard of' in capsys.readouterr().err
