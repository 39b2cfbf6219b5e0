"""Outlines with scores, changes and undo; layers; what a job has printed."""

import json
import sys
import time
from contextlib import closing

import pytest

from annotation_page.layers import describe_layers, ensure_view, list_layers, visible_layers
from annotation_page.outlines import (
    Edits,
    choose_colours,
    describe_outlines,
    is_result,
    read_scores,
)
from annotation_page.runs import NO_MESSAGE, Run, describe_job
from annotation_server.jobs import RUNNING, Jobs
from annotation_server.store import Store
from fewshot.errors import JobError
from fewshot.geometry import Location
from fewshot.settings import build_interface, read_settings
from tests.datasets import make_layer

HERE = Location(0, 0, 0)
TRIANGLE = [(1, 1), (5, 1), (1, 5)]


@pytest.fixture
def store(tmp_path):
    with closing(Store(tmp_path / 'annotations.sqlite')) as store:
        yield store


@pytest.fixture
def dataset(store):
    return store.add_dataset('cells', ['cells.tif'], [])


def tags(store, dataset):
    return [one['tags'] for one in store.annotations_at(dataset, {})]


def test_every_change_can_be_undone(store, dataset):
    edits = Edits(store, dataset)
    edits.add(TRIANGLE, 'a', HERE)
    edits.add(TRIANGLE, 'b', HERE)
    before = store.annotations_at(dataset, {})
    ids = [one['_id'] for one in before]
    edits.tag(ids, 'b')
    assert tags(store, dataset) == [['b'], ['b']]
    edits.remove(ids)
    assert tags(store, dataset) == []
    assert edits.undo()
    assert tags(store, dataset) == [['b'], ['b']]
    assert edits.undo()
    assert store.annotations_at(dataset, {}) == before
    assert edits.undo()
    assert edits.undo()
    assert tags(store, dataset) == []
    assert not edits.undo()


def test_a_change_that_changes_nothing_is_not_remembered(store, dataset):
    edits = Edits(store, dataset)
    edits.add(TRIANGLE, 'a', HERE)
    edits.tag([store.annotations_at(dataset, {})[0]['_id']], 'a')
    edits.remove(['f' * 24])
    assert edits.undo()
    assert tags(store, dataset) == []


def test_outlines_of_another_dataset_stay_as_they_are(store, dataset):
    other = store.add_dataset('other', ['other.tif'], [])
    Edits(store, other).add(TRIANGLE, 'a', HERE)
    ids = [one['_id'] for one in store.annotations_at(other, {})]
    edits = Edits(store, dataset)
    edits.remove(ids)
    edits.tag(ids, 'b')
    assert tags(store, other) == [['a']]


def test_outlines_have_scores_also_after_an_undo(store, dataset):
    edits = Edits(store, dataset)
    edits.add(TRIANGLE, 'found', HERE)
    (outline,) = store.annotations_at(dataset, {})
    property_id = store.add_property({'name': 'Area'})['_id']
    other_id = store.add_property({'name': 'SAM few-shot'})['_id']
    values = {property_id: 8, other_id: {'Similarity': 0.9, 'Class': 'round'}}
    entry = {'datasetId': dataset, 'annotationId': outline['_id'], 'values': values}
    store.add_property_values([entry])
    edits.remove([outline['_id']])
    edits.undo()
    (described,) = describe_outlines(
        store.annotations_at(dataset, {}), read_scores(store, dataset), set()
    )
    assert described == {
        'id': outline['_id'],
        'points': [[1, 1], [5, 1], [1, 5]],
        'tags': ['found'],
        'scores': {'Area': 8, 'Similarity': 0.9},
        'isResult': True,
    }


def test_an_outline_to_which_the_user_gave_a_role_is_no_result():
    roles = {'cell', 'not this'}
    assert is_result({'tags': ['found']}, {'Similarity': 1}, roles)
    assert not is_result({'tags': ['found']}, {}, roles)
    assert not is_result({'tags': ['cell']}, {'Similarity': 1}, roles)
    assert not is_result({'tags': ['found', 'not this']}, {'Similarity': 1}, roles)


def test_each_tag_has_a_colour():
    colours = choose_colours([str(number) for number in range(20)])
    assert len(colours) == 22
    assert len({colours[tag] for tag in ('example', 'not this', '0', '1', '2')}) == 5


