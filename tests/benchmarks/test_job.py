"""What a job's measurements mean."""

import numpy as np
import pytest

from annotation_client.connection import DEFAULT_PATIENCE, keep_alive_session
from benchmarks.frames import draw_frame, running_lab
from benchmarks.job import STEPS, Costs, counting, forget_most_memory, read_memory
from demo.dataset import write_dataset


def test_seconds_in_all_leave_out_loading_the_model():
    costs = Costs(
        {**dict.fromkeys(STEPS, 1.0), 'load': 50.0, 'propose': 20.0, 'describe': 30.0, 'rest': 0.5},
        0,
        0,
        0,
    )
    assert costs.total == 53.5 and costs.other == 3.5


def test_the_most_memory_counts_from_when_it_was_forgotten():
    before = read_memory('VmRSS')
    block = np.ones(200 * 2**17)  # 200 MB
    assert read_memory('VmRSS') > before + 190
    del block
    assert read_memory('VmHWM') > before + 190
    forget_most_memory()
    assert read_memory('VmHWM') < before + 100


def test_every_request_is_counted_with_its_answer_until_the_block_ends(tmp_path):
    image = draw_frame(64)
    write_dataset(tmp_path / 'data', image[None])
    with running_lab(tmp_path / 'data', len(image)) as lab:
        sizes = []
        session = keep_alive_session(DEFAULT_PATIENCE)
        with counting(sizes):
            answer = session.post(f'{lab.apiUrl}/nowhere', data=b'x' * 100_000)
        session.get(f'{lab.apiUrl}/nowhere')
    assert sizes == [100_000 + len(answer.content)]


@pytest.mark.parametrize('name', ['VmRSS', 'VmHWM'])
def test_memory_is_in_megabytes(name):
    assert 20 < read_memory(name) < 50_000
