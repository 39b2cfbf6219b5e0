"""The form, and settings that are read or refused."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot import messages
from fewshot.errors import JobError
from fewshot.geometry import Location
from fewshot.messages import Message
from fewshot.sam.checkpoints import KNOWN, MODELS, VIT_MINI
from fewshot.settings import (
    FIELDS,
    KEEP,
    MAX_SHOWN_CHARACTERS,
    REPLACE,
    SKIP,
    Settings,
    build_interface,
    parse_ranges,
    read_settings,
    show,
)
from tests.fewshot.anything import json_values
from tests.fewshot.conftest import pattern_of
from tests.worker import make_params

pytestmark = pytest.mark.usefixtures('small_model_folder')

# The eleven fields of the specification, and five others.
FORM = [  # name, type, default, (min, max, step)
    ('Training Tag', 'tags', None, None),
    ('Negative Tag', 'tags', None, None),
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
    ('Existing Outlines', 'select', 'skip duplicates', None),
    ('Speed', 'select', 'exact', None),
    ('Tile Size', 'number', 0, (0, 4096, 1)),
    ('Jobs', 'number', 1, (1, 64, 1)),
]


# The form


@pytest.mark.parametrize(
    ('order', 'name', 'kind', 'default', 'limits'),
    [(order, *row) for order, row in enumerate(FORM)],
)
def test_form_has_the_field(order, name, kind, default, limits):
    field = build_interface()[name]
    assert (field['displayOrder'], field['type'], field.get('default')) == (order, kind, default)
    if limits:
        assert (field['min'], field['max'], field['step']) == limits


def test_form_has_no_other_field():
    assert list(build_interface()) == [name for name, *_ in FORM]


def test_fields_that_must_have_a_value_are_required():
    required = [name for name, field in build_interface().items() if field.get('required')]
    assert required == ['Training Tag', 'Model', 'Existing Outlines', 'Speed']


@pytest.mark.parametrize('name', [name for name, *_ in FORM])
def test_tooltip_has_one_or_two_sentences(name):
    tooltip = build_interface()[name]['tooltip']
    assert 1 <= len(re.findall(r'[.?!](?= |$)', tooltip)) <= 2
    assert tooltip.endswith('.')


@pytest.mark.parametrize('name', ['Min Mask Area', 'Max Mask Area', 'Smoothing', 'Tile Size'])
def test_lengths_and_areas_are_in_pixels(name):
    assert build_interface()[name]['unit'] == 'pixels'


@pytest.mark.parametrize(
    ('name', 'items'),
    [
        ('Existing Outlines', ['skip duplicates', 'replace earlier results', 'keep all']),
        ('Speed', ['exact', 'fast', 'fastest']),
    ],
)
def test_choices_are_offered(name, items):
    assert build_interface()[name]['items'] == items


@pytest.mark.parametrize('name', ['Batch XY', 'Batch Z', 'Batch Time'])
def test_batch_field_explains_blank_and_all(name):
    field = build_interface()[name]
    assert field['vueAttrs']['placeholder'] == 'ex. 1-3, 5-8, or all'
    assert field['vueAttrs']['persistentPlaceholder'] is True
    for words in ('Blank', 'you look at', '"all"'):
        assert words in field['tooltip']


def test_other_models_are_offered_where_their_file_is(tmp_path, monkeypatch):
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(tmp_path))
    assert build_interface()['Model']['items'] == MODELS == ['sam_vit_h_4b8939']
    (tmp_path / VIT_MINI.file).touch()
    (tmp_path / 'sam_vit_other.pth').touch()
    assert build_interface()['Model']['items'] == ['sam_vit_h_4b8939', 'sam_vit_mini2']


def test_a_form_can_be_changed_without_changing_the_next():
    build_interface()['Model']['items'].append('changed')
    assert 'changed' not in build_interface()['Model']['items']


# Settings that are read


def test_full_job_is_read():
    form = {'Similarity Threshold': '0.75', 'Points per side': ' 64 ', 'Max Mask Area': 900.0}
    params = {
        **make_params(**form),
        'channel': 1,
        'tags': ['cell', 'found'],
        'tile': {'XY': 3, 'Z': 2, 'Time': 1},
        'connectTo': {'tags': ['nucleus'], 'channel': 2},
    }
    found = read_settings(params)
    assert found.training_tags == ('example',)
    assert found.checkpoint is VIT_MINI
    assert (found.threshold, found.points_per_side, found.max_area) == (0.75, 64, 900)
    assert (found.occupancy, found.min_area, found.smoothing) == (0.2, 30, 0.3)
    assert (found.channel, found.tags) == (1, ('cell', 'found'))
    assert found.location == Location(xy=3, z=2, time=1)
    assert found.connect_to == {'tags': ['nucleus'], 'channel': 2}


def test_missing_fields_get_their_defaults():
    form = {'Training Tag': ['a'], 'Model': 'sam_vit_mini2'}
    assert read_settings({'workerInterface': form}) == Settings(
        training_tags=('a',),
        negative_tags=(),
        batches={'Batch XY': '', 'Batch Z': '', 'Batch Time': ''},
        checkpoint=VIT_MINI,
        threshold=0.5,
        occupancy=0.2,
        points_per_side=128,
        min_area=30,
        max_area=0,
        smoothing=0.3,
        existing='skip duplicates',
        tile_size=0,
        jobs=1,
        precision='float32',
        whole_frame=False,
        tags=(),
        channel=0,
        location=Location(0, 0, 0),
        connect_to=None,
        share_examples=None,
    )


@pytest.mark.parametrize(
    ('name', 'value', 'attribute', 'expected'),
    [
        ('Training Tag', ['a', 'b'], 'training_tags', ('a', 'b')),
        ('Negative Tag', ['bad'], 'negative_tags', ('bad',)),
        ('Existing Outlines', 'skip duplicates', 'existing', SKIP),
        ('Existing Outlines', 'replace earlier results', 'existing', REPLACE),
        ('Existing Outlines', 'keep all', 'existing', KEEP),
        ('Tile Size', '512', 'tile_size', 512),
        ('Jobs', 4, 'jobs', 4),
        ('Similarity Threshold', 1, 'threshold', 1.0),
        ('Points per side', 16.0, 'points_per_side', 16),
        ('Min Mask Area', '1e2', 'min_area', 100),
        ('Smoothing', 0, 'smoothing', 0.0),
    ],
)
def test_value_is_read(name, value, attribute, expected):
    found = getattr(read_settings(make_params(**{name: value})), attribute)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ('form', 'precision', 'whole_frame'),
    [
        ({'Speed': 'exact'}, 'float32', False),
        ({'Speed': 'fast'}, 'bfloat16', False),
        ({'Speed': 'fastest'}, 'bfloat16', True),
        # tools of earlier versions
        ({'Encoder Precision': 'float32'}, 'float32', False),
        ({'Encoder Precision': 'bfloat16'}, 'bfloat16', False),
        ({'Feature Source': 'object crops'}, 'float32', False),
        ({'Feature Source': 'whole frame'}, 'float32', True),
        ({'Encoder Precision': 'bfloat16', 'Feature Source': 'whole frame'}, 'bfloat16', True),
        ({'Encoder Precision': 'bfloat16', 'Speed': 'exact'}, 'float32', False),
        ({'Feature Source': None, 'Speed': 'fast'}, 'bfloat16', False),
    ],
)
def test_speed_is_read(form, precision, whole_frame):
    found = read_settings(make_params(**form))
    assert (found.precision, found.whole_frame) == (precision, whole_frame)


@pytest.mark.parametrize(
    ('form', 'existing'),
    [
        ({'Duplicates': 'skip'}, SKIP),
        ({'Duplicates': 'keep'}, KEEP),
        ({'Duplicates': 'keep', 'Existing Outlines': REPLACE}, REPLACE),
    ],
)
def test_duplicates_of_an_earlier_version_is_read(form, existing):
    assert read_settings(make_params(**form)).existing == existing


@pytest.mark.parametrize('value', [True, False, None, 'yes'])
def test_save_scores_of_an_earlier_version_is_ignored(value):
    assert read_settings(make_params(**{'Save Scores': value})) == read_settings(make_params())


def test_batch_number_is_read_as_text():
    batches = read_settings(make_params(**{'Batch XY': 3})).batches
    assert batches == {'Batch XY': '3', 'Batch Z': '', 'Batch Time': ''}


@pytest.mark.parametrize('connection', [{'tags': []}, {'tags': [], 'channel': 1}, {}, None])
def test_connection_without_tags_connects_nothing(connection):
    assert read_settings({**make_params(), 'connectTo': connection}).connect_to is None


def test_connection_without_channel_means_any_channel():
    found = read_settings({**make_params(), 'connectTo': {'tags': ['a']}})
    assert found.connect_to == {'tags': ['a'], 'channel': None}


def test_share_examples_are_read():
    examples = {'id': 'digest'}
    assert read_settings({**make_params(), 'fewshotExamples': examples}).share_examples == examples


# Settings that are refused


def without(name: str) -> dict[str, Any]:
    params = make_params()
    del params['workerInterface'][name]
    return params


BAD_FIELDS: list[tuple[str, Message, list[Any]]] = [
    (
        'Similarity Threshold',
        messages.NOT_A_NUMBER,
        [None, '', ' ', 'high', True, [], {}, float('nan'), float('inf')],
    ),
    ('Similarity Threshold', messages.OUT_OF_RANGE, [-0.01, 1.01, '2']),
    ('Target Occupancy', messages.NOT_A_NUMBER, [None, 'nan']),
    ('Target Occupancy', messages.OUT_OF_RANGE, [0.04, 0.81]),
    ('Points per side', messages.NOT_A_NUMBER, [None, 10**400]),
    ('Points per side', messages.OUT_OF_RANGE, [15, 129]),
    ('Points per side', messages.NOT_WHOLE, [64.5, '64.5']),
    ('Min Mask Area', messages.NOT_A_NUMBER, [None]),
    ('Min Mask Area', messages.OUT_OF_RANGE, [-1, 100_001]),
    ('Min Mask Area', messages.NOT_WHOLE, [30.5]),
    ('Max Mask Area', messages.NOT_A_NUMBER, [None, '-inf']),
    ('Max Mask Area', messages.OUT_OF_RANGE, [100_001]),
    ('Smoothing', messages.NOT_A_NUMBER, [None]),
    ('Smoothing', messages.OUT_OF_RANGE, [-0.1, 3.1]),
    (
        'Batch XY',
        messages.NOT_LOCATIONS,
        [None, '1-', '-1', '1.5', 'one', '1,,2', '1,', '3-1', 'all, 1', [1], True, '١', '1\0'],
    ),
    ('Batch Z', messages.NOT_LOCATIONS, [None, '1;2']),
    ('Batch Time', messages.NOT_LOCATIONS, [None, 'now']),
    ('Encoder Precision', messages.NOT_A_CHOICE, [None, 'float16', ['float32']]),
    ('Feature Source', messages.NOT_A_CHOICE, [None, '', 'crops', {}]),
    ('Duplicates', messages.NOT_A_CHOICE, [None, 'drop', True]),
    ('Existing Outlines', messages.NOT_A_CHOICE, [None, 'skip', True]),
    ('Speed', messages.NOT_A_CHOICE, [None, '', 'float32', ['exact']]),
    ('Negative Tag', messages.NOT_TAGS, ['bad', [''], [3], {}]),
    ('Training Tag', messages.NOT_TAGS, [None, 'cell', [' '], ['x' * 1_001]]),
    ('Training Tag', messages.NO_TRAINING_TAG, [[]]),
    ('Tile Size', messages.NOT_A_NUMBER, [None]),
    ('Tile Size', messages.OUT_OF_RANGE, [-1, 4097]),
    ('Tile Size', messages.NOT_WHOLE, [100.5]),
    ('Jobs', messages.NOT_A_NUMBER, [None, 'many']),
    ('Jobs', messages.OUT_OF_RANGE, [0, 65]),
    ('Jobs', messages.NOT_WHOLE, [1.5]),
    ('Model', messages.UNKNOWN_MODEL, [None, 'sam2_hiera', ['sam_vit_mini2']]),
]
ROWS = [(name, message, value) for name, message, values in BAD_FIELDS for value in values]


@pytest.mark.parametrize(('name', 'message', 'value'), ROWS)
def test_bad_value_is_refused(name, message, value):
    with pytest.raises(JobError, match=pattern_of(message)) as caught:
        read_settings(make_params(**{name: value}))
    if message not in (messages.NO_TRAINING_TAG, messages.NOT_LOCATIONS):  # this names a part only
        assert show(value) in caught.value.message
    assert ('model' if name == 'Model' else name) in caught.value.message


BAD_JOBS: list[tuple[Any, Message, str]] = [  # parameters, message, what the message contains
    (None, messages.NO_PARAMETERS, ''),
    ([], messages.NO_PARAMETERS, ''),
    ('text', messages.NO_PARAMETERS, ''),
    ({'workerInterface': None}, messages.NO_SETTINGS, ''),
    ({'workerInterface': 'x'}, messages.NO_SETTINGS, ''),
    (without('Training Tag'), messages.NO_TRAINING_TAG, ''),
    (without('Model'), messages.UNKNOWN_MODEL, ': empty.'),
    ({**make_params(), 'tags': None}, messages.NOT_TAGS, 'tags'),
    (
        {**make_params(), 'channel': '0'},
        messages.NOT_AN_INDEX,
        "The channel is not an index: '0'.",
    ),
    ({**make_params(), 'channel': -1}, messages.NOT_AN_INDEX, '-1'),
    ({**make_params(), 'channel': True}, messages.NOT_AN_INDEX, 'True'),
    (
        {**make_params(), 'tile': {'XY': 0.5}},
        messages.NOT_AN_INDEX,
        'position in XY is not an index: 0.5.',
    ),
    ({**make_params(), 'tile': None}, messages.NO_LOCATION, ''),
    ({**make_params(), 'connectTo': 'a'}, messages.CONNECTION_UNREADABLE, "'a'"),
    (
        {**make_params(), 'connectTo': {'tags': ['a'], 'channel': 'red'}},
        messages.NOT_AN_INDEX,
        "channel of the connection is not an index: 'red'.",
    ),
    ({**make_params(), 'fewshotExamples': ['id']}, messages.SHARE_UNREADABLE, 'id'),
    ({**make_params(), 'fewshotExamples': {'id': 3}}, messages.SHARE_UNREADABLE, '3'),
    (
        make_params(**{'Min Mask Area': 50, 'Max Mask Area': 49}),
        messages.AREAS_SWAPPED,
        '(50 pixels) is above Max Mask Area (49 pixels)',
    ),
    (
        make_params(**{'Training Tag': ['a', 'b'], 'Negative Tag': ['c', 'b']}),
        messages.SAME_TAG,
        ': b',
    ),
]


@pytest.mark.parametrize(('params', 'message', 'seen'), BAD_JOBS)
def test_bad_job_is_refused(params, message, seen):
    with pytest.raises(JobError, match=pattern_of(message)) as caught:
        read_settings(params)
    assert seen in caught.value.message


def test_equal_area_limits_are_accepted():
    found = read_settings(make_params(**{'Min Mask Area': 50, 'Max Mask Area': 50}))
    assert found.min_area == found.max_area


def test_missing_checkpoint_is_refused_with_its_path(tmp_path, monkeypatch):
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(tmp_path))
    with pytest.raises(JobError, match=pattern_of(messages.CHECKPOINT_MISSING)) as caught:
        read_settings(make_params())
    assert str(tmp_path / 'sam_vit_mini2.pth') in caught.value.message


@pytest.mark.parametrize(
    'params',
    [
        {**make_params(), 'channel': 10**5000},
        {**make_params(), 'tile': {'XY': 10**5000}},
        make_params(**{'Batch XY': 10**5000}),
        make_params(**{'Tile Size': 10**5000}),
        make_params(**{'Training Tag': ['x' * 10**6]}),
        make_params(**{'Batch Z': '1,' * 10**5 + 'x' * 10**6}),
        make_params(**{'Smoothing': '9' * 10**6}),
    ],
    ids=['channel', 'tile', 'Batch XY', 'Tile Size', 'Training Tag', 'Batch Z', 'Smoothing'],
)
def test_huge_value_is_refused_in_a_short_message(params):
    with pytest.raises(JobError) as caught:
        read_settings(params)
    assert len(caught.value.message) < 2_000
    assert 0 < len(caught.value.hint) < 1_000


TEXTS = st.text(
    st.characters(exclude_categories=['Cs']) | st.sampled_from('\0٣１²0123456789-,'), max_size=8
)
ANYTHING = json_values | TEXTS | st.lists(TEXTS, max_size=3)
NAMES = [field.name for field in FIELDS]
NAMES += ['Duplicates', 'Encoder Precision', 'Feature Source']
KEYS = ['channel', 'tags', 'tile', 'connectTo', 'workerInterface', 'fewshotExamples']


def read_or_refuse(params: Any) -> Settings | JobError:
    try:
        return read_settings(params)
    except JobError as error:
        return error


@given(
    st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=4),
    st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=2),
)
@settings(max_examples=300)
def test_any_job_is_read_or_refused_with_a_hint(form, job):
    found = read_or_refuse({**make_params(**form), **job})
    if isinstance(found, JobError):
        assert found.message
        assert 0 < len(found.hint) < 20_000
        return
    assert found.checkpoint in KNOWN.values()
    assert 0 <= found.threshold <= 1
    ranges = [parse_ranges(text) or [] for text in found.batches.values()]
    assert all(0 <= first <= last for one in ranges for first, last in one)


# Batch fields


@pytest.mark.parametrize(
    ('text', 'ranges'),
    [
        ('1-3, 5-8', [(1, 3), (5, 8)]),
        ('4', [(4, 4)]),
        (' 1 - 3 ,5', [(1, 3), (5, 5)]),
        ('007', [(7, 7)]),
        ('2-2', [(2, 2)]),
        ('ALL', None),
        (' All ', None),
        ('', []),
        ('   ', []),
    ],
)
def test_ranges_are_read(text, ranges):
    assert parse_ranges(text) == ranges


@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 100)), min_size=1),
    st.text(' \t', max_size=2),
)
def test_any_list_of_ranges_is_read(pairs, space):
    ranges = [(first, first + length) for first, length in pairs]
    texts = [
        f'{first}{space}-{space}{last}' if last > first else f'{first}' for first, last in ranges
    ]
    assert parse_ranges(f'{space},{space}'.join(texts)) == ranges


@given(st.text('0123456789-, alL.x', max_size=12))
def test_any_text_is_ranges_or_refused(text):
    try:
        ranges = parse_ranges(text)
    except ValueError:
        return
    assert ranges is None or all(0 <= first <= last for first, last in ranges)


@given(json_values)
def test_any_value_is_shown_in_few_words(value):
    assert 0 < len(show(value)) <= MAX_SHOWN_CHARACTERS
    if isinstance(value, str) and value and len(repr(value)) <= MAX_SHOWN_CHARACTERS:
        assert show(value) == repr(value)
