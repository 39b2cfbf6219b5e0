"""The requests of the pipeline, to a real annotation server where it can give the answer."""

from typing import Any

import pytest
from girder_client import HttpError

from fewshot import messages
from fewshot.errors import JobError
from fewshot.server import (
    READ,
    REMOVED_PER_REQUEST,
    RETRY_PAUSES_SECONDS,
    WRITE,
    Server,
    id_of,
)
from tests.fewshot.anything import GOOD
from tests.fewshot.conftest import Answers, http_error, make_server, open_lab, pattern_of
from tests.worker import NOWHERE

CREATE = {'method': 'POST', 'path': 'upenn_annotation/multiple'}
SAVE = {'method': 'POST', 'path': 'annotation_property_values/multiple'}


# Retries


@pytest.mark.parametrize(
    ('answers', 'pauses'),
    [
        (['done'], []),
        ([http_error(None), 'done'], [1]),
        ([http_error(503), http_error(429), http_error(None), 'done'], [1, 2, 4]),
    ],
)
def test_lost_request_is_repeated(answers, pauses):
    waited: list[float] = []
    server = Server(NOWHERE, 'token', 'd', sleep=waited.append)
    client = Answers(*answers)
    assert server.repeat(lambda: client.get('path')) == 'done'
    assert waited == pauses
    assert not client.answers


@pytest.mark.parametrize(
    ('error', 'requests'),
    [
        (http_error(400), 1),
        (http_error(401), 1),
        (http_error(403), 1),
        (http_error(500), 1),
        (http_error(None), 1 + len(RETRY_PAUSES_SECONDS)),
        (http_error(504), 1 + len(RETRY_PAUSES_SECONDS)),
        (ValueError('a defect'), 1),
    ],
)
def test_failure_is_raised(error, requests):
    server = make_server()
    client = Answers(*[error] * 10)
    with pytest.raises(type(error)) as caught:
        server.repeat(lambda: client.get('path'))
    assert caught.value is error
    assert len(client.requests) == requests


# The dataset


@pytest.fixture(scope='module')
def shared_lab(start_module_server, tmp_path_factory):
    """Return a server with polygons of several tags and locations, and one line."""
    folder = tmp_path_factory.mktemp('lab')
    lab = open_lab(start_module_server, folder, levels=({'reader': 0},))
    lab.create(
        *lab.make_triangles(*range(12)),
        *lab.make_triangles(50, tags=['cell', 'example']),
        *lab.make_triangles(60, tags=['example']),
        *lab.make_triangles(70, tags=[]),
        *lab.make_triangles(80, shape='line'),
    )
    return lab


@pytest.mark.parametrize(
    ('user', 'may_write'), [('owner', True), ('writer', True), ('reader', False)]
)
def test_access_level_is_read(shared_lab, user, may_write):
    level = shared_lab.server(user).access_level()
    assert (level >= WRITE) == may_write
    assert (level == READ) != may_write


@pytest.mark.parametrize(
    'folder', [None, [], {}, {'_accessLevel': None}, {'_accessLevel': 'write'}]
)
def test_unknown_access_level_refuses_nobody(folder):
    assert make_server(folder).access_level() == WRITE


def test_image_is_opened(shared_lab):
    image = shared_lab.server().open_image()
    assert (image.tiles['sizeX'], image.tiles['sizeY']) == (8, 8)
    assert image.getRegion(shared_lab.dataset_id).shape == (8, 8, 1)


def test_views_and_configurations_are_read(shared_lab):
    server = shared_lab.server('reader')
    (view,) = server.list_views()
    configuration = server.read_configuration(view['configurationId'])
    assert configuration['meta']['layers'][0]['channel'] == 0


def test_ids_cannot_change_the_path():
    server = make_server({}, {}, dataset_id='../token')
    server.access_level()
    server.read_configuration('a/b?c')
    assert server.client.requests == ['GET folder/..%2Ftoken', 'GET upenn_collection/a%2Fb%3Fc']


# Annotations that are read


def lefts_of(annotations: Any) -> list[float]:
    return [one['coordinates'][0]['x'] for one in annotations]


