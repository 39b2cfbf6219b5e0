"""`python -m evaluation`, on pictures that take seconds."""

import re

import numpy as np
import pytest

from demo.scoring import Score
from evaluation import groups
from evaluation.__main__ import HEADER, main, write_row
from evaluation.dropping import BEST, MOST_LOST
from evaluation.groups import Group, draw_group
from evaluation.images import Scene
from evaluation.ranking import SCORES
from evaluation.scoring import Result
from evaluation.thresholds import THRESHOLDS


def draw_small(name: str, seed: int = 0) -> Group:
    """Two pictures of two kinds that take seconds."""
    scene = Scene(256, (groups.ROUND, groups.LONG), (6, 3), gap=3)
    return draw_group(name, scene, 2, groups.SEED + 10 * seed)


def split_cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.split('|')[1:-1]]


def read_rows(text: str) -> list[list[str]]:
    """Return the cells of each row of the table."""
    head, line, *rows = text.splitlines()
    assert head == HEADER
    assert re.fullmatch(r'(\|---)+\|', line)
    return [split_cells(row) for row in rows]


def test_a_group_gets_a_row_for_each_way(capsys):
    main(['--groups', 'two kinds', '--points', '16', '--seeds', '1'], draw_small)
    table, ranks, drops, divisions = capsys.readouterr().out.strip().split('\n\n')
    rows = read_rows(table)
    assert {row[0] for row in rows} == {'two kinds'}
    assert {row[1] for row in rows} == {'2'}
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
    assert duplicates[0] >= max(duplicates[1:3])
    assert duplicates[3:] == [0, 0]
    assert float(defaults[5]) > 0.5  # recall
    assert float(skipped[6]) >= float(specified[6]) <= float(own_nms[6])  # F1
    assert float(countered[4]) >= float(defaults[4])  # precision

    head, _, rank = ranks.splitlines()
    assert split_cells(head) == ['Pictures', 'wanted', *SCORES]
    name, counts, *areas = split_cells(rank)
    wanted, every = map(int, counts.split(' of '))
    assert name == 'two kinds'
    assert 0 < wanted < every
    assert all(0 <= float(area.split()[0]) <= 1 for area in areas)
    assert float(areas[0].split()[0]) > 0.5  # the similarity as specified

    head, _, drop = drops.splitlines()
    assert split_cells(head)[1:3] == ['cells', 'lowest example']
    assert split_cells(head)[-1] == BEST
    shares = [tuple(map(float, cell.split(', '))) for cell in split_cells(drop)[2:]]
    assert all(0 < described <= 1 and 0 <= lost <= 1 for described, lost in shares)
    assert shares[-1][1] <= MOST_LOST

    head, _, division = divisions.splitlines()
    assert split_cells(head)[1:] == [str(threshold) for threshold in THRESHOLDS]
    assert all(0 <= float(f1) <= 1 for f1 in split_cells(division)[1:])


def test_a_row_gives_the_measures_with_two_digits():
    group = Group(
        'plain', np.zeros((2, 8, 8)), np.zeros((2, 8, 8), int), (np.zeros(1, bool),) * 2, 0
    )
    places = list(range(20))
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
