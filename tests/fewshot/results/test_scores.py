"""The property of the scores, on a server with rights."""

from typing import Any

import pytest
from girder_client import HttpError

from fewshot.results.scores import (
    IMAGE,
    NAME,
    ScoresNotSavedError,
    find_property,
    list_made,
    prepare_property,
    save_example_scores,
)
from fewshot.server import READ, WRITE
from tests.fewshot.conftest import Lab, http_error, make_server

NOTHING = -1  # no access at all


def prepare(lab: Lab, user: str = 'owner') -> str:
    """Return the property as a job of this user gets it."""
    return prepare_property(lab.server(user))


def list_named(lab: Lab) -> dict[str, list[str]]:
    """Return the ids of the properties that each configuration names, by its name."""
    configurations = lab.list_configurations()
    return {one['name']: one['meta'].get('propertyIds', []) for one in configurations}


def create_property(lab: Lab, **values: Any) -> str:
    """Create a property like that of the scores, but for some values."""
    body = {
        'name': NAME,
        'shape': 'polygon',
        'image': IMAGE,
        'tags': {'tags': [], 'exclusive': False},
        'workerInterface': {},
    }
    return lab.client.post('annotation_property', json={**body, **values})['_id']


def name_in_configuration(lab: Lab, *property_ids: str) -> None:
    (configuration,) = lab.list_configurations()
    path = f'upenn_collection/{configuration["_id"]}/metadata'
    lab.client.put(path, json={'propertyIds': property_ids})


def test_property_is_created_once_and_named_beside_others(lab):
    others = [create_property(lab, name=f'other {number}') for number in range(60)]
    name_in_configuration(lab, *others)
    created = {prepare(lab) for _ in range(3)}
    assert len(created) == 1
    assert list_named(lab) == {'0': [*others, *created]}


@pytest.mark.parametrize(
    'change', [{'shape': 'point'}, {'image': 'another:latest'}, {'name': 'SAM'}]
)
def test_other_property_is_not_that_of_the_scores(lab, change):
    other = create_property(lab, **change)
    name_in_configuration(lab, other)
    assert find_property(lab.server()) is None
    assert prepare(lab) != other


def test_property_is_the_same_for_every_user(lab):
    created = prepare(lab, 'writer')
    assert prepare(lab, 'owner') == prepare(lab, 'writer') == created
    assert find_property(lab.server('reader')) == created


def test_only_annotations_of_this_worker_count_as_made(lab):
    server = lab.server()
    assert list_made(server) == set()  # without a property
    found, example, other, _ = lab.create(*lab.make_triangles(1, 2, 3, 4))
    property_id = prepare(lab)
    server.save_scores(property_id, {found: {'Similarity': 0.9, 'Predicted IoU': 0.8}})
    server.save_scores(property_id, {example: {'Similarity': 0.9}})
    server.save_scores('0' * 24, {other: {'Similarity': 0.9, 'Predicted IoU': 0.8}})
    assert list_made(server) == {found}


@pytest.mark.parametrize('value', [0.9, 'high', None, {}, {'Similarity': 0.9}])
def test_other_values_do_not_count_as_made(lab, value):
    (odd,) = lab.create(*lab.make_triangles(1))
    entry = {'datasetId': lab.dataset_id, 'annotationId': odd, 'values': {prepare(lab): value}}
    lab.client.post('annotation_property_values/multiple', json=[entry])
    assert list_made(lab.server()) == set()


def test_configurations_of_others_are_left_alone(start_lab):
    lab = start_lab(levels=({'writer': READ}, {'writer': WRITE}, {'writer': NOTHING}))
    created = prepare(lab, 'writer')
    assert list_named(lab) == {'0': [], '1': [created], '2': []}
    assert prepare(lab, 'owner') == created
    assert list_named(lab) == {'0': [created], '1': [created], '2': [created]}


def test_property_of_a_read_only_configuration_is_used(start_lab):
    lab = start_lab(levels=({'writer': READ},))
    assert prepare(lab, 'owner') == prepare(lab, 'writer')


@pytest.mark.parametrize(
    ('levels', 'reason'),
    [
        ((), 'no view that you can open'),
        (({'writer': NOTHING},), 'no view that you can open'),
        (({'writer': READ}, {'writer': READ}), 'cannot change any of its configurations'),
    ],
)
def test_property_that_nobody_could_see_is_not_created(start_lab, levels, reason):
    # With this fault the creation itself would fail.
    fault = {'kind': 'expire', 'method': 'POST', 'path': 'annotation_property', 'times': None}
    lab = start_lab(fault, levels=levels)
    with pytest.raises(ScoresNotSavedError, match=reason):
        prepare(lab, 'writer')


def test_refused_change_is_told():
    views = [{'configurationId': 'c'}]
    configuration = {'_id': 'c', '_accessLevel': WRITE, 'meta': {}}
    server = make_server(views, configuration, {'_id': 'p'}, http_error(403))
    server.annotations.client = server.client  # createNewProperty uses it
    with pytest.raises(ScoresNotSavedError, match='refused to change'):
        prepare_property(server)
    assert server.client.requests[-1] == 'PUT upenn_collection/c/metadata'


@pytest.mark.parametrize('status', [401, 500, None])
def test_other_failures_are_raised(status):
    error = http_error(status)
    with pytest.raises(HttpError) as caught:
        prepare_property(make_server([{'configurationId': 'c'}], error))
    assert caught.value is error


# The examples


def read_values(lab: Lab) -> dict[str, dict[str, Any]]:
    """Return the property values of each annotation."""
    query = {'datasetId': lab.dataset_id, 'limit': 0}
    entries = lab.client.get('annotation_property_values', parameters=query)
    return {one['annotationId']: one['values'] for one in entries}


def test_examples_get_their_scores_once(lab):
    server, property_id = lab.server(), prepare(lab)
    result, first, second = lab.create(*lab.make_triangles(0, 10, 20))
    scores = {'Similarity': 0.9, 'Predicted IoU': 0.8}
    server.save_scores(property_id, {result: scores})  # of an earlier run
    save_example_scores(server, property_id, [first, result], [0.7, 0.75], [0.8, 0.85])
    ids = [second, first, '']
    save_example_scores(server, property_id, ids, [0.5, 0.6, 0.65], [0.7, 0.8, 0.85])
    assert read_values(lab) == {
        result: {property_id: scores},
        first: {property_id: {'Similarity': 0.7, 'Closest Examples': 0.8}},
        second: {property_id: {'Similarity': 0.5, 'Closest Examples': 0.7}},
    }


def test_single_example_has_no_similarity(lab):
    save_example_scores(lab.server(), prepare(lab), lab.create(*lab.make_triangles(0)), [], [])
    assert read_values(lab) == {}


@pytest.mark.parametrize('kind', ['expire', 'unavailable'])
def test_example_scores_that_cannot_be_saved_are_only_logged(start_lab, caplog, kind):
    path = 'annotation_property_values/multiple'
    lab = start_lab({'kind': kind, 'method': 'POST', 'path': path, 'times': None}, levels=({},))
    ids = lab.create(*lab.make_triangles(0, 10))
    save_example_scores(lab.server(), prepare(lab), ids, [0.7, 0.75], [0.8, 0.85])
    assert 'the scores of the examples are not saved' in caplog.messages[-1]