@pytest.mark.parametrize('page_size', [1, 4, 7, 13, 5000])
@pytest.mark.parametrize(
    ('tags', 'lefts'),
    [
        (['cell'], [*range(12), 50]),
        (['example', 'cell'], [50]),
        ([], [*range(12), 50, 60, 70]),
        (['nothing'], []),
    ],
)
def test_polygons_are_listed_in_pages(shared_lab, page_size, tags, lefts):
    server = shared_lab.server(page_size=page_size)
    assert lefts_of(server.list_polygons(tags)) == lefts


def test_polygons_are_listed_after_an_id(shared_lab):
    server = shared_lab.server(page_size=4)
    sixth = list(server.list_polygons(['cell']))[5]
    assert lefts_of(server.list_polygons(['cell'], sixth['_id'])) == [*range(6, 12), 50]


def test_one_page_is_read_at_a_time():
    server = make_server([GOOD, {'_id': 'b'}], page_size=2)
    annotations = server.list_polygons(['cell'])
    assert [next(annotations), next(annotations)] == [GOOD, {'_id': 'b'}]
    assert len(server.client.requests) == 1


def test_polygons_with_any_tag_come_once(shared_lab):
    server = shared_lab.server()
    found = server.list_polygons_with_any(['example', 'cell'])
    assert sorted(lefts_of(found)) == [*range(12), 50, 60]
    assert server.list_polygons_with_any([]) == []


def test_annotations_without_id_are_kept():
    server = make_server([{}, {'_id': None}, 'odd', GOOD, {}], [GOOD, {}])
    assert server.list_polygons_with_any(['a', 'b']) == [{}, {'_id': None}, 'odd', GOOD, {}, {}]


@pytest.mark.parametrize('page', [{'message': 'no'}, 'text', 7, None])
def test_page_that_is_not_a_list_is_refused(page):
    with pytest.raises(JobError, match=pattern_of(messages.ANNOTATIONS_UNREADABLE)):
        list(make_server(page).list_polygons(['cell']))


@pytest.mark.parametrize('last', [GOOD, {}, 'odd', {'_id': 7}])
def test_repeated_page_is_refused(last):
    server = make_server([{}, last], [{}, last], [], page_size=2)
    with pytest.raises(JobError, match=pattern_of(messages.ANNOTATIONS_UNSORTED)):
        list(server.list_polygons(['cell']))


@pytest.mark.parametrize(
    ('annotation', 'found'),
    [({'_id': 'a'}, 'a'), ({'_id': 7}, ''), ({}, ''), ([], ''), ('odd', ''), (None, '')],
)
def test_id_is_read(annotation, found):
    assert id_of(annotation) == found


# Annotations that are written


def test_newest_annotation_is_found(lab):
    server = lab.server()
    assert server.newest_annotation_id() == ''
    ids = server.create_annotations(lab.make_triangles(*range(7)))
    assert server.newest_annotation_id() == ids[-1]
    assert [one['_id'] for one in lab.list_annotations()] == ids


@pytest.mark.parametrize('kind', ['lose', 'unavailable'])
def test_lost_creation_is_not_repeated(start_lab, kind):
    lab = start_lab({'kind': kind, **CREATE})
    with pytest.raises(HttpError):
        lab.server().create_annotations(lab.make_triangles(1))
    assert lab.pauses == []
    assert len(lab.list_annotations()) == (kind == 'lose')


@pytest.mark.parametrize(('page_size', 'requests'), [(5000, 3), (2, 4), (1, 5)])
def test_polygons_are_found_by_id(start_lab, page_size, requests):
    lab = start_lab()
    ids = lab.create(*lab.make_triangles(*range(20)))
    wanted = {*ids[3:6], ids[15], ids[19]}
    server = lab.server(page_size=page_size)
    asked = []
    read_page = server.read_page
    server.read_page = lambda *values: asked.append(values) or read_page(*values)  # type: ignore
    assert lefts_of(server.find_polygons(wanted, ['cell'])) == [3, 4, 5, 15, 19]
    assert len(asked) == requests


def test_polygons_that_are_gone_are_not_found(lab):
    ids = lab.create(*lab.make_triangles(1, 2, 3), *lab.make_triangles(4, tags=['other']))
    server = lab.server()
    server.remove_polygons(ids[:1], ['cell'])
    assert lefts_of(server.find_polygons(set(ids), ['cell'])) == [2, 3]
    assert lefts_of(server.find_polygons(set(ids[:1]), ['cell'])) == []
    assert lefts_of(server.find_polygons(set(), ['cell'])) == []


