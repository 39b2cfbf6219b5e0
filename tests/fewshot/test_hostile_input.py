"""Whatever a server or a user sends: a result, or one ValueError that says what is wrong."""
import time
import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_client.tiles import check_metadata, frame_numbers
from fewshot.frames import list_locations
from fewshot.images.metadata import axis_length
from fewshot.matching.duplicates import find_known
from fewshot.parameters import FIELDS, Location, Parameters, parse_batch, read_parameters, show
from fewshot.polygons import read_points
from fewshot.sam.checkpoints import KNOWN
from fewshot.stored import fetch_polygons, list_outlines, page_polygons
from tests.fewshot.anything import GOOD, annotations, json_values
from tests.worker import REPOSITORY, make_params

TILES = {'sizeX': 40, 'sizeY': 30, 'IndexRange': {'IndexXY': 2, 'IndexC': 2}}
ORIGIN = Location(0, 0, 0)


@pytest.fixture(autouse=True)
def small_model_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))


class Pages:
    """A server that gives one page of annotations after the other."""

    def __init__(self, *pages: Any):
        self.pages, self.client = list(pages), self

    def get(self, path: str, parameters: dict) -> Any:
        return self.pages.pop(0)


@given(st.lists(annotations, max_size=4))
def test_outlines_of_any_kind_are_listed_or_passed_over(page):
    found = list_outlines(Pages([*page, GOOD]), 'd', [ORIGIN], ['cell'])
    np.testing.assert_array_equal(found[ORIGIN][-1], [(1, 1), (9, 1), (9, 9), (1, 9)])
    outlines = [outline for outline in found[ORIGIN] if len(outline) >= 3]
    assert find_known([read_points(GOOD)], found[ORIGIN]).tolist() == [True]
    assert all(np.isfinite(outline).all() for outline in outlines)


def test_annotations_without_an_id_are_all_kept():
    assert fetch_polygons(Pages([{}, {'_id': None}, 'odd', GOOD, {}], [GOOD, {}]), 'd', ['a', 'b']) == [
        {}, {'_id': None}, 'odd', GOOD, {}, {}]


@pytest.mark.parametrize('page', [{'message': 'no'}, 'text', 7])
def test_a_page_that_is_no_list_is_refused(page):
    with pytest.raises(ValueError, match='did not come as a list'):
        list(page_polygons(Pages(page), 'd', 'cell'))


@pytest.mark.parametrize('last', [GOOD, {}, 'odd'])
def test_a_server_that_gives_the_same_page_for_ever_is_an_error_and_no_loop(monkeypatch, last):
    monkeypatch.setattr('fewshot.stored.PAGE_SIZE', 2)
    with pytest.raises(ValueError, match='do not come in the order of their ids'):
        list(page_polygons(Pages([{}, last], [{}, last], []), 'd', 'cell'))


# the image's metadata

metadata = json_values | st.fixed_dictionaries({}, optional={
    'sizeX': st.integers(1, 99) | json_values, 'sizeY': st.integers(1, 99) | json_values,
    'dtype': st.just('uint8') | json_values,
    'frames': json_values | st.lists(json_values | st.dictionaries(
        st.sampled_from(['IndexXY', 'IndexC', 'Index']), st.integers(0, 2) | json_values, max_size=2), max_size=3),
    'IndexRange': json_values | st.dictionaries(
        st.sampled_from(['IndexXY', 'IndexC']), st.integers(1, 3) | json_values)})


@given(metadata)
@settings(max_examples=300)
def test_metadata_of_any_kind_describe_an_image_or_are_refused(tiles):
    try:
        check_metadata(tiles)
    except ValueError as error:
        assert any(key in str(error) for key in ('no keys', 'sizeX', 'sizeY', 'dtype', 'frames', 'IndexRange'))
        return
    places = frame_numbers(tiles)
    assert places and tiles['sizeX'] * tiles['sizeY'] > 0
    if 'IndexRange' in tiles:
        assert axis_length(tiles, 'XY') == 1 + max(place[0] for place in places)


