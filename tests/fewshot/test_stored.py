import numpy as np
import pytest

from annotation_client.annotations import UPennContrastAnnotationClient
from fewshot import stored
from fewshot.parameters import Location
from fewshot.stored import fetch_polygons, list_outlines
from tests.datasets import write_dataset


def triangle(datasetId: str, xy: int, left: int, *tags: str, shape: str = 'polygon') -> dict:
    return {'coordinates': [{'x': left, 'y': 1}, {'x': left + 5, 'y': 1}, {'x': left, 'y': 9}], 'tags': list(tags),
            'channel': 0, 'location': {'XY': xy, 'Z': 0, 'Time': 0}, 'shape': shape, 'datasetId': datasetId}


@pytest.fixture(scope='module')
def store(start_module_server, tmp_path_factory):
    """A client, and the id of a dataset with polygons of several tags and places."""
    folder = tmp_path_factory.mktemp('stored')
    write_dataset(folder, 'cells', np.zeros((8, 8), np.uint8))
    server = start_module_server(folder)
    store, datasetId = UPennContrastAnnotationClient(server.apiUrl, server.token), server.datasets['cells']
    store.createMultipleAnnotations([
        *(triangle(datasetId, number % 3, number, 'cell') for number in range(12)),
        triangle(datasetId, 0, 50, 'cell', 'example'), triangle(datasetId, 0, 60, 'example'),
        triangle(datasetId, 0, 70, 'other'), triangle(datasetId, 0, 80, 'cell', shape='line')])
    return store, datasetId


def test_polygons_with_any_of_the_tags_come_once_each(store):
    found = fetch_polygons(*store, ['cell', 'example'])
    assert len(found) == len({one['_id'] for one in found}) == 14
    assert all(one['shape'] == 'polygon' for one in found)
    assert fetch_polygons(*store, []) == [] == fetch_polygons(*store, ['nothing'])


@pytest.mark.parametrize('page', [1, 4, 5, 13, 5000])
def test_outlines_are_listed_by_place_whatever_the_pages(store, monkeypatch, page):
    monkeypatch.setattr(stored, 'PAGE_SIZE', page)
    here, there = Location(0, 0, 0), Location(2, 0, 0)
    known = list_outlines(*store, [here, there, Location(9, 0, 0)], {'cell'})
    assert {place: [int(points[0, 0]) for points in outlines] for place, outlines in known.items()} == {
        here: [0, 3, 6, 9, 50], there: [2, 5, 8, 11]}
    np.testing.assert_array_equal(known[there][0], [(2, 1), (7, 1), (2, 9)])
    assert [points[0, 0] for points in list_outlines(*store, [here], {'example', 'other'})[here]] == [50, 60, 70]
