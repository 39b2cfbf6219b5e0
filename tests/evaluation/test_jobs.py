"""Each way is the job that its name says, and all have the same settings else."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest

from demo.dataset import outline
from evaluation import groups, jobs
from evaluation.groups import Group, draw_group
from evaluation.images import Scene
from evaluation.jobs import (
    COUNTER_TAG,
    COUNTERED,
    DEFAULTS,
    OWN_NMS,
    SKIPPED,
    SPECIFIED,
    TILED,
    run_ways,
    running_lab,
)
from fewshot.settings import KEEP, read_settings

SAME = (
    'Training Tag',
    'Batch XY',
    'Model',
    'Similarity Threshold',
    'Target Occupancy',
    'Points per side',
    'Min Mask Area',
    'Max Mask Area',
    'Smoothing',
)


@pytest.fixture(scope='module')
def group() -> Group:
    """Two small pictures of two kinds of objects, to be searched in tiles."""
    drawn = draw_group('two kinds', Scene(128, (groups.ROUND, groups.LONG), (4, 4), gap=4), 2, 3)
    return replace(drawn, tile_size=100)


def test_the_ways_differ_in_what_their_names_say_and_in_nothing_else(group, tmp_path):
    asked, box_nms = [], []

    def compute(datasetId, apiUrl, token, params):
        print('a message for the page')
        asked.append(params)
        box_nms.append(read_settings(params).checkpoint.box_nms_thresh)
        store.createMultipleAnnotations(
            [
                {  # finds every object of the second picture
                    'datasetId': datasetId,
                    'shape': 'polygon',
                    'tags': params['tags'],
                    'channel': 0,
                    'location': {'XY': 1, 'Z': 0, 'Time': 0},
                    'coordinates': [
                        {'x': float(x), 'y': float(y)}
                        for x, y in outline(group.labels[1] == number)
                    ],
                }
                for number in range(1, group.labels[1].max() + 1)
            ]
        )

    with (
        running_lab(tmp_path, group, compute) as lab,
        contextlib.redirect_stdout(io.StringIO()) as page,
    ):
        store = lab.store
        ways = {way: (found, shown) for way, found, shown in run_ways(lab, group)}
        counter = store.getAnnotationsByDatasetId(
            lab.datasetId, shape='polygon', tags=[COUNTER_TAG]
        )
    assert list(ways) == [SPECIFIED, SKIPPED, OWN_NMS, DEFAULTS, COUNTERED, TILED]
    assert page.getvalue() == ''
    assert [job['tags'] for job in asked] == [[way] for way in ways]
    assert box_nms == [0.7, 0.7, 0.2, 0.2, 0.2, 0.2]  # 0.7 is that of SAM's generator
    assert len(counter) == len(ways[COUNTERED][1]) == (~group.wanted[1][1:]).sum()
    for found, _ in ways.values():
        assert [len(outlines) for outlines in found] == [0, group.labels[1].max()]

    forms = [job['workerInterface'] for job in asked]
    extras = [
        {name: value for name, value in form.items() if value != forms[3].get(name)}
        for form in forms
    ]
    keep = {'Existing Outlines': KEEP}
    assert extras == [keep, {}, keep, {}, {'Negative Tag': [COUNTER_TAG]}, {'Tile Size': 100}]
    assert not set(forms[3]) & {'Existing Outlines', 'Negative Tag', 'Tile Size'}
    areas = [one.area for one in lab.examples]
    assert (forms[1]['Min Mask Area'], forms[1]['Max Mask Area']) == (
        min(areas) // 2,
        2 * max(areas),
    )
    assert forms[1]['Points per side'] == jobs.LARGE_POINTS
    assert forms[1]['Batch XY'] == 'all'
    assert all(form[name] == forms[1][name] for form in forms for name in SAME)


def test_a_small_picture_of_one_kind_is_searched_in_four_ways_with_all_points(tmp_path):
    group = draw_group('plain', Scene(96, (groups.PLAIN,), (4,), gap=4), 1, 3)
    asked = []
    with running_lab(tmp_path, group, lambda *arguments, **_: asked.append(arguments[-1])) as lab:
        assert [(way, found, shown) for way, found, shown in run_ways(lab, group)] == [
            (SPECIFIED, [[]], []),
            (SKIPPED, [[]], []),
            (OWN_NMS, [[]], []),
            (DEFAULTS, [[]], []),
        ]
    assert {job['workerInterface']['Points per side'] for job in asked} == {jobs.POINTS}
    assert np.ptp([len(job['workerInterface']) for job in asked]) == 1