@pytest.mark.parametrize(('change', 'seen'), [
    ([], r'no keys, but is \[\]'),
    (None, 'no keys, but is None'),
    ({'sizeX': None}, 'sizeX None'),
    ({'sizeY': 0}, 'sizeY 0, which is no whole number from 1'),
    ({'sizeX': -3}, 'sizeX -3'),
    ({'sizeX': '30'}, "sizeX '30'"),
    ({'sizeX': True}, 'sizeX True'),
    ({'sizeX': 30.0}, r'sizeX 30\.0'),
    ({'sizeX': 10 ** 30}, 'sizeX 1000'),
    ({'dtype': 'object'}, "dtype 'object'"),
    ({'dtype': 8}, 'dtype 8'),
    ({'frames': 'all'}, "frames 'all'"),
    ({'frames': {'0': {}}}, 'frames {'),
    ({'frames': [{}, 1]}, r'frames\[1\] 1'),
    ({'frames': [{'IndexC': '0'}]}, r"frames\[0\].IndexC '0'"),
    ({'frames': [{'IndexC': None}]}, r'frames\[0\].IndexC None'),
    ({'frames': [{'IndexXY': -1}]}, r'frames\[0\].IndexXY -1'),
    ({'frames': [{'IndexT': False}]}, r'frames\[0\].IndexT False'),
    ({'frames': [{'IndexT': 0}, {'IndexT': 1}], 'IndexRange': {'IndexT': 9}}, 'IndexRange.IndexT 9, where .* 2'),
    ({'frames': [{}, {'IndexT': 1}], 'IndexRange': {}}, 'IndexRange.IndexT 1, where .* have 2'),
    ({'IndexRange': {'IndexZ': 4}}, 'IndexRange.IndexZ 4, where .* have 1'),
    ({'IndexRange': {'IndexZ': 'many'}}, "IndexRange.IndexZ 'many'"),
    ({'IndexRange': [1]}, r'IndexRange \[1\]'),
])
def test_metadata_of_no_image_are_refused_with_key_and_value(change, seen):
    plane = {'sizeX': 30, 'sizeY': 20, 'dtype': 'uint8'}
    check_metadata(plane)
    with pytest.raises(ValueError, match=seen):
        check_metadata({**plane, **change} if isinstance(change, dict) else change)


# the job's parameters

texts = st.text(st.characters(exclude_categories=['Cs']) | st.sampled_from('\0٣１²0123456789-,'), max_size=8)
anything = json_values | texts | st.lists(texts, max_size=3)


@given(st.dictionaries(st.sampled_from([*FIELDS]), anything, max_size=4), st.dictionaries(
    st.sampled_from(['channel', 'tags', 'tile', 'connectTo', 'workerInterface']), anything, max_size=2))
@settings(max_examples=200)
def test_a_job_of_any_shape_is_read_or_refused_with_a_note(form, job):
    try:
        parameters = read_parameters({**make_params(**form), **job})
    except (ValueError, FileNotFoundError) as error:
        assert str(error) and all(len(note) < 20_000 for note in error.__notes__)
        return
    assert isinstance(parameters, Parameters) and parameters.checkpoint in KNOWN.values()
    assert all(0 <= first <= last for text in parameters.batches.values() for first, last in parse_batch(text) or [])


@pytest.mark.parametrize('params', [
    None, [], 'text', 7, {'workerInterface': 'x'}, {**make_params(), 'channel': 10 ** 5000},
    {**make_params(), 'tile': {'XY': 10 ** 5000}}, make_params(**{'Batch XY': 10 ** 5000}),
    make_params(**{'Tile Size': 10 ** 5000}), make_params(**{'Training Tag': ['x' * 10 ** 6]}),
    make_params(**{'Batch Z': '1,' * 10 ** 5 + 'x' * 10 ** 6}), make_params(**{'Smoothing': '9' * 10 ** 6}),
    make_params(**{'Batch Z': '١'}), make_params(**{'Batch Z': '1\0'}),
    {**make_params(), 'connectTo': {'tags': ['a'], 'channel': 'red'}},
])
def test_what_is_huge_or_odd_is_refused_in_a_short_note(params):
    with pytest.raises(ValueError) as caught:
        read_parameters(params)
    assert len(str(caught.value)) < 1_000 and 0 < len(caught.value.__notes__[0]) < 2_000


def ask(text: str) -> Any:
    return SimpleNamespace(batches={'Batch XY': text, 'Batch Z': '', 'Batch Time': ''}, channel=0,
                           current=Location(0, 0, 0))


def test_thousands_of_ranges_are_the_positions_of_the_dataset_at_once():
    began = time.process_time()
    found = list_locations(ask('1-50000,' * 20_000 + '7'), {'IndexRange': {'IndexXY': 50_000}})
    assert [place.xy for place in found] == list(range(50_000)) and time.process_time() - began < 5


@pytest.mark.parametrize('text', ['1-999999999999', '999999999999', '1-999999999999,' * 5_000 + '1'])
def test_positions_that_the_dataset_lacks_cost_no_memory(text):
    tracemalloc.start()
    with pytest.raises(ValueError, match='positions outside the dataset') as caught:
        list_locations(ask(text), TILES)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000_000 and len(str(caught.value)) < 500 and len(caught.value.__notes__[0]) < 1_000


@pytest.mark.parametrize('lengths', [{'IndexXY': 10 ** 12}, {'IndexXY': 90_000, 'IndexZ': 90_000}])
def test_a_batch_of_more_positions_than_a_job_can_search_is_refused(lengths):
    everything = SimpleNamespace(batches=dict.fromkeys(['Batch XY', 'Batch Z', 'Batch Time'], 'all'), channel=0,
                                 current=Location(0, 0, 0))
    with pytest.raises(ValueError, match='The batch is too large|positions of XY'):
        list_locations(everything, {'IndexRange': lengths})


@given(json_values)
def test_any_value_is_shown_in_few_words(value):
    assert 0 < len(show(value)) < 5_000 and (not isinstance(value, str) or repr(value) == show(value))
