"""Whatever a server or a user sends: a result, or one ValueError that says what is wrong."""
import math
import time
import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import draw

from annotation_client.tiles import check_metadata, frame_numbers
from fewshot.duplicates import find_known
from fewshot.examples import Examples
from fewshot.frames import Layer, Piece, axis_length, list_locations, merge_channel, read_layers
from fewshot.geometry import Box
from fewshot.parameters import FIELDS, Location, Parameters, parse_batch, read_parameters, show
from fewshot.polygons import cut_annotation, draw_polygon, fill_polygon, location_of, read_points
from fewshot.sam.checkpoints import KNOWN
from fewshot.stored import fetch_polygons, list_outlines, page_polygons
from tests.worker import REPOSITORY, make_params

SQUARE = [{'x': 1, 'y': 1}, {'x': 9, 'y': 1}, {'x': 9, 'y': 9}, {'x': 1, 'y': 9}]
GOOD = {'_id': 'a', 'coordinates': SQUARE, 'location': {'XY': 0, 'Z': 0, 'Time': 0}}
TILES = {'sizeX': 40, 'sizeY': 30, 'IndexRange': {'IndexXY': 2, 'IndexC': 2}}
PLACE = Piece(Location(0, 0, 0))
numbers = st.integers() | st.floats() | st.sampled_from([1e9, -1e9, 1e12, 1e308, -1e308, 10 ** 400, 0.5, 2 ** 63])
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=4)
points = st.fixed_dictionaries({}, optional={'x': numbers | json_values, 'y': numbers | json_values})
annotations = json_values | st.fixed_dictionaries({}, optional={
    '_id': json_values | st.just('a'),
    'coordinates': json_values | st.lists(points | json_values, max_size=5) | st.just(SQUARE),
    'location': json_values | st.fixed_dictionaries({}, optional={
        axis: json_values | st.integers(-1, 2) for axis in ('XY', 'Z', 'Time')})})


@pytest.fixture(autouse=True)
def small_model_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))


# polygons

@given(st.lists(st.tuples(st.floats(-10, 30), st.floats(-10, 30)), max_size=12))
def test_a_polygon_is_filled_as_by_skimage_but_for_centres_on_its_edge(corners):
    corners = np.array(corners).reshape(-1, 2) + 0.137  # so that hardly a centre lies on an edge
    expected = np.zeros((15, 20), bool)
    if len(corners):
        expected[draw.polygon(corners[:, 1] - 0.5, corners[:, 0] - 0.5, expected.shape)] = True
    differ = np.argwhere(fill_polygon(corners, 15, 20) != expected)
    start, step = corners, np.roll(corners, -1, axis=0) - corners
    for centre in differ[:, ::-1] + 0.5:
        along = ((centre - start) * step).sum(1) / np.maximum((step ** 2).sum(1), 1e-300)
        nearest = start + along.clip(0, 1)[:, None] * step
        assert np.hypot(*(nearest - centre).T).min() < 1e-6


def test_cheap_polygons_are_those_of_skimage_and_costly_ones_those_of_scan_lines(monkeypatch):
    corners = np.array([(4.5, 3.5), (40.5, 3.5), (40.5, 30.5), (12, 12)])  # the centres of some pixels lie on its edges
    expected = np.zeros((37, 41), bool)
    expected[draw.polygon(corners[:, 1] - 0.5, corners[:, 0] - 0.5, expected.shape)] = True
    box = Box(5, 8, 30, 41)
    np.testing.assert_array_equal(draw_polygon(corners, box), expected[box.slices])
    monkeypatch.setattr('fewshot.polygons.CHEAP', 37 * 41 * 4)  # what counts is the polygon's room, not the image's
    np.testing.assert_array_equal(draw_polygon(corners, Box(0, 0, 500, 500))[:37, :41], expected)
    monkeypatch.setattr('fewshot.polygons.CHEAP', 0)
    np.testing.assert_array_equal(draw_polygon(corners, box), fill_polygon(corners, 37, 41)[box.slices])


@pytest.mark.parametrize('slab', [1, 60, 2 ** 20])
def test_a_polygon_is_filled_the_same_in_slabs_as_at_once(monkeypatch, slab):
    corners = np.random.default_rng(0).random((30, 2)) * 50 - 5
    whole = fill_polygon(corners, 37, 41)
    monkeypatch.setattr('fewshot.polygons.SLAB_PIXELS', slab)
    np.testing.assert_array_equal(fill_polygon(corners, 37, 41), whole)
    np.testing.assert_array_equal(fill_polygon(corners[::-1], 37, 41), whole)  # whichever way round


@given(st.sampled_from([1e9, 1e11, 1e12]))
def test_an_outline_far_around_the_image_covers_all_of_it(far):
    corners = np.array([(-far, -far), (far, -far), (far, far), (-far, far)])
    assert fill_polygon(corners, 15, 20).all()


