import pytest
import torch

from fewshot.prototype import make_prototype, measure_similarities


def test_a_prototype_is_the_direction_of_the_mean():
    prototype = make_prototype(torch.tensor([[3.0, 0, 0], [0, 1.0, 0]]))
    torch.testing.assert_close(prototype, torch.tensor([3.0, 1, 0]) / 10 ** 0.5)


def test_similarity_is_the_cosine_whatever_the_lengths():
    prototype = make_prototype(torch.tensor([[1.0, 0]]))
    vectors = torch.tensor([[5.0, 0], [0, 0.1], [-2.0, 0], [1.0, 1.0]])
    assert measure_similarities(vectors, prototype).tolist() == pytest.approx([1, 0, -1, 0.5 ** 0.5])
    assert measure_similarities(vectors[:0], prototype).tolist() == []