def test_a_dataset_gets_a_layer_per_channel_once(store, dataset):
    user = store.user_of_token(store.tokens()['owner'])
    metadata = {'IndexRange': {'IndexC': 2}, 'channels': ['DAPI']}
    ensure_view(store, user, dataset, metadata)
    ensure_view(store, user, dataset, metadata)
    assert len(store.views(dataset, user)) == 1
    layers = list_layers(store, user, dataset)
    assert [layer['name'] for layer in layers] == ['DAPI', 'Channel 2']
    assert layers == describe_layers(metadata)
    assert [layer.channel for layer in visible_layers(layers, channels=2)] == [0, 1]


def test_contrasts_of_the_view_come_first_until_layers_are_saved(store):
    contrast = {'mode': 'absolute', 'blackPoint': 1, 'whitePoint': 2}
    configuration = {
        'name': 'c',
        'layers': [make_layer(0)],
        'layerContrasts': {'layer-0': contrast},
        'levels': {},
    }
    dataset = store.add_dataset('cells', ['cells.tif'], [configuration])
    user = store.user_of_token(store.tokens()['owner'])
    (layer,) = list_layers(store, user, dataset)
    assert layer['contrast'] == contrast
    layer['contrast'] = {**contrast, 'whitePoint': 5}
    store.set_layers(store.views(dataset, user)[0]['_id'], [layer])
    assert list_layers(store, user, dataset) == [layer]
    assert store.views(dataset, user)[0]['layerContrasts'] == {}


def test_without_a_visible_layer_all_are_shown_as_the_worker_does():
    layers = visible_layers([make_layer(0, visible=False)], channels=3)
    assert [layer.channel for layer in layers] == [0, 1, 2]
    with pytest.raises(JobError):
        visible_layers([{**make_layer(0), 'color': 'red'}], channels=1)


def test_the_job_is_one_that_the_worker_reads(monkeypatch, tmp_path):
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(tmp_path))
    (tmp_path / 'sam_vit_mini2.pth').touch()
    form = {'Training Tag': ['example'], 'Model': 'sam_vit_mini2'}
    assert set(form) < set(build_interface())
    job = describe_job('d', {'XY': 1, 'Z': 2, 'Time': 3}, ['found'], form)
    settings = read_settings(job)
    assert settings.tags == ('found',)
    assert settings.location == Location(1, 2, 3)


SLEEP = [sys.executable, '-c', 'import time; time.sleep(600)']


def test_a_run_reads_what_the_worker_prints_line_by_line(tmp_path):
    with closing(Jobs(SLEEP, 1, tmp_path)) as jobs:
        run, waiting = (Run(jobs, jobs.start('a', [])['_id']) for _ in range(2))
        waiting.follow()  # there is no file yet
        while run.status != RUNNING:
            time.sleep(0.01)
        assert run.text == 'Starting the worker …'
        file = jobs.output_file(run.job_id)
        lines = [
            json.dumps({'progress': 0.5, 'title': 'Searching', 'info': '1 min left'}),
            'a line that is no message',
            '[1]',
            json.dumps({'warning': 'w', 'info': 'do'}),
            json.dumps({'error': 'e'}),
        ]
        text = '\n'.join(lines) + '\n'
        for end in (20, 60, len(text)):
            file.write_text(text[:end])
            run.follow()
        assert (run.progress, run.text) == (0.5, 'Searching · 1 min left')
        assert run.notices == [
            {'kind': 'warning', 'text': 'w', 'info': 'do'},
            {'kind': 'error', 'text': 'e', 'info': ''},
        ]


def test_a_worker_that_ends_without_a_message_gets_one(tmp_path):
    with closing(Jobs([sys.executable, '-c', 'raise ValueError'], 1, tmp_path)) as jobs:
        run = Run(jobs, jobs.start('a', [])['_id'])
        while run.is_active:
            time.sleep(0.01)
        for _ in range(2):
            run.follow()
            assert run.notices == [NO_MESSAGE]
        assert run.text == 'Failed'
        assert 'ValueError' in run.read_log()


def test_a_job_is_cancelled_while_it_runs_or_waits(tmp_path):
    with closing(Jobs(SLEEP, 1, tmp_path)) as jobs:
        running, waiting = (Run(jobs, jobs.start('a', [])['_id']) for _ in range(2))
        while running.status != RUNNING:
            time.sleep(0.01)
        assert waiting.text == 'Waiting for another run to end'
        waiting.cancel()
        running.cancel()
        while running.is_active:
            time.sleep(0.01)
        assert (running.text, waiting.text) == ('Cancelled', 'Cancelled')
        running.cancel()  # harmless
        assert running.text == 'Cancelled'