def test_a_hundred_thousand_vertices_cost_no_more_than_their_crossings():
    turn = np.linspace(0, 2 * math.pi, 100_001)[:-1]
    radius = 700 + 100 * np.random.default_rng(0).random(len(turn))
    star = np.stack([1000 + radius * np.cos(turn), 1000 + radius * np.sin(turn)], axis=1)
    began = time.process_time()
    mask = fill_polygon(star, 2000, 2000)
    assert time.process_time() - began < 10  # a test of each pixel with each vertex takes an hour
    assert mask[1000, 400:1600].all() and not mask[1000, :190].any() and not mask[1000, 1810:].any()


def test_an_example_costs_the_memory_of_its_own_box_whatever_the_frame():
    tracemalloc.start()
    box, mask = cut_annotation(GOOD, (20_000, 20_000))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert box == Box(1, 1, 9, 9) and mask.all() and most < 1_000_000


@pytest.mark.parametrize(('change', 'reason'), [
    ({'coordinates': None}, 'without coordinates'),
    ({'coordinates': {'x': 1, 'y': 2}}, 'without coordinates'),
    ({'coordinates': 'abc'}, 'without coordinates'),
    ({'coordinates': [{'x': 1}] * 4}, 'coordinates that are not numbers'),
    ({'coordinates': [{'x': '1', 'y': '2'}] * 4}, 'coordinates that are not numbers'),
    ({'coordinates': [{'x': None, 'y': 2}] * 4}, 'coordinates that are not numbers'),
    ({'coordinates': [{'x': math.nan, 'y': 2}] * 4}, 'coordinates that are not numbers'),
    ({'coordinates': [{'x': math.inf, 'y': 2}] * 4}, 'coordinates that are not numbers'),
    ({'coordinates': [{'x': [1], 'y': [2]}] * 4}, 'coordinates that are not numbers'),
    ({'coordinates': [{'x': True, 'y': False}] * 4}, 'coordinates that are not numbers'),
    ({'coordinates': [[1, 2], [3, 4], [5, 6]]}, 'coordinates that are not numbers'),
    ({'coordinates': [{'x': 1e308, 'y': 2}] * 4}, 'coordinates beyond any image'),
    ({'coordinates': SQUARE[:2]}, 'fewer than 3 points'),
    ({'coordinates': [{'x': 5, 'y': 5}] * 4}, 'too thin to cover a pixel'),
    ({'location': None}, 'without a location'),
    ({'location': {'XY': 0, 'Z': 0}}, 'without a location'),
    ({'location': {'XY': 0.0, 'Z': 0, 'Time': 0}}, 'without a location'),
    ({'location': {'XY': '0', 'Z': 0, 'Time': 0}}, 'without a location'),
    ({'location': {'XY': False, 'Z': 0, 'Time': 0}}, 'without a location'),
    ({'location': {'XY': -1, 'Z': 0, 'Time': 0}}, 'on a frame that the dataset does not have'),
])
def test_a_malformed_annotation_is_left_out_and_counted_and_the_good_one_serves(change, reason):
    examples = Examples([{**GOOD, '_id': 'b', **change}, GOOD], [], TILES, 0)
    (cut, is_counter), = examples.cut(PLACE, (30, 40))
    assert cut.box == Box(1, 1, 9, 9) and not is_counter
    assert examples.reasons == f'1 {reason}'


def test_one_outline_of_a_billion_pixels_does_not_make_the_tiles_too_small_for_the_examples():
    far = [{'x': 1e9, 'y': 1e9}, {'x': 2e9, 'y': 1e9}, {'x': 2e9, 'y': 2e9}]
    examples = Examples([GOOD, {**GOOD, '_id': 'b', 'coordinates': far}], [], {'sizeX': 300, 'sizeY': 300}, 100)
    assert examples.side == 8 and len(examples.tiles) > 1


@given(st.lists(annotations, max_size=4), st.lists(annotations, max_size=2))
def test_annotations_of_any_kind_are_used_or_counted(tagged, counter):
    try:
        examples = Examples([GOOD, *tagged], counter, TILES, 0)
    except ValueError as error:
        assert 'both the Training Tag' in str(error) and error.__notes__
        return
    cut = [one for piece in examples.by_piece for one, _ in examples.cut(piece, (30, 40))]
    assert cut and len(cut) + examples.skipped.total() == examples.count == 1 + len(tagged) + len(counter)
    assert all(one.mask.any() and one.mask.shape[0] <= 30 and one.mask.shape[1] <= 40 for one in cut)


class Pages:
    """A server that gives one page of annotations after the other."""

    def __init__(self, *pages: Any):
        self.pages, self.client = list(pages), self

    def get(self, path: str, parameters: dict) -> Any:
        return self.pages.pop(0)


@given(st.lists(annotations, max_size=4))
def test_outlines_of_any_kind_are_listed_or_passed_over(page):
    found = list_outlines(Pages([*page, GOOD]), 'd', [PLACE.location], ['cell'])
    np.testing.assert_array_equal(found[PLACE.location][-1], [(1, 1), (9, 1), (9, 9), (1, 9)])
    outlines = [outline for outline in found[PLACE.location] if len(outline) >= 3]
    assert find_known([read_points(GOOD)], found[PLACE.location]).tolist() == [True]
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


