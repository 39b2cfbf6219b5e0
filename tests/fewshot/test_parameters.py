import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.models import KNOWN, MODELS, VIT_MINI
from fewshot.parameters import (
    FIELDS,
    LARGEST_INDEX,
    LONGEST_TAG,
    SIGNED_EXAMPLES,
    Location,
    build_interface,
    parse_batch,
    read_parameters,
)
from tests.worker import REPOSITORY, make_params

SPECIFIED = [  # name, type, default, (min, max, step)
    ('Training Tag', 'tags', None, None),
    ('Batch XY', 'text', None, None),
    ('Batch Z', 'text', None, None),
    ('Batch Time', 'text', None, None),
    ('Model', 'select', 'sam_vit_h_4b8939', None),
    ('Similarity Threshold', 'number', 0.5, (0, 1, 0.01)),
    ('Target Occupancy', 'number', 0.20, (0.05, 0.80, 0.01)),
    ('Points per side', 'number', 128, (16, 128, 1)),
    ('Min Mask Area', 'number', 30, (0, 100_000, 1)),
    ('Max Mask Area', 'number', 0, (0, 100_000, 1)),
    ('Smoothing', 'number', 0.3, (0, 3, 0.1)),
    ('Negative Tag', 'tags', None, None),
    ('Duplicates', 'select', 'skip', None),
    ('Advanced', 'notes', None, None),
    ('Save Scores', 'checkbox', True, None),
    ('Tile Size', 'number', 0, (0, 4096, 1)),
    ('Jobs', 'number', 1, (1, 64, 1)),
    ('Encoder Precision', 'select', 'float32', None),
    ('Feature Source', 'select', 'object crops', None),
]


@pytest.fixture(autouse=True)
def small_model_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))


@pytest.mark.parametrize(('order', 'name', 'kind', 'default', 'limits'),
                         [(order, *row) for order, row in enumerate(SPECIFIED)])
def test_the_form_has_the_specified_field(order, name, kind, default, limits):
    field = build_interface()[name]
    assert (field['displayOrder'], field['type'], field.get('default')) == (order, kind, default)
    assert len(field['value' if kind == 'notes' else 'tooltip']) > 30
    if limits:
        assert (field['min'], field['max'], field['step']) == limits


def test_the_form_has_these_fields_and_no_other():
    assert list(build_interface()) == [name for name, *_ in SPECIFIED]


def test_only_the_training_tag_is_marked_as_required():
    assert [name for name, field in build_interface().items() if field.get('required')] == ['Training Tag']


def test_areas_are_given_in_pixels():
    assert {FIELDS[name]['unit'] for name in ('Min Mask Area', 'Max Mask Area')} == {'pixels'}


@pytest.mark.parametrize('name', ['Batch XY', 'Batch Z', 'Batch Time'])
def test_a_batch_field_says_what_blank_and_all_mean(name):
    field = build_interface()[name]
    assert field['vueAttrs']['placeholder']
    assert 'blank' in field['tooltip'] and 'current position' in field['tooltip'] and 'all' in field['tooltip']


def test_other_models_are_offered_only_where_their_file_lies_in_the_checkpoint_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(tmp_path))
    assert build_interface()['Model']['items'] == MODELS == ['sam_vit_h_4b8939']
    (tmp_path / VIT_MINI.file).touch()
    (tmp_path / 'sam_vit_other.pth').touch()
    assert build_interface()['Model']['items'] == ['sam_vit_h_4b8939', 'sam_vit_mini']


def test_building_the_form_leaves_the_table_of_fields_as_it_was():
    build_interface()['Model']['items'].append('changed')
    assert 'items' not in FIELDS['Model'] and len(MODELS) == 1


