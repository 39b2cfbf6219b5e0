import os
import subprocess
import sys

import pytest

from fewshot.sam.hardware import has_processor_bfloat16, name_hardware


@pytest.mark.parametrize(
    ('flags', 'able'), [('avx2 avx512f', False), ('avx2 avx512_bf16', True), ('amx_bf16', True)]
)
def test_processor_is_named_by_what_it_multiplies(tmp_path, flags, able):
    (tmp_path / 'cpuinfo').write_text(f'processor : 0\nflags : {flags}\n')
    assert has_processor_bfloat16(tmp_path / 'cpuinfo') is able
    expected = 'processor with bfloat16' if able else 'processor without bfloat16'
    assert name_hardware(tmp_path, tmp_path) == expected


def test_machine_without_a_list_of_its_processor_is_named(tmp_path):
    assert name_hardware(tmp_path, tmp_path) == 'processor without bfloat16'


def test_gpus_are_named_by_their_models(tmp_path):
    for number, model in enumerate(['Tesla T4', 'NVIDIA H100', 'Tesla T4']):
        folder = tmp_path / 'driver' / 'nvidia' / 'gpus' / f'0000:0{number}:00.0'
        folder.mkdir(parents=True)
        (folder / 'information').write_text(f'Model: \t\t {model}\nIRQ: 16\n')
    assert name_hardware(tmp_path, tmp_path) == 'NVIDIA H100, Tesla T4'


def test_gpu_without_a_model_is_named(tmp_path):
    (tmp_path / 'nvidia0').touch()
    assert name_hardware(tmp_path, tmp_path) == 'GPU'


STEPS = """
import resource
import numpy as np
from fewshot.sam.hardware import keep_freed_memory

keep_freed_memory()
for step in range(100):
    if step == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(2**18, np.uint8) for _ in range(20)]
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_used_again():
    """Each step uses 1,280 pages of 4 kB. The system gives them once."""
    command = [sys.executable, '-c', STEPS]
    faults = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert faults < 1000


THREADS = """
from fewshot.sam.hardware import let_threads_sleep

let_threads_sleep()
import torch
"""


@pytest.mark.parametrize(('chosen', 'policy'), [(None, 'PASSIVE'), ('ACTIVE', 'ACTIVE')])
def test_threads_sleep_unless_the_environment_says_otherwise(chosen, policy):
    environment = {**os.environ, 'OMP_DISPLAY_ENV': 'TRUE'}
    environment.pop('OMP_WAIT_POLICY', None)
    if chosen:
        environment['OMP_WAIT_POLICY'] = chosen
    command = [sys.executable, '-c', THREADS]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert f"OMP_WAIT_POLICY = '{policy}'" in ended.stderr


GAPS = """
import re
from pathlib import Path
import numpy as np
from fewshot.sam.hardware import keep_freed_memory, release_freed_memory

def measure():
    return int(re.search(r'VmRSS:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])

keep_freed_memory()
arrays = [np.ones(2**18, np.uint8) for _ in range(400)]
kept = arrays[::2]
del arrays
before = measure()
release_freed_memory()
print(before - measure())
"""


def test_freed_memory_between_arrays_is_given_back():
    """Half of 100 MB are free, in gaps of 0.25 MB."""
    command = [sys.executable, '-c', GAPS]
    released = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert released > 40_000  # kB
