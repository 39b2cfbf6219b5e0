import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.parameters import parse_batch
from fewshot.positions import Block
from fewshot.shares import digest, is_even, keep_signed, narrow_params, sign_examples, split_block

AXIS = st.sets(st.integers(0, 30), min_size=1, max_size=9).map(lambda found: tuple(sorted(found)))


@given(AXIS, AXIS, AXIS, st.integers(1, 64))
def test_the_shares_hold_each_frame_once_and_are_even_to_one(xys, zs, times, most):
    block = Block(xys, zs, times)
    shares = split_block(block, most)
    assert sorted(frame for share in shares for frame in share.locations) == block.locations
    sizes = [len(share.locations) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@given(AXIS, AXIS, AXIS, st.integers(1, 64))
def test_no_other_number_of_even_shares_is_nearer_to_the_one_wanted(xys, zs, times, most):
    block = Block(xys, zs, times)
    possible = {a * b * c for a in range(1, len(xys) + 1) for b in range(1, len(zs) + 1)
                for c in range(1, len(times) + 1) if is_even(block, (a, b, c))}
    assert abs(len(split_block(block, most)) - most) == min(abs(number - most) for number in possible)


@pytest.mark.parametrize(('axes', 'most', 'sizes'), [
    ((12, 1, 1), 5, [3, 3, 2, 2, 2]),
    ((12, 1, 1), 64, [1] * 12),
    ((1, 1, 7), 3, [3, 2, 2]),
    ((4, 3, 1), 4, [3] * 4),  # XY is parted first
    ((4, 3, 1), 5, [3] * 4),  # five even ones cannot be written: four and six are as near
    ((4, 3, 1), 8, [2, 1] * 4),
    ((2, 2, 1), 3, [2] * 2),
])
def test_shares_are_as_many_as_can_be_written(axes, most, sizes):
    shares = split_block(Block(*(tuple(range(length)) for length in axes)), most)
    assert [len(share.locations) for share in shares] == sizes


def test_neighbours_stay_together():
    first, second, third = split_block(Block((0, 2, 4, 5, 7), (1,), (0,)), 3)
    assert (first.xys, second.xys, third.xys) == ((0, 2), (4, 5), (7,))


def test_a_childs_parameters_differ_in_batch_jobs_and_name_alone():
    params = {'name': 'My cells', 'tags': ['cell'], 'workerInterface': {
        'Training Tag': ['example'], 'Batch XY': 'all', 'Batch Z': '', 'Jobs': '4', 'Smoothing': 1}}
    child = narrow_params(params, Block((0, 1, 2, 6), (3,), (0, 1)), 2, 4, {'a': 'b'})
    assert child == {'name': 'My cells (2 of 4)', 'tags': ['cell'], 'fewshotExamples': {'a': 'b'}, 'workerInterface': {
        'Training Tag': ['example'], 'Batch XY': '1-3, 7', 'Batch Z': '4', 'Batch Time': '1-2', 'Jobs': 1,
        'Smoothing': 1}}
    assert parse_batch(child['workerInterface']['Batch XY']) == [(1, 3), (7, 7)]
    assert params['workerInterface']['Jobs'] == '4'


def example(id: str, left: float = 1, **changes) -> dict:
    return {'_id': id, 'coordinates': [{'x': left, 'y': 2}], 'tags': ['example'],
            'location': {'XY': 0, 'Z': 0, 'Time': 0}, **changes}


def test_examples_of_the_start_are_kept_in_their_order_and_later_ones_left_out():
    started = [example('b'), example('a', 5)]
    assert keep_signed([example('a', 5), example('later', 7), example('b')], sign_examples(started)) == started


@pytest.mark.parametrize(('now', 'words'), [
    ([example('a')], '1 of 2 are gone and 0 changed'),
    ([example('a'), example('b', 1.001)], '0 of 2 are gone and 1 changed'),
    ([example('a'), example('b', tags=['example', 'more'])], '0 of 2 are gone and 1 changed'),
    ([example('a'), example('b', location={'XY': 1, 'Z': 0, 'Time': 0})], '0 of 2 are gone and 1 changed'),
])
def test_an_example_that_is_gone_or_changed_stops_a_child(now, words):
    with pytest.raises(ValueError, match='have changed since the batch was started') as caught:
        keep_signed(now, sign_examples([example('a'), example('b')]))
    assert words in caught.value.__notes__[0]


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest(example('a')) == digest(dict(reversed(example('a').items())))
