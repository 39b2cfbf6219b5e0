"""A later run computes only what is missing, and finds exactly what a fresh run finds."""

import json
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tifffile

import entrypoint
from fewshot.errors import JobError
from fewshot.geometry import CutMask
from fewshot.sam.candidates import Candidate
from fewshot.settings import EXACT, FAST, FASTEST, KEEP, SKIP
from fewshot.store.files import ITEM, SWITCH
from tests.datasets import make_layer, write_dataset
from tests.end_to_end import test_faults
from tests.end_to_end.stand_in import EXPECTED, outline_example, place_objects, write_batch
from tests.end_to_end.test_job import Lab
from tests.worker import REPOSITORY, make_params

run = test_faults.run  # a fixture
SETTINGS = {
    'Min Mask Area': 30,
    'Similarity Threshold': 0.3,
    'Existing Outlines': KEEP,
    'Speed': FASTEST,  # encodes no crops
}
TILE = 128  # the part of the nuclei image, pixels
EXAMPLES = {'example': [(20, 20), (60, 70)], 'more': [(90, 30)], 'bad': [(30, 100)]}
RADIUS = 9

# What a user changes between two runs. Nothing is encoded for those of the first group.
FREE: dict[str, list] = {
    'Similarity Threshold': [0, 0.3, 0.6, 0.9],
    'Min Mask Area': [30, 50, 100, 300],
    'Max Mask Area': [0, 900, 3000],
    'Smoothing': [0, 0.3, 2],
    'Existing Outlines': [KEEP, SKIP],
}
COSTLY: dict[str, list] = {
    **FREE,
    'Min Mask Area': [0, 10, 30, 100, 300],
    'Target Occupancy': [0.1, 0.2, 0.4],
    'Points per side': [16, 20],
    'Speed': [EXACT, FAST, FASTEST],
    'Training Tag': [['example'], ['example', 'more'], ['more']],
    'Negative Tag': [[], ['bad']],
    'Tile Size': [0, 100],
}


def outline_square(dataset_id: str, row: int, column: int, tag: str) -> dict[str, Any]:
    corners = [(-RADIUS, -RADIUS), (RADIUS, -RADIUS), (RADIUS, RADIUS), (-RADIUS, RADIUS)]
    return {
        'coordinates': [{'x': column + x, 'y': row + y} for x, y in corners],
        'tags': [tag],
        'channel': 0,
        'location': {'XY': 0, 'Z': 0, 'Time': 0},
        'shape': 'polygon',
        'datasetId': dataset_id,
    }


class Watched:
    """The small model, and how often it was asked."""

    def __init__(self, segmenter: Any) -> None:
        self.segmenter = segmenter
        self.input_size, self.uses_gpu = segmenter.input_size, segmenter.uses_gpu
        self.proposed = 0
        self.described: list[int] = []  # objects per call

    def propose(self, rgb: np.ndarray, report: Callable[[float], None]) -> list[Candidate]:
        """Propose candidates."""
        self.proposed += 1
        return self.segmenter.propose(rgb, report)

    def describe(
        self,
        rgb: np.ndarray,
        objects: Sequence[CutMask | Candidate],
        report: Callable[[float], None],
    ) -> np.ndarray:
        """Describe objects."""
        self.described.append(len(objects))
        return self.segmenter.describe(rgb, objects, report)