def test_a_full_job_is_read_as_the_user_meant_it():
    params = {**make_params(**{'Similarity Threshold': '0.75', 'Points per side': ' 64 ', 'Max Mask Area': 900.0}),
              'channel': 1, 'tags': ['cell', 'found'], 'tile': {'XY': 3, 'Z': 2, 'Time': 1},
              'connectTo': {'tags': ['nucleus'], 'channel': 2}}
    parameters = read_parameters(params)
    assert parameters.training_tags == ('example',)
    assert parameters.checkpoint is VIT_MINI
    assert (parameters.threshold, parameters.points_per_side, parameters.max_area) == (0.75, 64, 900)
    assert (parameters.occupancy, parameters.min_area, parameters.smoothing) == (0.2, 30, 0.3)
    assert (parameters.channel, parameters.tags) == (1, ('cell', 'found'))
    assert parameters.current == Location(xy=3, z=2, time=1)
    assert parameters.connect_to == {'tags': ['nucleus'], 'channel': 2}


def test_a_tool_saved_before_a_field_existed_gets_its_default():
    parameters = read_parameters({'workerInterface': {'Training Tag': ['a'], 'Model': 'sam_vit_mini'}})
    assert parameters.batches == {'Batch XY': '', 'Batch Z': '', 'Batch Time': ''}
    assert (parameters.threshold, parameters.occupancy, parameters.points_per_side) == (0.5, 0.2, 128)
    assert (parameters.min_area, parameters.max_area, parameters.smoothing) == (30, 0, 0.3)
    assert (parameters.precision, parameters.whole_frame) == ('float32', False)
    assert (parameters.channel, parameters.tags, parameters.connect_to) == (0, (), None)
    assert parameters.current == Location(0, 0, 0)


def test_what_a_tool_of_an_older_form_lacks_is_as_the_defaults_say():
    parameters = read_parameters(make_params())
    assert parameters.negative_tags == () and parameters.skip_duplicates and parameters.save_scores
    assert parameters.tile_size == 0


def test_counter_examples_duplicates_scores_and_tiles_are_the_users_choice():
    parameters = read_parameters(make_params(**{
        'Negative Tag': ['bad'], 'Duplicates': 'keep', 'Save Scores': False, 'Tile Size': '512'}))
    assert parameters.negative_tags == ('bad',) and not parameters.skip_duplicates and not parameters.save_scores
    assert parameters.tile_size == 512


def test_a_tag_of_examples_and_counter_examples_alike_is_refused():
    with pytest.raises(ValueError, match='the same tag') as caught:
        read_parameters(make_params(**{'Training Tag': ['a', 'b', 'c'],
                                       'Negative Tag': ['c', 'b']}))
    note, = caught.value.__notes__
    assert "'b, c'" in note and 'None' not in note


@pytest.mark.parametrize(('length', 'accepted'), [(LONGEST_TAG, True), (LONGEST_TAG + 1, False)])
def test_tag_fits_an_address(length, accepted):
    params = make_params(**{'Training Tag': ['x' * length]})
    if accepted:
        assert len(read_parameters(params).training_tags[0]) == length
    else:
        with pytest.raises(ValueError, match='Training Tag'):
            read_parameters(params)


def test_area_limits_may_be_equal():
    parameters = read_parameters(make_params(**{'Min Mask Area': 50, 'Max Mask Area': 50}))
    assert (parameters.min_area, parameters.max_area) == (50, 50)


def test_batch_may_be_a_number():
    assert read_parameters(make_params(**{'Batch XY': 3})).batches['Batch XY'] == '3'


@pytest.mark.parametrize('signed', [None, {}, {'5f0e': '0123456789abcdef'}])
def test_examples_of_a_share_are_read(signed):
    assert read_parameters({**make_params(), SIGNED_EXAMPLES: signed}).signed == signed


def test_location_is_shown_counted_from_one():
    assert str(Location(xy=3, z=5, time=7)) == 'XY 4, Z 6, Time 8'


def test_the_faster_ways_are_the_users_choice():
    parameters = read_parameters(make_params(**{'Encoder Precision': 'bfloat16', 'Feature Source': 'whole frame'}))
    assert (parameters.precision, parameters.whole_frame) == ('bfloat16', True)


