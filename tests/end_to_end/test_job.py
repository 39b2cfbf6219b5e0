"""Whole jobs over HTTP: a real server, the worker in a process of its own, the small model."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.draw import polygon2mask

from fewshot import messages
from fewshot.reporting.reporter import MAX_LINE_CHARACTERS
from fewshot.settings import FAST, FASTEST, KEEP
from tests.datasets import make_layer, write_dataset
from tests.small_model import CENTRES, SIDE, draw_discs, outline_disc
from tests.worker import Ended, make_params, run_worker

RADIUS = 14
SETTINGS = {
    'Min Mask Area': 200,
    'Max Mask Area': 1500,
    'Points per side': 16,
    'Similarity Threshold': 0.7,
    'Existing Outlines': KEEP,  # the examples are to be found too
    'Speed': FASTEST,
}


def tag_disc(
    dataset_id: str, centre, location=(0, 0, 0), tags=('example',), **changes: Any
) -> dict:
    """Return an annotation around a disc of `draw_discs`."""
    row, column = centre
    return {
        'coordinates': outline_disc(row, column, RADIUS),
        'tags': list(tags),
        'channel': 0,
        'shape': 'polygon',
        'location': dict(zip(('XY', 'Z', 'Time'), location, strict=True)),
        'datasetId': dataset_id,
        **changes,
    }


class Lab:
    """A server with one dataset, examples in it, and the worker."""

    def __init__(self, server, name: str = 'cells') -> None:
        self.server, self.id = server, server.datasets[name]

    def annotate(self, *annotations: dict) -> list[dict]:
        return self.server.client.post('upenn_annotation/multiple', json=list(annotations))

    def annotations(self, *tags: str) -> list[dict]:
        return self.server.client.get(
            'upenn_annotation',
            parameters={'datasetId': self.id, 'tags': json.dumps(tags), 'limit': 0},
        )

    def run(self, params: dict) -> Ended:
        return run_worker('compute', params, self.server.apiUrl, self.server.token, self.id)


def locations_of(annotations: list[dict]) -> Counter:
    return Counter(
        tuple(one['location'][axis] for axis in ('XY', 'Z', 'Time')) for one in annotations
    )


def best_iou(annotations: list[dict], disc: np.ndarray) -> float:
    masks = [
        polygon2mask(
            disc.shape, np.array([(p['y'] - 0.5, p['x'] - 0.5) for p in one['coordinates']])
        )
        for one in annotations
    ]
    return max(((mask & disc).sum() / (mask | disc).sum() for mask in masks), default=0)


@pytest.fixture(scope='module')
def grid(start_module_server, tmp_path_factory) -> Lab:
    """Return two positions of XY, Z and time, two channels, uint16. The discs move with XY."""
    folder: Path = tmp_path_factory.mktemp('grid')
    image = np.zeros((2, 2, 2, 2, SIDE, SIDE), np.uint16)  # XY, T, Z, C
    for xy in range(2):
        image[xy, :, :, 0] = draw_discs([(r + 4 * xy, c) for r, c in CENTRES], RADIUS)[0]
    image[:, :, :, 1] = 100
    write_dataset(
        folder,
        'cells',
        image,
        [
            make_layer(0, '#FFFFFF', mode='percentile', black=1, white=99.9),
            make_layer(1, visible=False),
        ],
    )
    lab = Lab(start_module_server(folder))
    lab.annotate(tag_disc(lab.id, CENTRES[0]), tag_disc(lab.id, (34, 30), (1, 1, 1)))
    return lab


def test_a_batch_gives_annotations_in_exactly_the_right_frames(grid):
    batch = {'Speed': FAST, 'Batch XY': '1-2', 'Batch Z': '2', 'Batch Time': '2'}
    ended = grid.run(
        {
            **make_params(**{**SETTINGS, **batch}),
            'tags': ['batched'],
            'channel': 1,
        }
    )
    assert ended.status == 0, ended.log
    assert not ended.of('error')
    assert len(ended.of('warning')) <= 2
    made = grid.annotations('batched')
    assert set(locations_of(made)) == {(0, 1, 1), (1, 1, 1)}
    for one in made:
        disc_image = draw_discs([(r + 4 * one['location']['XY'], c) for r, c in CENTRES], RADIUS)[1]
        same_frame = [other for other in made if other['location'] == one['location']]
        for number in (1, 2, 3):
            assert best_iou(same_frame, disc_image == number) > 0.6
        assert one['tags'] == ['batched']
        assert one['channel'] == 1
        assert one['shape'] == 'polygon'
    *_, summary, last = ended.log.splitlines()
    assert 'job summary {' in summary
    assert last.startswith(f'{len(made)} objects in 2 frames, similarity ')
    assert ended.of('progress')[-1]['info'] == (
        f'{len(made)} objects in 2 frames. Press Log for details.'
    )
    for line in ended.of('progress'):
        assert len(f'{line["title"]} {line["info"]}') <= MAX_LINE_CHARACTERS


def test_progress_only_grows_and_moves_within_a_frame(grid):
    ended = grid.run({**make_params(**{**SETTINGS, 'Points per side': 24}), 'tags': ['progress']})
    shares = [message['progress'] for message in ended.of('progress')]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert len({share for share in shares if 0.05 < share < 0.9}) >= 2
    assert all(set(message) == {'progress', 'title', 'info'} for message in ended.of('progress'))


def test_the_threads_of_a_job_sleep_while_they_wait(grid, monkeypatch):
    monkeypatch.delenv('OMP_WAIT_POLICY', raising=False)
    monkeypatch.setenv('OMP_DISPLAY_ENV', 'TRUE')
    ended = grid.run({**make_params(**SETTINGS), 'tags': ['asleep']})
    assert ended.status == 0
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in ended.log


def test_blank_batch_fields_mean_where_the_user_stands(grid):
    ended = grid.run(
        {**make_params(**SETTINGS), 'tags': ['here'], 'tile': {'XY': 1, 'Z': 0, 'Time': 1}}
    )
    assert ended.status == 0
    assert set(locations_of(grid.annotations('here'))) == {(1, 0, 1)}


def test_when_nothing_is_found_a_warning_says_what_removed_it(grid):
    by_threshold = grid.run(
        {**make_params(**{**SETTINGS, 'Similarity Threshold': 1}), 'tags': ['none']}
    )
    by_area = grid.run(
        {
            **make_params(**{**SETTINGS, 'Min Mask Area': 90_000, 'Max Mask Area': 0}),
            'tags': ['none'],
        }
    )
    assert by_threshold.status == by_area.status == 0
    assert not grid.annotations('none')
    (warning,) = by_threshold.of('warning')
    counts = re.match(
        r'(\d+) candidates?: (?:(\d+) outside the area limits, )?(\d+) less similar than 1\. '
        r'Highest similarity: ([01]\.\d+)\.',
        warning['info'],
    )
    assert counts
    assert int(counts[1]) == int(counts[2] or 0) + int(counts[3])
    assert int(counts[3]) >= 3
    assert 0.8 < float(counts[4]) <= 1
    warning, examples = by_area.of('warning')
    assert '2 of 2 examples are outside Min and Max Mask Area' in examples['warning']
    counts = re.match(
        r'(\d+) candidates?: (\d+) outside the area limits\. Change the area limits\.',
        warning['info'],
    )
    assert counts
    assert counts[1] == counts[2]


@pytest.fixture
def single(start_server, tmp_path) -> Lab:
    """One plane of uint8 without a view."""
    write_dataset(
        tmp_path, 'cells', (draw_discs(CENTRES, RADIUS)[0] // 16).clip(0, 255).astype(np.uint8)
    )
    return Lab(start_server(tmp_path))


def test_examples_that_cannot_be_used_are_left_out_with_one_warning(single):
    single.annotate(
        tag_disc(single.id, CENTRES[0]),
        tag_disc(single.id, CENTRES[0], coordinates=[{'x': 1, 'y': 1}, {'x': 5, 'y': 5}]),
        tag_disc(single.id, (400, 400)),
        tag_disc(single.id, (500, 400)),
        tag_disc(single.id, CENTRES[0], location=(3, 0, 0)),
        tag_disc(single.id, CENTRES[1], tags=['other']),
        tag_disc(single.id, CENTRES[1], shape='point', coordinates=[{'x': 3, 'y': 3}]),
    )
    ended = single.run({**make_params(**SETTINGS), 'tags': ['found']})
    assert ended.status == 0, ended.log
    examples, scores = ended.of('warning')  # and one about the layers is in the log
    assert 'no view' in scores['info']
    assert f'Not shown: {messages.NO_VIEW.text}' in ended.log
    assert examples['warning'] == '4 of 5 examples were ignored.'
    for reason in (
        '1 fewer than 3 points',
        '2 outside the image',
        '1 on a frame that the dataset does not have',
    ):
        assert reason in examples['info']
    labels = draw_discs(CENTRES, RADIUS)[1]
    assert all(
        best_iou(single.annotations('found'), labels == number) > 0.6 for number in (1, 2, 3)
    )


def test_a_job_whose_examples_are_all_useless_fails(single):
    single.annotate(tag_disc(single.id, (400, 400)))
    ended = single.run({**make_params(**SETTINGS), 'tags': ['found']})
    (error,) = ended.of('error')
    assert ended.status != 0
    assert error['error'] == 'No example can be used.'
    assert '1 outside the image' in error['info']


def test_any_of_several_training_tags_counts_and_each_example_once(single):
    single.annotate(
        tag_disc(single.id, CENTRES[0], tags=['a', 'b']),
        tag_disc(single.id, CENTRES[1], tags=['b']),
        tag_disc(single.id, CENTRES[2], tags=['c']),
    )
    ended = single.run(
        {**make_params(**SETTINGS, **{'Training Tag': ['a', 'b']}), 'tags': ['found']}
    )
    summary = json.loads(re.search(r'job summary (.*)', ended.log)[1])
    assert summary['examples'] == 2
    assert summary['uploaded'] == len(single.annotations('found')) >= 3


def test_what_is_found_is_connected_where_the_tool_says_so(single):
    parent, _ = single.annotate(
        tag_disc(single.id, CENTRES[0], tags=['nucleus']), tag_disc(single.id, CENTRES[0])
    )
    ended = single.run(
        {**make_params(**SETTINGS), 'tags': ['found'], 'connectTo': {'tags': ['nucleus']}}
    )
    assert ended.status == 0, ended.log
    connections = single.server.client.get(
        'annotation_connection', parameters={'datasetId': single.id}
    )
    assert {one['parentId'] for one in connections} == {parent['_id']}
    assert {one['childId'] for one in connections} == {
        one['_id'] for one in single.annotations('found')
    }
