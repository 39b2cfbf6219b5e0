"""The form: its order, its first values and its fields."""

import pytest

from fewshot.sam.checkpoints import KNOWN
from fewshot.settings import build_interface
from tests.annotation_page.conftest import NO_PAGE

pytest.importorskip('nicegui', reason=NO_PAGE)

from annotation_page.form import choose_model, describe_model, propose_values, sort_fields


def test_fields_without_an_order_come_last_by_name():
    interface = {'b': {}, 'a': {}, 'second': {'displayOrder': 2}, 'first': {'displayOrder': 0}}
    assert sort_fields(interface) == ['first', 'second', 'a', 'b']


@pytest.mark.parametrize(
    ('field', 'saved', 'expected'),
    [
        ({'type': 'number', 'min': 2, 'max': 5, 'default': 3}, {}, 3),
        ({'type': 'number', 'min': 2, 'max': 5}, {}, 2),
        ({'type': 'number', 'min': 2, 'max': 5, 'default': 3}, {'F': 4}, 4),
        ({'type': 'text'}, {}, ''),
        ({'type': 'select', 'items': ['a', 'b'], 'default': 'b'}, {}, 'b'),
        ({'type': 'select', 'items': ['a', 'b'], 'default': 'b'}, {'F': 'a'}, 'a'),
        ({'type': 'select', 'items': ['a', 'b'], 'default': 'b'}, {'F': 'gone'}, 'b'),
        ({'type': 'checkbox', 'default': True}, {}, True),
        ({'type': 'checkbox'}, {}, False),
        ({'type': 'tags'}, {}, []),
        ({'type': 'channel'}, {}, 0),
        ({'type': 'channelCheckboxes'}, {}, {}),
        ({'type': 'layer'}, {}, None),
    ],
    ids=str,
)
def test_first_value_of_a_field(field, saved, expected):
    assert propose_values({'F': field}, saved) == {'F': expected}


@pytest.mark.parametrize('checkpoint', KNOWN.values(), ids=KNOWN)
def test_a_model_that_needs_no_gpu_is_said_to_be_small(checkpoint):
    text = describe_model(checkpoint.name)
    assert checkpoint.title[1:] in text
    assert ('use a large model' in text) == (checkpoint.costs is None)


def test_a_model_that_is_not_known_is_not_described():
    assert describe_model('new') == ''


def test_notes_have_no_value():
    assert propose_values({'Note': {'type': 'notes', 'value': 'text'}}, {}) == {}


def test_the_page_proposes_its_own_tags():
    values = propose_values(build_interface(), {})
    assert values['Training Tag'] == ['example']
    assert values['Negative Tag'] == ['not this']


def test_earlier_results_are_replaced_where_the_worker_offers_it():
    items = ['skip duplicates', 'replace earlier results', 'keep all']
    field = {'type': 'select', 'items': items, 'default': items[0]}
    assert propose_values({'Existing Outlines': field}, {}) == {'Existing Outlines': items[1]}


def test_the_first_model_with_a_file_is_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(tmp_path))
    (tmp_path / 'sam_vit_mini2.pth').touch()
    values = propose_values(build_interface(), {})
    assert values['Model'] == 'sam_vit_mini2'
    (tmp_path / 'sam_vit_h_4b8939.pth').touch()
    assert propose_values(build_interface(), {})['Model'] == 'sam_vit_h_4b8939'
    assert choose_model(['a'], lambda name: False) is None
