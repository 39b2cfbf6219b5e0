import json
from unittest.mock import Mock

import numpy as np
import pytest

from annotation_client.annotations import UPennContrastAnnotationClient
from fewshot.scores import IMAGE, NAME, ScoresNotSavedError, find_property, list_scored, prepare_property, save_scores
from tests.datasets import make_layer, write_dataset

OTHER = {'shape': 'polygon', 'image': IMAGE, 'tags': {'tags': [], 'exclusive': False}, 'workerInterface': {}}
READ, UPDATE, NOTHING = 0, 1, -1


class Lab:
    """A server with one dataset that has a configuration for each entry of `levels`, {user: level}."""

    def __init__(self, start_server, folder, *levels):
        write_dataset(folder, 'cells', np.zeros((8, 8), np.uint8))
        if levels:
            first, *others = ({'layers': [make_layer(0)], 'name': f'{number}', 'levels': one}
                              for number, one in enumerate(levels))
            (folder / 'cells.layers.json').write_text(json.dumps({**first, 'configurations': others}))
        self.server = start_server(folder)
        self.datasetId = self.server.datasets['cells']

    def prepare(self, user='owner'):
        """Return the id of the property as a job of this user gets it."""
        return prepare_property(self.store(user), self.datasetId)

    def store(self, user='owner'):
        """Return a client with the token of a user."""
        return UPennContrastAnnotationClient(self.server.apiUrl, self.server.users[user])

    def named(self, user='owner'):
        """Return the ids of the properties that each configuration names, by the configuration's name."""
        client = self.server.client_of(user)
        views = client.get('dataset_view', parameters={'datasetId': self.datasetId})
        configurations = [client.get(f'upenn_collection/{view["configurationId"]}') for view in views]
        return {one['name']: one['meta'].get('propertyIds', []) for one in configurations}


@pytest.fixture
def lab(start_server, tmp_path):
    """A function that starts a server with these rights on the configurations of its dataset."""
    return lambda *levels: Lab(start_server, tmp_path, *levels)


def test_property_is_created_once_and_named_beside_others(lab):
    bench = lab({})
    store = bench.store()
    others = [store.createNewProperty({**OTHER, 'name': f'other {number}'})['_id'] for number in range(60)]
    view, = bench.server.client.get('dataset_view', parameters={'datasetId': bench.datasetId})
    bench.server.client.put(f'upenn_collection/{view["configurationId"]}/metadata', json={'propertyIds': others})
    made = {bench.prepare() for _ in range(3)}
    assert len(made) == 1
    assert bench.named() == {'0': [*others, *made]}


def test_property_of_another_shape_is_not_the_scores(lab):
    bench = lab({})
    other = bench.store().createNewProperty({**OTHER, 'name': NAME, 'shape': 'point'})['_id']
    view, = bench.server.client.get('dataset_view', parameters={'datasetId': bench.datasetId})
    bench.server.client.put(f'upenn_collection/{view["configurationId"]}/metadata', json={'propertyIds': [other]})
    assert find_property(bench.store(), bench.datasetId) is None
    assert bench.prepare() != other


def test_property_is_the_same_for_every_user(lab):
    bench = lab({})
    made = bench.prepare('writer')
    assert bench.prepare('owner') == bench.prepare('writer') == made
    assert find_property(bench.store('reader'), bench.datasetId) == made


def test_configuration_that_cannot_be_updated_costs_no_scores(lab):
    bench = lab({'writer': READ}, {'writer': UPDATE}, {'writer': NOTHING})
    made = bench.prepare('writer')
    assert bench.named() == {'0': [], '1': [made], '2': []}
    assert bench.prepare('owner') == made
    assert bench.named() == {'0': [made], '1': [made], '2': [made]}


def test_property_in_a_configuration_that_cannot_be_updated_is_used(lab):
    bench = lab({'writer': READ})
    made = bench.prepare('owner')
    assert bench.prepare('writer') == made


@pytest.mark.parametrize(('levels', 'reason'), [
    ([], 'no view that you can open'),
    ([{'writer': NOTHING}], 'no view that you can open'),
    ([{'writer': READ}, {'writer': READ}], 'cannot change any configuration'),
])
def test_no_property_is_created_that_nobody_could_read(lab, levels, reason):
    bench = lab(*levels)
    posted = Mock()
    store = bench.store('writer')
    store.createNewProperty = posted
    with pytest.raises(ScoresNotSavedError, match=reason):
        prepare_property(store, bench.datasetId)
    posted.assert_not_called()


def test_scored_annotations_are_listed(lab):
    bench = lab({})
    propertyId = bench.prepare()
    store = bench.store()
    made = store.createMultipleAnnotations([{
        'coordinates': [{'x': 1, 'y': 1}, {'x': 5, 'y': 1}, {'x': 1, 'y': 5}], 'tags': [], 'channel': 0,
        'location': {'XY': 0, 'Z': 0, 'Time': 0}, 'shape': 'polygon', 'datasetId': bench.datasetId}] * 3)
    save_scores(store, bench.datasetId, propertyId, [one['_id'] for one in made[:2]], [{'Similarity': 0.5}] * 2)
    assert list_scored(store, bench.datasetId, propertyId) == {one['_id'] for one in made[:2]}


def test_scores_go_in_their_order_and_no_more_at_once_than_the_server_takes():
    store = Mock()  # 10,001 real annotations would only take time
    ids = [f'{number:024x}' for number in range(10_001)]
    save_scores(store, 'd', 'p', ids, [{'Similarity': number / 20_000} for number in range(10_001)])
    first, second = (call.args[0] for call in store.addMultipleAnnotationPropertyValues.call_args_list)
    assert len(first) == 10_000 and second == [
        {'datasetId': 'd', 'annotationId': ids[-1], 'values': {'p': {'Similarity': 0.5}}}]