@pytest.mark.filterwarnings('error')
def test_known_outlines_that_are_no_areas_or_scribbles_take_seconds_and_warn_of_nothing():
    scribble = np.random.default_rng(0).random((20_000, 2)) * 100
    frame = np.array([(0, 0), (100, 0), (100, 100), (0, 100)], float)
    began = time.process_time()
    odd = [np.full((4, 2), 1e308), frame * 1e306, np.full((4, 2), np.inf), frame[:2], np.zeros((4, 2))]
    assert find_known([frame], odd).tolist() == [False]
    assert find_known([frame], [*odd, scribble]).tolist() == [True]
    assert time.process_time() - began < 30  # hours, if every crossing is looked for


# layers and views

views = json_values | st.lists(json_values | st.fixed_dictionaries({}, optional={
    'lastViewed': json_values, 'configurationId': st.just('c') | json_values, 'layerContrasts': json_values}),
    max_size=2)
layers = st.fixed_dictionaries({}, optional={
    'visible': st.booleans() | json_values, 'channel': st.integers(-1, 2) | json_values,
    'color': st.just('#ff0000') | json_values, 'id': json_values, 'name': json_values,
    'contrast': json_values | st.fixed_dictionaries({}, optional={
        'mode': st.sampled_from(['percentile', 'absolute']) | json_values,
        'blackPoint': numbers | json_values, 'whitePoint': numbers | json_values})})
collections = json_values | st.fixed_dictionaries({}, optional={'meta': json_values | st.fixed_dictionaries(
    {}, optional={'layers': json_values | st.lists(layers | json_values, max_size=2)})})


def ask_layers(views: Any, collection: Any) -> tuple[list[Layer], str | None]:
    client = SimpleNamespace(get=lambda path, parameters=None: views if path == 'dataset_view' else collection)
    return read_layers(client, 'd', TILES)


@given(views | st.just([{'configurationId': 'c'}]), collections)
@settings(max_examples=300)
def test_views_and_layers_of_any_kind_make_a_picture_or_are_refused(views, collection):
    try:
        shown, problem = ask_layers(views, collection)
    except ValueError as error:
        assert error.__notes__ and str(error).startswith(('The view', 'The layer', 'The configuration'))
        return
    assert shown and all(layer.channel in (0, 1) for layer in shown)
    assert problem or views
    rgb = np.zeros((2, 3, 3), np.uint8)
    for layer in shown:
        merge_channel(rgb, np.arange(6, dtype=np.uint16).reshape(2, 3), layer)
    assert rgb.shape == (2, 3, 3)


@pytest.mark.parametrize(('change', 'words'), [
    ({'channel': '0'}, "'0' is not a channel"), ({'channel': 0.0}, '0.0 is not a channel'),
    ({'channel': True}, 'True is not a channel'), ({'channel': None}, 'None is not a channel'),
    ({'color': 'red'}, "'red' is not a colour"), ({'color': 7}, '7 is not a colour'),
    ({'contrast': None}, 'None is not a contrast'), ({'contrast': ['mode']}, "'mode'.* is not a contrast"),
    ({'contrast': {'mode': 'dark'}}, "'dark'.* is not a contrast"), ({'contrast': {'mode': 'absolute'}}, 'blackPoint'),
    ({'contrast': {'mode': 'absolute', 'blackPoint': math.nan, 'whitePoint': 1}}, 'black point nan'),
    ({'contrast': {'mode': 'absolute', 'blackPoint': 0, 'whitePoint': 1e308}}, 'white point 1e[+]308'),
    ({'contrast': {'mode': 'absolute', 'blackPoint': 0, 'whitePoint': 10 ** 400}}, 'too large'),
    ({'contrast': {'mode': 'percentile', 'blackPoint': -1, 'whitePoint': 99}}, 'black point -1.0'),
    ({'contrast': {'mode': 'percentile', 'blackPoint': 'low', 'whitePoint': 99}}, "'low'"),
])
def test_a_visible_layer_that_cannot_be_read_is_named_with_what_is_wrong(change, words):
    good = {'name': 'DAPI', 'visible': True, 'channel': 0, 'color': '#ffffff',
            'contrast': {'mode': 'percentile', 'blackPoint': 0, 'whitePoint': 100}}
    assert ask_layers([{'configurationId': 'c'}], {'meta': {'layers': [good]}})[1] is None
    with pytest.raises(ValueError, match=f"The layer 'DAPI' cannot be shown.*{words}"):
        ask_layers([{'configurationId': 'c'}], {'meta': {'layers': [{**good, **change}]}})


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


@given(json_values)
def test_an_axis_has_a_length_or_is_refused(lengths):
    try:
        assert axis_length({'IndexRange': lengths}, 'Z') == 1
        assert lengths is None or isinstance(lengths, dict)
    except ValueError as error:
        assert 'positions of Z' in str(error) and error.__notes__


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


@given(annotations)
def test_a_location_is_three_whole_numbers_or_refused(annotation):
    try:
        place = location_of(annotation)
    except ValueError as error:
        assert str(error) == 'without a location'
    else:
        assert {type(place.xy), type(place.z), type(place.time)} == {int}
