"""A long batch: nothing adds up."""

import json
import os
import subprocess
import sys

import numpy as np

from tests.datasets import make_layer, write_dataset
from tests.worker import REPOSITORY

FRAMES, SIDE = 100, 48
FIRST = 20  # frames after which everything that is needed exists


def test_long_batch_keeps_nothing_of_earlier_frames(start_server, tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (FRAMES, 1, 1, 1, SIDE, SIDE), np.uint8)
    write_dataset(tmp_path, 'cells', frames, [make_layer(0)])
    server = start_server(tmp_path)
    datasetId = server.datasets['cells']
    example = {
        'coordinates': [{'x': x, 'y': y} for x, y in ((10, 10), (30, 10), (30, 30))],
        'tags': ['example'],
        'channel': 0,
        'location': {'XY': 0, 'Z': 0, 'Time': 0},
        'shape': 'polygon',
        'datasetId': datasetId,
    }
    server.client.post('upenn_annotation/multiple', json=[example])
    ended = subprocess.run(
        [sys.executable, '-m', 'tests.end_to_end.soak', server.apiUrl, server.token, datasetId],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, 'SAM_CHECKPOINT_DIR': str(REPOSITORY / 'models')},
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    counts = json.loads(ended.stdout.splitlines()[-1])
    filters = {'datasetId': datasetId, 'tags': '["found"]'}
    made = server.client.get('upenn_annotation/count', parameters=filters)['count']
    assert len(counts) == FRAMES
    assert made > FRAMES / 2  # there was something to describe and to upload
    for name in ('frames', 'candidates', 'tensors', 'threads', 'sockets'):
        early, late = (
            max(count[name] for count in part) for part in (counts[:FIRST], counts[FIRST:])
        )
        assert late <= early, name
