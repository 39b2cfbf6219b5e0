"""Jobs that cannot run: the worker prints one error for the page and exits with a failure."""

import json
from copy import deepcopy

import numpy as np
import pytest

from fewshot.sam.checkpoints import VIT_H
from tests.datasets import write_dataset
from tests.worker import NOWHERE, make_params, run_worker

NO_ID = '0' * 24


def form_without(name: str) -> dict:
    params = deepcopy(make_params())
    del params['workerInterface'][name]
    return params


REFUSED_BEFORE_ANY_REQUEST = [  # job, words of the message, words of the info
    (form_without('Training Tag'), 'Training Tag is empty', 'Outline 5-20 objects'),
    (make_params(**{'Training Tag': []}), 'Training Tag is empty.', 'give them a tag'),
    (
        make_params(**{'Training Tag': None}),
        'Training Tag is not a list of tags: empty.',
        'Choose',
    ),
    (form_without('Model'), 'this model: empty.', 'Choose one of'),
    (make_params(Model=None), 'this model: empty.', 'Choose one of'),
    (make_params(Model='sam2_large'), 'sam2_large', 'Choose one of'),
    (make_params(Model=VIT_H.name), VIT_H.file, 'Choose another model'),
    (
        make_params(**{'Similarity Threshold': None}),
        'Similarity Threshold is not a number: empty.',
        'from 0 to 1',
    ),
    (
        make_params(**{'Similarity Threshold': ''}),
        'Similarity Threshold is not a number: empty.',
        'from 0 to 1',
    ),
    (
        make_params(**{'Similarity Threshold': float('nan')}),
        'Similarity Threshold is not a number: nan.',
        'from 0 to 1',
    ),
    (
        make_params(**{'Similarity Threshold': '1.2'}),
        'Similarity Threshold is out of range',
        'from 0 to 1',
    ),
    (
        make_params(**{'Target Occupancy': 'half'}),
        'Target Occupancy is not a number',
        'from 0.05 to 0.8',
    ),
    (
        make_params(**{'Points per side': 20.5}),
        'Points per side is not a whole number: 20.5.',
        'from 16 to 128',
    ),
    (make_params(**{'Points per side': 256}), 'Points per side is out of range', 'from 16 to 128'),
    (
        make_params(**{'Min Mask Area': float('inf')}),
        'Min Mask Area is not a number: inf.',
        'from 0',
    ),
    (make_params(**{'Max Mask Area': -1}), 'Max Mask Area is out of range: -1.', 'from 0'),
    (make_params(Smoothing=[]), 'Smoothing is not a number: empty.', 'from 0 to 3'),
    (
        make_params(**{'Min Mask Area': 200, 'Max Mask Area': 100}),
        'Min Mask Area (200 pixels) is above Max Mask Area (100 pixels)',
        'Lower',
    ),
    (make_params(**{'Batch XY': '1-'}), 'Batch XY cannot be read', '1-3, 5-8'),
    (
        make_params(**{'Batch Z': None}),
        'Batch Z cannot be read: empty is not text.',
        '1-3, 5-8',
    ),
    (
        make_params(**{'Batch Time': 'first'}),
        "Batch Time cannot be read: 'first' is not a number or a range",
        '1-3, 5-8',
    ),
]


@pytest.mark.parametrize(('params', 'message', 'info'), REFUSED_BEFORE_ANY_REQUEST)
def test_a_bad_setting_ends_the_job_with_one_error_before_any_request(params, message, info):
    ended = run_worker(
        'compute', params, NOWHERE, 'no-token', NO_ID
    )  # a request would fail in another way
    assert ended.status != 0
    assert len(ended.messages) == 1
    (error,) = ended.of('error')
    assert message in error['error']
    assert info in error['info']
    assert error['type'] == 'error'
    assert len(error['error']) <= 120
    assert len(error['info']) <= 160
    assert ended.log.splitlines()[-1] == f'{error["error"]} {error["info"]}'


REFUSED_BY_THE_DATASET = [
    (
        make_params(**{'Batch XY': '1-3, 7'}),
        'Batch XY names positions that the dataset does not have: 1-3, 7',
        'last position is 2.',
    ),
    (
        make_params(**{'Batch Z': '0'}),
        'Batch Z names positions that the dataset does not have: 0',
        'last position is 1.',
    ),
    (
        make_params(**{'Batch Time': '2'}),
        'Batch Time names positions that the dataset does not have: 2',
        'last position is 1.',
    ),
    (
        {**make_params(), 'tile': {'XY': 5, 'Z': 0, 'Time': 0}},
        'Batch XY names positions that',
        'last position is 2.',
    ),
    (
        {**make_params(), 'channel': 1},
        'channel 2, which the dataset does not have',
        'last channel is 1.',
    ),
    (make_params(), "No polygon has the tag 'example'", 'Tag 5-20 polygons'),
]


@pytest.fixture(scope='module')
def plain_server(start_module_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp('plain')
    write_dataset(folder, 'cells', np.zeros((2, 1, 1, 1, 16, 16), np.uint8))
    return start_module_server(folder)


@pytest.mark.parametrize(('params', 'message', 'info'), REFUSED_BY_THE_DATASET)
def test_a_job_that_does_not_fit_its_dataset_ends_with_one_error(
    plain_server, params, message, info
):
    ended = run_worker(
        'compute', params, plain_server.apiUrl, plain_server.token, plain_server.datasets['cells']
    )
    assert ended.status != 0
    (error,) = ended.of('error')
    assert message in error['error']
    assert info in error['info']
    assert not ended.of('progress')


@pytest.mark.parametrize(
    ('token', 'datasetId', 'words'),
    [
        ('wrong-token', None, '401'),
        (None, NO_ID, 'Invalid folder id'),
        (None, 'nonsense', 'nonsense'),
    ],
)
def test_a_dataset_that_cannot_be_read_ends_the_job_with_one_error(
    plain_server, token, datasetId, words
):
    ended = run_worker(
        'compute',
        make_params(),
        plain_server.apiUrl,
        token or plain_server.token,
        datasetId or plain_server.datasets['cells'],
    )
    assert ended.status != 0
    (error,) = ended.of('error')
    assert words in error['error']
    assert 'wrong-token' not in json.dumps(ended.messages) + ended.log


def test_user_who_may_only_read_is_refused_first(plain_server):
    ended = run_worker(
        'compute',
        make_params(),
        plain_server.apiUrl,
        plain_server.users['reader'],
        plain_server.datasets['cells'],
    )
    (error,) = ended.of('error')
    assert ended.status != 0
    assert error['error'] == 'You can read this dataset but not add annotations to it.'
    assert not ended.of('progress')


@pytest.mark.parametrize('text', ['', '{', '{"workerInterface": '])
def test_parameters_that_are_no_json_end_the_job_with_one_error(text):
    ended = run_worker('compute', text, NOWHERE, 'no-token', NO_ID)
    (error,) = ended.of('error')
    assert ended.status != 0
    assert 'not JSON' in error['error']
