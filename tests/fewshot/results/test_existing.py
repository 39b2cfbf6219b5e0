"""The annotations on the server that are not added again, and those that are replaced."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.geometry import Location
from fewshot.matching.duplicates import find_known
from fewshot.polygons import read_points
from fewshot.results.existing import list_existing
from fewshot.results.scores import list_made, prepare_property
from tests.fewshot.anything import GOOD, annotations
from tests.fewshot.conftest import HERE, make_server, open_lab

THERE, NOWHERE = Location(2, 0, 0), Location(9, 0, 0)
SCORES = {'Similarity': 0.5, 'Predicted IoU': 0.9}


def at(xy: int) -> dict:
    return {'location': {'XY': xy, 'Z': 0, 'Time': 0}}


@pytest.fixture(scope='module')
def shared_lab(start_module_server, tmp_path_factory):
    """Return a server with triangles of several tags and locations, some of them with scores."""
    lab = open_lab(start_module_server, tmp_path_factory.mktemp('lab'), levels=({},))
    for number in range(12):
        lab.create(*lab.make_triangles(number, **at(number % 3)))
    lab.create(
        *lab.make_triangles(50, tags=['cell', 'example']),
        *lab.make_triangles(60, tags=['example']),
        *lab.make_triangles(70, tags=['other']),
        *lab.make_triangles(80, shape='line'),
        *lab.make_triangles(90, tags=[]),
    )
    server = lab.server()
    scored = lab.create(
        *lab.make_triangles(100, tags=[]),
        *lab.make_triangles(110, tags=['other']),
        *lab.make_triangles(120, tags=[], **at(2)),
    )
    property_id = prepare_property(server)
    server.save_scores(property_id, dict.fromkeys(scored, SCORES))
    return lab


@pytest.mark.parametrize('page_size', [1, 4, 5, 13, 5000])
def test_outlines_are_listed_by_location(shared_lab, page_size):
    server = shared_lab.server(page_size=page_size)
    found = list_existing(server, [HERE, THERE, NOWHERE], ['cell'], []).known
    lefts = {place: [points[0, 0] for points in outlines] for place, outlines in found.items()}
    assert lefts == {HERE: [0, 3, 6, 9, 50], THERE: [2, 5, 8, 11]}
    np.testing.assert_array_equal(found[THERE][0], [(2, 1.5), (7, 1), (2, 9)])


@pytest.mark.parametrize(
    ('output_tags', 'training_tags', 'lefts'),
    [
        (['cell'], ['other'], [0, 3, 6, 9, 50, 70, 110]),
        (['other'], ['other'], [70, 110]),
        (['nothing'], [], []),
        (
            [],
            ['other'],
            [70, 110, 100],
        ),  # without output tags, untagged outlines with a score count
        ([], [], [100]),
    ],
)
def test_outlines_with_a_tag_or_a_score_are_listed(shared_lab, output_tags, training_tags, lefts):
    server = shared_lab.server()
    found = list_existing(server, [HERE], output_tags, training_tags, made_ids=list_made(server))
    assert [points[0, 0] for points in found.known.get(HERE, [])] == lefts
    assert found.earlier == {}


def test_outlines_without_a_tag_need_a_property(start_lab):
    lab = start_lab(levels=({},))
    lab.create(*lab.make_triangles(90, tags=[]))
    server = lab.server()
    assert list_existing(server, [HERE], [], [], made_ids=list_made(server)).known == {}


@given(st.lists(annotations, max_size=4))
def test_any_annotation_is_listed_or_ignored(page):
    server = make_server([*page, GOOD])
    found = list_existing(server, [HERE], ['cell'], [], made_ids={'b'}, replace=True).known
    np.testing.assert_array_equal(found[HERE][-1], [(1, 1), (9, 1), (9, 9), (1, 9)])
    assert find_known([read_points(GOOD)], found[HERE]).tolist() == [True]
    assert all(np.isfinite(outline).all() for outline in found[HERE])


# The results of earlier runs


@pytest.fixture(scope='module')
def results_lab(start_module_server, tmp_path_factory):
    """Return a server with triangles that this worker made, by hand, and as examples."""
    lab = open_lab(start_module_server, tmp_path_factory.mktemp('results'), levels=({},))
    server = lab.server()
    property_id = prepare_property(server)
    made = lab.create(
        *lab.make_triangles(1, 2),
        *lab.make_triangles(3, tags=['cell', 'good']),
        *lab.make_triangles(4, tags=['good']),
        *lab.make_triangles(5, tags=['good', 'cell', 'good']),
        *lab.make_triangles(6, tags=[]),
        *lab.make_triangles(7, **at(2)),
        *lab.make_triangles(8, **at(9)),
    )
    server.save_scores(property_id, dict.fromkeys(made, SCORES))
    by_hand = lab.create(
        *lab.make_triangles(11),
        *lab.make_triangles(12, tags=['cell', 'good']),
        *lab.make_triangles(13, tags=[]),
    )
    server.save_scores(property_id, {by_hand[0]: {'Similarity': 0.9}})  # an example of a job
    return lab


@pytest.mark.parametrize(
    ('output_tags', 'training_tags', 'earlier', 'known'),
    [
        (['cell'], [], [1, 2], [3, 5, 11, 12]),
        (['good', 'cell'], [], [3, 5], [1, 2, 4, 11, 12]),
        (['cell', 'other'], [], [], [1, 2, 3, 5, 11, 12]),
        (['other'], ['cell'], [], [1, 2, 3, 5, 11, 12]),
        (['cell'], ['cell'], [1, 2], [3, 5, 11, 12]),
        (['cell'], ['good'], [1, 2], [3, 4, 5, 11, 12]),
        ([], [], [6], []),
        ([], ['good'], [6], [3, 4, 5, 12]),
    ],
)
def test_results_are_replaced_and_no_others(
    results_lab, output_tags, training_tags, earlier, known
):
    server = results_lab.server()
    lefts = {one['_id']: one['coordinates'][0]['x'] for one in results_lab.list_annotations()}
    found = list_existing(
        server, [HERE], output_tags, training_tags, made_ids=list_made(server), replace=True
    )
    assert {lefts[id] for id in found.earlier.get(HERE, ())} == set(earlier)
    assert {points[0, 0] for points in found.known.get(HERE, [])} == set(known)


def test_results_are_replaced_in_the_frames_that_are_searched(results_lab):
    server = results_lab.server()
    made_ids = list_made(server)
    found = list_existing(server, [HERE, THERE], ['cell'], [], made_ids=made_ids, replace=True)
    assert {place: len(ids) for place, ids in found.earlier.items()} == {HERE: 2, THERE: 1}


def test_examples_are_never_replaced(results_lab):
    server = results_lab.server()
    made_ids = list_made(server)
    first = results_lab.list_annotations()[0]['_id']
    found = list_existing(
        server, [HERE], ['cell'], ['a'], example_ids={first}, made_ids=made_ids, replace=True
    )
    assert len(found.earlier[HERE]) == 1
    assert first not in found.earlier[HERE]
    assert 1 in [points[0, 0] for points in found.known[HERE]]


@pytest.mark.parametrize(('examples', 'has_others'), [([0], False), ([], True)])
def test_examples_are_told_from_other_known_outlines(examples, has_others):
    server = make_server([{**GOOD, '_id': '0'}])
    found = list_existing(server, [HERE], ['cell'], [], example_ids={str(one) for one in examples})
    assert len(found.known[HERE]) == 1
    assert found.has_others == has_others
