"""What the examples have in common, as one vector, and how alike objects are to it."""
import torch
import torch.nn.functional as F


def make_prototype(vectors: torch.Tensor) -> torch.Tensor:
    """The mean of the examples' vectors (n, C), n > 0, at length one: (C,)."""
    return F.normalize(vectors.mean(dim=0), dim=0)


def measure_similarities(vectors: torch.Tensor, prototype: torch.Tensor) -> torch.Tensor:
    """Cosine between each of the vectors (n, C) and the prototype (C,): (n,), -1 to 1."""
    return F.cosine_similarity(vectors, prototype[None])
