"""The outlines on the server that are not to be found again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.geometry import Location
from fewshot.matching.duplicates import find_known
from fewshot.polygons import read_points
from fewshot.results.existing import list_existing
from fewshot.results.scores import prepare_property
from tests.fewshot.anything import GOOD, annotations
from tests.fewshot.conftest import HERE, make_server, open_lab

THERE, NOWHERE = Location(2, 0, 0), Location(9, 0, 0)


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
    server.save_scores(property_id, {one: {'Similarity': 0.5} for one in scored})
    return lab


@pytest.mark.parametrize('page_size', [1, 4, 5, 13, 5000])
def test_outlines_are_listed_by_location(shared_lab, page_size):
    server = shared_lab.server(page_size=page_size)
    found = list_existing(server, [HERE, THERE, NOWHERE], ['cell'], [])
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
    found = list_existing(shared_lab.server(), [HERE], output_tags, training_tags)
    assert [points[0, 0] for points in found.get(HERE, [])] == lefts


def test_outlines_without_a_tag_need_a_property(start_lab):
    lab = start_lab(levels=({},))
    lab.create(*lab.make_triangles(90, tags=[]))
    assert list_existing(lab.server(), [HERE], [], []) == {}


@given(st.lists(annotations, max_size=4))
def test_any_annotation_is_listed_or_ignored(page):
    found = list_existing(make_server([*page, GOOD]), [HERE], ['cell'], [])
    np.testing.assert_array_equal(found[HERE][-1], [(1, 1), (9, 1), (9, 9), (1, 9)])
    assert find_known([read_points(GOOD)], found[HERE]).tolist() == [True]
    assert all(np.isfinite(outline).all() for outline in found[HERE])
