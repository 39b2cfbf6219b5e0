import pytest
import torch

from fewshot.prototype import leave_one_out, make_lesson, make_prototype, measure_rivals, measure_similarities


def test_a_prototype_is_the_direction_of_the_mean():
    prototype = make_prototype(torch.tensor([[3.0, 0, 0], [0, 1.0, 0]]))
    torch.testing.assert_close(prototype, torch.tensor([3.0, 1, 0]) / 10 ** 0.5)


def test_similarity_is_the_cosine_whatever_the_lengths():
    prototype = make_prototype(torch.tensor([[1.0, 0]]))
    vectors = torch.tensor([[5.0, 0], [0, 0.1], [-2.0, 0], [1.0, 1.0]])
    assert measure_similarities(vectors, prototype).tolist() == pytest.approx([1, 0, -1, 0.5 ** 0.5])
    assert measure_similarities(vectors[:0], prototype).tolist() == []


def test_the_rival_is_the_counter_example_that_is_most_alike():
    counterexamples = torch.tensor([[2.0, 0, 0], [0, 3.0, 0]])
    vectors = torch.tensor([[1.0, 0, 0], [0, 5.0, 5.0], [0, 0, 1.0]])
    assert measure_rivals(vectors, counterexamples).tolist() == pytest.approx([1, 0.5 ** 0.5, 0])
    without = measure_rivals(vectors, counterexamples[:0])
    assert len(without) == 3 and (without < -1).all()  # any similarity exceeds that


def test_each_example_is_compared_with_the_prototype_of_the_others():
    vectors = torch.rand(5, 8, generator=torch.Generator().manual_seed(0))
    expected = [measure_similarities(vectors[[number]], make_prototype(vectors[torch.arange(5) != number])).item()
                for number in range(5)]
    assert leave_one_out(vectors).tolist() == pytest.approx(expected)
    assert leave_one_out(vectors[:1]).tolist() == []


def test_a_lesson_keeps_counter_examples_apart_and_one_by_one():
    vectors = torch.tensor([[1.0, 0], [0, 1.0], [1.0, 0]])
    lesson = make_lesson(vectors, [False, True, False])
    assert lesson.prototype.tolist() == [1, 0] and lesson.counterexamples.tolist() == [[0, 1]]
    assert lesson.examples == pytest.approx([1, 1])