@pytest.mark.parametrize(
    ('tags', 'removed', 'left'),
    [(['cell'], 2, [3, 4, 5]), (['cell', 'good'], 1, [1, 2, 4, 5]), ([], 1, [1, 2, 3, 5])],
)
def test_polygons_with_exactly_the_tags_are_removed(lab, tags, removed, left):
    ids = lab.create(
        *lab.make_triangles(1, 2),
        *lab.make_triangles(3, tags=['good', 'cell']),
        *lab.make_triangles(4, tags=[]),
    )
    lab.create(*lab.make_triangles(5, tags=tags))  # not among the ids
    assert lab.server().remove_polygons(set(ids), tags) == removed
    assert lab.list_lefts() == left


@pytest.mark.parametrize('kind', ['lose', 'cut', 'unavailable', 'refuse', 'late'])
def test_lost_removal_is_repeated(start_lab, kind):
    lab = start_lab({'kind': kind, 'method': 'DELETE', 'path': 'upenn_annotation/multiple'})
    ids = lab.create(*lab.make_triangles(1, 2, 3))
    assert lab.server().remove_polygons(set(ids[:2]), ['cell']) == 2
    assert lab.list_lefts() == [3]
    assert lab.pauses == [1]


def test_many_polygons_are_removed_in_parts(lab):
    ids = lab.create(*lab.make_triangles(*range(REMOVED_PER_REQUEST + 2)))
    assert lab.server().remove_polygons(set(ids[:-1]), ['cell']) == REMOVED_PER_REQUEST + 1
    assert lab.list_lefts() == [REMOVED_PER_REQUEST + 1]


def test_annotations_are_connected(lab):
    server = lab.server()
    parents = lab.create(*lab.make_triangles(1, 40, tags=['nucleus']))
    children = lab.create(*lab.make_triangles(3, 38))
    server.connect({'tags': ['nucleus'], 'channel': None}, children)
    query = {'datasetId': lab.dataset_id}
    found = lab.client.get('annotation_connection', parameters=query)
    assert [(one['parentId'], one['childId']) for one in found] == [
        *zip(parents, children, strict=True)
    ]


def test_lost_connection_is_not_repeated(start_lab):
    lab = start_lab({'kind': 'lose', 'path': 'annotation_connection'})
    ids = lab.create(*lab.make_triangles(1, 2))
    with pytest.raises(HttpError):
        lab.server().connect({'tags': ['cell'], 'channel': None}, ids)
    assert lab.pauses == []
    found = lab.client.get('annotation_connection', parameters={'datasetId': lab.dataset_id})
    assert len(found) == 2


# Scores


def test_property_is_created_and_named(start_lab):
    lost = [
        {'kind': 'lose', 'method': 'POST', 'path': 'annotation_property'},
        {'kind': 'lose', 'method': 'PUT', 'path': 'upenn_collection'},
    ]
    lab = start_lab(*lost, levels=({},))
    server = lab.server()
    (view,) = server.list_views()
    property_id = server.create_property('Scores', 'properties/none:latest')
    server.name_properties(view['configurationId'], [property_id])
    assert lab.pauses == [1, 1]
    (found,) = server.list_properties()
    assert (found['_id'], found['name'], found['shape']) == (property_id, 'Scores', 'polygon')
    assert server.read_configuration(view['configurationId'])['meta']['propertyIds'] == [
        property_id
    ]


def test_scores_are_saved_and_listed(start_lab):
    lab = start_lab({'kind': 'lose', **SAVE}, levels=({},))
    server = lab.server()
    property_id = server.create_property('Scores', 'properties/none:latest')
    first, second, _ = lab.create(*lab.make_triangles(1, 2, 3))
    server.save_scores(property_id, {first: {'Similarity': 0.5}, second: {'Similarity': 0.75}})
    assert lab.pauses == [1]
    assert server.list_scored(property_id, 'Similarity') == {first, second}
    assert server.list_scored(property_id, 'Predicted IoU') == set()
    assert server.list_scored('0' * 24, 'Similarity') == set()
    query = {'datasetId': lab.dataset_id, 'limit': 0}
    values = lab.client.get('annotation_property_values', parameters=query)
    assert {one['annotationId']: one['values'][property_id] for one in values} == {
        first: {'Similarity': 0.5},
        second: {'Similarity': 0.75},
    }