class Nuclei(Lab):
    """A dataset of real nuclei, and jobs on it in this process."""

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self.runs = 0
        self.loaded: list[Watched] = []

    def run_here(self, **changes: Any) -> list[tuple]:
        """Run a job; return outline and scores of each object, in order."""
        self.runs += 1
        self.loaded = []
        tag = f'run {self.runs}'
        params = {**make_params(**{**SETTINGS, **changes}), 'tags': [tag]}

        def load(*arguments: Any) -> Watched:
            self.loaded.append(Watched(entrypoint.load_segmenter(*arguments)))
            return self.loaded[-1]

        entrypoint.compute(
            self.id, self.server.apiUrl, self.server.token, params, load_segmenter=load
        )
        values = self.server.client.get(
            'annotation_property_values', parameters={'datasetId': self.id, 'limit': 0}
        )
        scores = {one['annotationId']: list(one['values'].values()) for one in values}
        return [(one['coordinates'], scores[one['_id']]) for one in self.annotations(tag)]

    def run_fresh(self, **changes: Any) -> list[tuple]:
        """Run a job that uses nothing of earlier runs."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(SWITCH, '0')
            return self.run_here(**changes)

    def count_files(self) -> int:
        """Return the number of files in the store."""
        query = {'folderId': self.id, 'name': ITEM}
        items = self.server.client.get('item', parameters=query)
        path = f'item/{items[0]["_id"]}/files' if items else None
        return len(self.server.client.get(path, parameters={'limit': 0})) if path else 0

    @property
    def costs(self) -> tuple[int, int]:
        """Frames that were proposed and objects that were described in the last job."""
        return (
            sum(one.proposed for one in self.loaded),
            sum(sum(one.described) for one in self.loaded),
        )


def start_nuclei(start: Callable, folder: Any) -> Nuclei:
    image = tifffile.imread(REPOSITORY / 'tests' / 'data' / 'nuclei.tif')[:TILE, :TILE]
    write_dataset(folder, 'cells', image, [make_layer(0, black=1, white=99.8)])
    lab = Nuclei(start(folder))
    for tag, places in EXAMPLES.items():
        lab.annotate(*[outline_square(lab.id, row, column, tag) for row, column in places])
    return lab


@pytest.fixture
def nuclei(start_server, tmp_path, monkeypatch) -> Nuclei:
    """Return a dataset on which no job ran."""
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))
    return start_nuclei(start_server, tmp_path)


@pytest.fixture(scope='module')
def tuned(start_module_server, tmp_path_factory) -> Nuclei:
    """Return a dataset on which all tests of the module run jobs."""
    return start_nuclei(start_module_server, tmp_path_factory.mktemp('tuned'))


def test_later_run_computes_only_what_is_missing(nuclei):
    crops = {'Speed': FAST}
    nuclei.run_here(**crops)
    proposed, described = nuclei.costs
    assert proposed == 1
    assert described > 6
    for changes in (
        {'Similarity Threshold': 0.8},
        {'Min Mask Area': 100},
        {'Max Mask Area': 900},
        {'Min Mask Area': 300, 'Max Mask Area': 3000},
        {'Smoothing': 2},
        {'Existing Outlines': SKIP},
    ):
        nuclei.run_here(**crops, **changes)
        assert nuclei.loaded == [], changes
    nuclei.run_here(**crops, **{'Training Tag': ['example', 'more']})
    assert nuclei.costs == (0, 1)
    nuclei.run_here(**crops, **{'Training Tag': ['more'], 'Negative Tag': ['bad']})
    assert nuclei.costs == (0, 1)
    nuclei.run_here(**crops, **{'Target Occupancy': 0.3})
    assert nuclei.costs == (0, described)
    nuclei.run_here(**crops, **{'Points per side': 20})
    assert nuclei.costs[0] == 1
    for changes in ({}, {'Target Occupancy': 0.3}, {'Points per side': 20}):
        nuclei.run_here(**crops, **changes)
        assert nuclei.loaded == [], changes
    assert nuclei.count_files() == 3  # of the examples, and of the frame at two numbers of points


@pytest.mark.parametrize('seed', range(6))
def test_changed_filters_find_what_a_fresh_run_finds_without_the_model(
    tuned, seed, small_models, capsys
):
    tuned.run_here(**{'Max Mask Area': 0})
    rng = random.Random(seed)
    changes = {name: rng.choice(values) for name, values in FREE.items()}
    found = tuned.run_here(**changes)
    assert tuned.loaded == [], changes
    assert found == tuned.run_fresh(**changes), changes


@pytest.mark.parametrize('seed', range(6))
def test_any_change_of_settings_finds_what_a_fresh_run_finds(tuned, seed, small_models, capsys):
    rng = random.Random(100 + seed)
    changes = {name: rng.choice(values) for name, values in COSTLY.items()}
    found = tuned.run_here(**changes)
    assert found == tuned.run_here(**changes), changes
    assert tuned.loaded == [], changes
    assert found == tuned.run_fresh(**changes), changes


@pytest.fixture
def small_models(monkeypatch) -> None:
    """Let jobs find the small model."""
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))


def test_random_changes_find_something(tuned, small_models, capsys):
    assert len(tuned.run_here()) >= 3


def test_later_process_does_not_import_torch(nuclei, monkeypatch):
    monkeypatch.setenv('PYTHONPROFILEIMPORTTIME', '1')

    def start(tag: str, **changes: Any) -> tuple[bool, list[str]]:
        params = {**make_params(**{**SETTINGS, **changes}), 'tags': [tag]}
        ended = nuclei.run(params)
        assert ended.status == 0, ended.log
        names = set(re.findall(r'^import time:.*\| +(\S+)$', ended.log, re.MULTILINE))
        assert 'numpy' in names
        infos = [message['info'] for message in ended.of('progress')]
        return bool({'torch', 'torchvision', 'segment_anything'} & names), infos

    uses_torch, infos = start('first')
    assert uses_torch
    assert 'using proposals from an earlier run' not in infos
    uses_torch, infos = start('second', **{'Similarity Threshold': 0.7, 'Min Mask Area': 60})
    assert not uses_torch
    assert 'using proposals from an earlier run' in infos
    assert nuclei.annotations('second')


def test_nothing_is_stored_when_it_is_switched_off(nuclei, monkeypatch):
    monkeypatch.setenv(SWITCH, '0')
    nuclei.run_here()
    assert nuclei.count_files() == 0


def test_image_that_the_page_shows_stays_the_same(nuclei):
    def read_dataset() -> tuple[Any, list]:
        client = nuclei.server.client
        items = client.get('item', parameters={'folderId': nuclei.id, 'limit': 0})
        shown = [item['_id'] for item in items if 'largeImage' in item]
        return client.get(f'folder/{nuclei.id}')['meta'], shown

    before = read_dataset()
    nuclei.run_here()
    assert nuclei.count_files() == 2
    assert read_dataset() == before


def test_checkpoint_that_cannot_be_loaded_ends_the_job(nuclei, tmp_path_factory, monkeypatch):
    nuclei.run_here()
    folder = tmp_path_factory.mktemp('checkpoints')
    (folder / 'sam_vit_mini2.pth').write_bytes(b'damaged')
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(folder))
    nuclei.run_here(**{'Similarity Threshold': 0.5})  # the model is not needed
    for changes in (
        {'Speed': FAST, 'Target Occupancy': 0.3},
        {'Training Tag': ['more']},
        {'Points per side': 20},
    ):
        with pytest.raises(JobError, match='bytes'):
            nuclei.run_here(**changes)


# Faults: a batch of twelve frames without a model

ADD = test_faults.ADD_FILE
MAKE_ITEM = {'method': 'POST', 'path': 'item'}
FIND_ITEM = {'method': 'GET', 'path': 'item', 'query': 'name=SAM'}
LIST = {'method': 'GET', 'path': '/files'}
DOWNLOAD = {'method': 'GET', 'path': '/download'}
HARM = ['lose', 'refuse', 'cut', 'unavailable', 'busy', 'hang', 'truncate', 'late']


@pytest.mark.parametrize('kind', HARM)
@pytest.mark.parametrize('call', [MAKE_ITEM, ADD], ids=['item', 'file'])
def test_fault_of_storing_costs_nothing(run, call, kind):
    for number, fault in enumerate([{'kind': kind, **call, 'times': None}, None], 1):
        outcome = run(*([fault] if fault else []))
        assert outcome.error is None
        assert outcome.of('warning') + outcome.of('error') == []
        assert outcome.places == Counter({place: number for place in EXPECTED})


@pytest.mark.parametrize('kind', ['lose', 'refuse', 'cut', 'busy', 'truncate'])
@pytest.mark.parametrize(
    'call', [FIND_ITEM, LIST, DOWNLOAD], ids=['find item', 'list files', 'download']
)
def test_fault_of_reading_costs_nothing(run, call, kind):
    run()
    outcome = run({'kind': kind, **call, 'occurrence': 1, 'times': 2})
    assert outcome.error is None
    assert outcome.of('warning') + outcome.of('error') == []
    assert outcome.places == Counter({place: 2 for place in EXPECTED})


@pytest.mark.parametrize('occurrence', [1, 3])
def test_killed_job_leaves_nothing_that_harms(start_server, tmp_path, monkeypatch, occurrence):
    write_batch(tmp_path)
    server = start_server(
        tmp_path,
        '--faults',
        json.dumps([{'kind': 'hang', **ADD, 'occurrence': occurrence, 'times': None}]),
    )
    dataset_id = server.datasets['cells']
    server.client.post('upenn_annotation/multiple', json=[outline_example(dataset_id)])
    params = make_params(**{'Batch XY': 'all', 'Existing Outlines': SKIP, 'Min Mask Area': 0})
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))

    def start(running: Any) -> subprocess.Popen:
        access = ['--apiUrl', running.apiUrl, '--token', running.token]
        job = ['--request', 'compute', '--datasetId', dataset_id]
        job += ['--parameters', json.dumps({**params, 'tags': ['found']})]
        return subprocess.Popen(
            [sys.executable, '-m', 'tests.end_to_end.stand_in', *access, *job],
            cwd=REPOSITORY,
            text=True,
            stdout=subprocess.PIPE,
        )

    process = start(server)
    assert process.stdout is not None
    process.stdout.readline()  # the first frame comes next, and its file hangs
    process.send_signal(signal.SIGKILL)
    process.communicate()
    server.stop()
    again = start_server(tmp_path)
    ended = start(again)
    ended.communicate()
    assert ended.returncode == 0
    made = again.client.get(
        'upenn_annotation',
        parameters={'datasetId': dataset_id, 'tags': '["found"]', 'limit': 0},
    )
    example = next(place for place in EXPECTED if place[0] == 0)
    assert place_objects(made) == Counter(place for place in EXPECTED if place != example)
