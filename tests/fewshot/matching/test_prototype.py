import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewshot.matching.prototype import (
    NO_RIVAL,
    average_direction,
    compare_closest,
    compare_examples,
    learn_prototype,
    list_thresholds,
    measure_closest,
    measure_rivals,
    measure_similarities,
)


def vectors(*rows: tuple) -> np.ndarray:
    return np.array(rows, np.float32)


def test_prototype_is_the_direction_of_the_mean():
    prototype = average_direction(vectors((3, 0, 0), (0, 1, 0)))
    assert prototype.tolist() == pytest.approx([0.9**0.5, 0.1**0.5, 0])


def test_similarity_is_the_cosine():
    objects = vectors((5, 0), (0, 0.1), (-2, 0), (1, 1), (0, 0))
    similarities = measure_similarities(objects, vectors((1, 0))[0])
    assert similarities.tolist() == pytest.approx([1, 0, -1, 0.5**0.5, 0])
    assert measure_similarities(objects[:0], vectors((1, 0))[0]).tolist() == []


def test_rival_is_the_most_similar_counter_example():
    counter = vectors((2, 0, 0), (0, 3, 0))
    objects = vectors((1, 0, 0), (0, 5, 5), (0, 0, 1))
    assert measure_rivals(objects, counter).tolist() == pytest.approx([1, 0.5**0.5, 0])
    assert measure_rivals(objects, counter[:0]).tolist() == [NO_RIVAL] * 3
    assert measure_rivals(objects[:0], counter).tolist() == []


@pytest.mark.parametrize(
    ('threshold', 'expected'),
    [
        (0.85, [0.8, 0.85, 0.9]),
        (0.5, [0.45, 0.5, 0.55]),
        (0.123, [0.073, 0.123, 0.173]),
        (0, [0, 0.05]),
        (0.04, [0.04, 0.09]),
        (0.05, [0, 0.05, 0.1]),
        (0.95, [0.9, 0.95, 1]),
        (0.96, [0.91, 0.96]),
        (1, [0.95, 1]),
    ],
)
def test_neighbouring_thresholds(threshold, expected):
    assert list_thresholds(threshold) == expected


def test_examples_are_compared_with_the_others():
    examples = np.random.default_rng(0).random((5, 8), np.float32)
    expected = []
    for number in range(5):
        others = average_direction(np.delete(examples, number, axis=0))
        expected += measure_similarities(examples[[number]], others).tolist()
    assert compare_examples(examples).tolist() == pytest.approx(expected, abs=1e-6)
    assert compare_examples(examples[:1]).tolist() == []


def test_closest_examples_count_alone():
    examples = vectors((1, 0), (2, 0), (4, 3), (0, 1))
    objects = vectors((3, 0), (0, 2), (0, 0))
    expected = [(1 + 1 + 0.8) / 3, (1 + 0.6 + 0) / 3, 0]
    assert measure_closest(objects, examples).tolist() == pytest.approx(expected)
    assert measure_closest(objects, examples[:1]).tolist() == [1, 0, 0]
    assert measure_closest(objects[:0], examples).tolist() == []
    assert compare_closest(examples[:3]).tolist() == pytest.approx([0.9, 0.9, 0.8])
    assert compare_closest(examples[:1]).tolist() == []


def test_counter_examples_are_kept_one_by_one():
    prototype = learn_prototype(vectors((1, 0), (0, 1), (1, 0)), [False, True, False])
    assert prototype.vector.tolist() == [1, 0]
    assert prototype.example_vectors.tolist() == [[1, 0], [1, 0]]
    assert prototype.counter_vectors.tolist() == [[0, 1]]
    assert prototype.example_similarities == pytest.approx([1, 1])


components = st.floats(-10, 10, width=32).filter(lambda value: value == 0 or abs(value) > 1e-3)


@given(st.integers(2, 6).flatmap(lambda rows: arrays(np.float32, (rows, 5), elements=components)))
def test_numbers_are_those_of_torch(objects):
    tensor = torch.from_numpy(objects)
    mean = F.normalize(tensor.mean(dim=0), dim=0)
    assert average_direction(objects) == pytest.approx(mean.numpy(), abs=1e-6)
    similarities = F.cosine_similarity(tensor, tensor[:1])
    assert measure_similarities(objects, objects[0]) == pytest.approx(
        similarities.numpy(), abs=1e-6
    )
    cosines = F.normalize(tensor, dim=1) @ F.normalize(tensor[:2], dim=1).T
    rivals = cosines.amax(dim=1).numpy()
    assert measure_rivals(objects, objects[:2]) == pytest.approx(rivals, abs=1e-6)
    for result in (mean, measure_similarities(objects, objects[0])):
        assert str(result.dtype).endswith('float32')
