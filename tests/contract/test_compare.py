import pytest

from tests.contract.compare import Comparison, Names


@pytest.mark.parametrize(
    ('recorded', 'answered', 'difference'),
    [
        ({'a': 1}, {'a': 1, 'b': 2}, 'answer.b was not recorded'),
        ({'a': 1, 'b': 2}, {'a': 1}, 'answer.b is missing'),
        ({'a': {'b': 1}}, {'a': {'b': '1'}}, "answer.a.b is string '1', recorded was number 1"),
        ({'count': 8}, 8, "answer is number 8, recorded was object {'count': 8}"),
        ([1], {}, 'answer is object {}, recorded was list [1]'),
        (0, False, 'answer is boolean False, recorded was number 0'),
        (None, '', "answer is string '', recorded was null None"),
        (60, 57, 'answer is 57, recorded was 60'),
        (['cell'], ['nucleus'], "answer[0] is 'nucleus', recorded was 'cell'"),
        ([1, 2], [1], 'answer has 1 entries, recorded were 2'),
        ([1, '… 3 in all'], [1, 2], 'answer has 2 entries, recorded were 3'),
        ([1, '… 3 in all'], [0, 2, 3], 'answer[0] is 0, recorded was 1'),
        (['<a>', '<a>'], ['x', 'y'], 'answer[1] has y, which is not <a>'),
        (['<a>', '<b>'], ['x', 'x'], 'answer[1] has x, which is not <b>'),
        ('No <a> (user <b>).', 'No x (user x).', 'answer has x, which is not <b>'),
        (
            'No such folder: <a>',
            'No such dataset: x',
            "answer is 'No such dataset: x', recorded was",
        ),
    ],
)
def test_a_difference_is_found(recorded, answered, difference):
    (found,) = Comparison(Names()).find(recorded, answered)
    assert found.startswith(difference)


@pytest.mark.parametrize(
    ('recorded', 'answered'),
    [
        ({'a': 1, 'optional': 2}, {'a': 1.0}),
        ([1, '… 3 in all'], [1, 5, 6]),
        (['<a>', '<b>', '<a>'], ['x', 'y', 'x']),
        (['<id>', '<id>', '<time>'], ['x', 'y', 'x']),
        ({'message': 'data.tags must be array'}, {'message': 'Other words for the same.'}),
        ({'tileWidth': 64}, {'tileWidth': 128}),
    ],
)
def test_an_answer_that_agrees_has_no_difference(recorded, answered):
    assert list(Comparison(Names(), {'optional'}).find(recorded, answered)) == []


def test_a_placeholder_keeps_its_id_from_one_answer_to_the_next():
    names = Names()
    assert list(Comparison(names).find({'_id': '<a>'}, {'_id': 'x'})) == []
    assert names.fill_in({'ids': ['<a>'], 'n': 1}) == {'ids': ['x'], 'n': 1}
    assert list(Comparison(names).find('<a>', 'y')) == ['answer has y, which is not <a>']