@pytest.mark.parametrize('connection', [{'tags': []}, {'tags': [], 'channel': 1}, {}, None])
def test_a_connection_without_tags_is_none(connection):
    assert read_parameters({**make_params(), 'connectTo': connection}).connect_to is None


def test_a_connection_without_channel_means_any_channel():
    parameters = read_parameters({**make_params(), 'connectTo': {'tags': ['a']}})
    assert parameters.connect_to == {'tags': ['a'], 'channel': None}


def without(name: str) -> dict[str, Any]:
    params = make_params()
    del params['workerInterface'][name]
    return params


BAD_VALUES: dict[str, list[Any]] = {
    'Similarity Threshold': [None, '', ' ', 'high', True, [], {}, float('nan'), float('inf'), -0.01, 1.01, '2'],
    'Target Occupancy': [None, 0.04, 0.81, 'nan'],
    'Points per side': [None, 15, 129, 64.5, '64.5', 10 ** 400],
    'Min Mask Area': [None, -1, 100_001, 30.5],
    'Max Mask Area': [None, '-inf', 100_001],
    'Smoothing': [None, -0.1, 3.1],
    'Batch XY': [None, '1-', '-1', '1.5', 'one', '1,,2', '1,', '3-1', 'all, 1', [1], True],
    'Batch Z': [None, '1;2'],
    'Batch Time': [None, 'now'],
    'Encoder Precision': [None, 'float16', ['float32']],
    'Negative Tag': ['bad', [''], [3], {}],
    'Duplicates': [None, 'drop', True],
    'Save Scores': [None, 'yes', 1],
    'Tile Size': [None, -1, 4097, 100.5],
    'Jobs': [None, 0, 65, 1.5, 'many'],
    'Feature Source': [None, '', 'crops', {}],
}
# what is wrong, the job's parameters, words of the message, what the note shows
REFUSED: list[tuple[str, Any, str, str]] = [
    ('no form', {'workerInterface': None}, 'no settings', 'None'),
    ('form text', {'workerInterface': 'x'}, 'no settings', "'x'"),
    ('no parameters', None, 'no parameters', 'None'),
    ('parameters text', 'x', 'no parameters', "'x'"),
    ('tag absent', without('Training Tag'), 'Training Tag is missing', 'None'),
    ('tag null', make_params(**{'Training Tag': None}), 'Training Tag', 'None'),
    ('tag empty', make_params(**{'Training Tag': []}), 'Training Tag is missing', '[]'),
    ('tag blank', make_params(**{'Training Tag': [' ']}), 'Training Tag', ' '),
    ('tag not a list', make_params(**{'Training Tag': 'cell'}), 'Training Tag', 'cell'),
    ('model absent', without('Model'), 'Model', 'None'),
    ('model null', make_params(Model=None), 'Model', 'sam_vit_h_4b8939'),
    ('model unknown', make_params(Model='sam2_hiera'), 'Model', 'sam2_hiera'),
    ('model a list', make_params(Model=['sam_vit_mini']), 'Model', 'sam_vit_mini'),
    ('Min above Max', make_params(**{'Min Mask Area': 50, 'Max Mask Area': 49}), 'Min Mask Area is above', '50 and 49'),
    ('tags null', {**make_params(), 'tags': None}, 'tags', 'None'),
    ('channel text', {**make_params(), 'channel': '0'}, 'channel', "'0'"),
    ('channel negative', {**make_params(), 'channel': -1}, 'channel', '-1'),
    ('channel beyond any', {**make_params(), 'channel': LARGEST_INDEX}, 'channel',
     f'{LARGEST_INDEX}'),
    ('channel true', {**make_params(), 'channel': True}, 'channel', 'True'),
    ('tile of floats', {**make_params(), 'tile': {'XY': 0.5, 'Z': 0, 'Time': 0}}, 'current position in XY', '0.5'),
    ('tile text', {**make_params(), 'tile': 'x'}, 'current position', "'x'"),
    ('tile null', {**make_params(), 'tile': None}, 'current position', 'None'),
    ('connectTo text', {**make_params(), 'connectTo': 'a'}, 'connection', "'a'"),
    ('connectTo channel', {**make_params(), 'connectTo': {'tags': ['a'], 'channel': 'red'}},
     'connection', "'red'"),
    ('examples text', {**make_params(), SIGNED_EXAMPLES: 'a'}, 'examples', "'a'"),
    ('examples of numbers', {**make_params(), SIGNED_EXAMPLES: {'a': 7}}, 'examples', "{'a': 7}"),
    *[(f'{name} {value!r}', make_params(**{name: value}), name, repr(value))
      for name, values in BAD_VALUES.items() for value in values],
]


