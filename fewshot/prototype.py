"""What the examples have in common, as one vector, and how alike an object is to it."""
import torch
import torch.nn.functional as F


def make_prototype(vectors: list[torch.Tensor]) -> torch.Tensor:
    """The mean of the examples' vectors, each (C,), at length one: (C,)."""
    return F.normalize(torch.stack(vectors).mean(dim=0), dim=0)


def measure_similarity(vector: torch.Tensor, prototype: torch.Tensor) -> float:
    """Cosine between a vector and the prototype, both (C,): -1 to 1."""
    return F.cosine_similarity(vector, prototype, dim=0).item()
