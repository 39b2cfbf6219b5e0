"""A long batch: nothing adds up."""
import json
import os
import subprocess
import sys

import numpy as np

from tests.datasets import make_layer, write_dataset
from tests.worker import REPOSITORY

FRAMES, SIDE = 300, 48


def test_three_hundred_frames_take_no_more_memory_threads_or_connections_than_twenty(start_server, tmp_path):
    rng = np.random.default_rng(0)
    write_dataset(tmp_path, 'cells', rng.integers(0, 255, (FRAMES, 1, 1, 1, SIDE, SIDE), np.uint8), [make_layer(0)])
    server = start_server(tmp_path)
    datasetId = server.datasets['cells']
    server.client.post('upenn_annotation/multiple', json=[{
        'coordinates': [{'x': x, 'y': y} for x, y in ((10, 10), (30, 10), (30, 30))], 'tags': ['example'], 'channel': 0,
        'location': {'XY': 0, 'Z': 0, 'Time': 0}, 'shape': 'polygon', 'datasetId': datasetId}])
    ended = subprocess.run(
        [sys.executable, '-m', 'tests.end_to_end.soak', server.apiUrl, server.token, datasetId], cwd=REPOSITORY,
        capture_output=True, text=True, check=False,
        env={**os.environ, 'SAM_CHECKPOINT_DIR': str(REPOSITORY / 'models')})
    assert ended.returncode == 0, ended.stderr[-3000:]
    samples = json.loads(ended.stdout.splitlines()[-1])
    filters = {'datasetId': datasetId, 'tags': '["found"]'}
    made = server.client.get('upenn_annotation/count', parameters=filters)['count']
    assert len(samples) == FRAMES and made > FRAMES / 2  # there was something to describe and to send
    early, late = samples[19], samples[-1]
    assert late['memory'] < 1.05 * early['memory']
    assert late['threads'] <= early['threads'] and late['sockets'] <= early['sockets']