@pytest.mark.parametrize(('params', 'words', 'seen'), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_bad_setting_is_refused_with_the_value_seen(params, words, seen):
    with pytest.raises(ValueError) as caught:
        read_parameters(params)
    note = ' '.join(caught.value.__notes__)
    assert words in str(caught.value)
    rest = note.partition(seen)[2]  # what to do
    assert seen in note and len(rest) > 10 and 'None' not in rest


def test_a_missing_checkpoint_file_is_refused_with_its_path(tmp_path, monkeypatch):
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        read_parameters(make_params())
    assert 'sam_vit_mini' in str(caught.value)
    assert str(tmp_path / 'sam_vit_mini.pth') in caught.value.__notes__[0]


def test_the_checkpoint_folder_of_the_image_is_the_root(monkeypatch):
    monkeypatch.delenv('SAM_CHECKPOINT_DIR')
    asked = []
    monkeypatch.setattr(os.path, 'exists', lambda path: bool(asked.append(path)))
    with pytest.raises(FileNotFoundError):
        read_parameters(make_params(Model='sam_vit_h_4b8939'))
    assert asked == ['/sam_vit_h_4b8939.pth']


@pytest.mark.parametrize(('text', 'ranges'), [
    ('1-3, 5-8', [(1, 3), (5, 8)]),
    ('4', [(4, 4)]),
    (' 1 - 3 ,5', [(1, 3), (5, 5)]),
    ('007', [(7, 7)]),
    ('2-2', [(2, 2)]),
    ('ALL', None),
    (' All ', None),
    ('', []),
    ('   ', []),
])
def test_a_batch_text_is_read(text, ranges):
    assert parse_batch(text) == ranges


@pytest.mark.parametrize(
    ('text', 'part'), [('1, one, 2', "'one'"), ('1, 3-2', "'3-2'"), ('1,', "''")])
def test_part_of_a_batch_that_cannot_be_read_is_named(text, part):
    with pytest.raises(ValueError, match=part):
        parse_batch(text)


@given(st.lists(st.tuples(st.integers(0, 10 ** 9), st.integers(0, 100)), min_size=1), st.text(' \t', max_size=2))
def test_any_list_of_ranges_is_read_whatever_the_spaces(pairs, space):
    ranges = [(first, first + length) for first, length in pairs]
    text = f'{space},{space}'.join(
        f'{first}{space}-{space}{last}' if last > first else str(first) for first, last in ranges)
    assert parse_batch(text) == ranges


@given(st.text('0123456789-, alL.x', max_size=12))
def test_any_text_is_a_batch_or_refused(text):
    try:
        ranges = parse_batch(text)
    except ValueError:
        return
    assert ranges is None or all(0 <= first <= last for first, last in ranges)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=4)


@given(st.dictionaries(st.sampled_from([*FIELDS]), json_values, max_size=4),
       st.dictionaries(st.sampled_from(['channel', 'tags', 'tile', 'connectTo', 'workerInterface']), json_values,
                       max_size=2))
def test_settings_of_any_kind_are_read_or_refused_with_a_note(form, job):
    try:
        parameters = read_parameters({**make_params(**form), **job})
    except (ValueError, FileNotFoundError) as error:
        assert error.__notes__
    else:
        assert parameters.checkpoint in KNOWN.values() and 0 <= parameters.threshold <= 1
