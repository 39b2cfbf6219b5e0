"""What the examples have in common, as one vector, and how alike objects are to it."""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

UNLIKE = -2.0  # below any cosine: the similarity to counter-examples where there are none


@dataclass(frozen=True)
class Lesson:
    """What the examples teach."""

    prototype: torch.Tensor  # (C,), length one
    counterexamples: torch.Tensor  # (m, C), one by one
    examples: list[float]  # similarity of each example to the prototype of the others, none for a single one


def make_lesson(vectors: torch.Tensor, is_counter: Sequence[bool]) -> Lesson:
    """The lesson of examples and counter-examples, vectors (n, C), one or more of them no counter-example."""
    counter = torch.tensor(is_counter, dtype=torch.bool, device=vectors.device)
    examples = vectors[~counter]
    return Lesson(make_prototype(examples), vectors[counter], leave_one_out(examples).tolist())


def make_prototype(vectors: torch.Tensor) -> torch.Tensor:
    """The mean of the examples' vectors (n, C), n > 0, at length one: (C,)."""
    return F.normalize(vectors.mean(dim=0), dim=0)


def measure_similarities(vectors: torch.Tensor, prototype: torch.Tensor) -> torch.Tensor:
    """Cosine between each of the vectors (n, C) and the prototype (C,): (n,), -1 to 1."""
    return F.cosine_similarity(vectors, prototype[None])


def measure_rivals(vectors: torch.Tensor, counterexamples: torch.Tensor) -> torch.Tensor:
    """Cosine between each of the vectors (n, C) and the counter-example (m, C) that is most like it: (n,)."""
    if not len(counterexamples):
        return vectors.new_full((len(vectors),), UNLIKE)
    return (F.normalize(vectors, dim=1) @ F.normalize(counterexamples, dim=1).T).amax(dim=1)


def leave_one_out(vectors: torch.Tensor) -> torch.Tensor:
    """Cosine between each example's vector (n, C) and the prototype of the others: (n,), none for a single example."""
    if len(vectors) < 2:
        return vectors.new_empty(0)
    return F.cosine_similarity(vectors, vectors.sum(dim=0) - vectors)
