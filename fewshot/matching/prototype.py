"""The examples as one vector, and the similarity of objects to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST_NORM = 1e-8  # shorter vectors have no direction; their similarity is 0
NO_RIVAL = -2.0  # below any cosine
THRESHOLD_STEP = 0.05
CLOSEST = 3  # examples, by which an object is compared with the examples one by one


@dataclass(frozen=True)
class Prototype:
    """The direction that the examples have in common, and the counter-examples.

    Attributes
    ----------
    vector : (C,) float32 ndarray
        Of length 1.
    example_vectors, counter_vectors : (m, C) float32 ndarray
        The examples and the counter-examples, one by one.
    example_similarities : list of float
        Similarity of each example to the prototype of the other examples. Empty for one example.
    """

    vector: np.ndarray
    example_vectors: np.ndarray
    counter_vectors: np.ndarray
    example_similarities: list[float]


def learn_prototype(vectors: np.ndarray, is_counter: Sequence[bool]) -> Prototype:
    """Learn from examples and counter-examples.

    Parameters
    ----------
    vectors : (n, C) float32 ndarray
        A vector per object. One or more are examples.
    is_counter : sequence of bool
        For each vector, whether it is a counter-example.

    Returns
    -------
    Prototype
    """
    counter = np.array(is_counter, bool)
    examples = vectors[~counter]
    similarities = compare_examples(examples).tolist()
    return Prototype(average_direction(examples), examples, vectors[counter], similarities)


def average_direction(vectors: np.ndarray) -> np.ndarray:
    """Return the mean of vectors at length 1.

    Parameters
    ----------
    vectors : (n, C) float32 ndarray
        One or more.

    Returns
    -------
    (C,) float32 ndarray

    Examples
    --------
    >>> average_direction(np.array([[2.0, 0.0], [4.0, 8.0]])).round(2).tolist()
    [0.6, 0.8]
    """
    return normalize(vectors.mean(axis=0))


def measure_similarities(vectors: np.ndarray, prototype: np.ndarray) -> np.ndarray:
    """Return the cosine between each vector and the prototype.

    Parameters
    ----------
    vectors : (n, C) float32 ndarray
    prototype : (C,) float32 ndarray

    Returns
    -------
    (n,) float32 ndarray
        -1 to 1.
    """
    return normalize(vectors) @ normalize(prototype)


def measure_rivals(vectors: np.ndarray, counter_vectors: np.ndarray) -> np.ndarray:
    """Return the cosine between each vector and its most similar counter-example.

    Parameters
    ----------
    vectors : (n, C) float32 ndarray
    counter_vectors : (m, C) float32 ndarray

    Returns
    -------
    (n,) float32 ndarray
        -1 to 1, or NO_RIVAL if there are no counter-examples.
    """
    if not len(counter_vectors):
        return np.full(len(vectors), NO_RIVAL, np.float32)
    cosines = normalize(vectors) @ normalize(counter_vectors).T  # (n, m)
    return cosines.max(axis=1)


def measure_closest(vectors: np.ndarray, example_vectors: np.ndarray) -> np.ndarray:
    """Return the mean cosine between each vector and the examples that are closest to it.

    Parameters
    ----------
    vectors : (n, C) float32 ndarray
    example_vectors : (m, C) float32 ndarray
        One or more. The CLOSEST closest count.

    Returns
    -------
    (n,) float32 ndarray
        -1 to 1.

    Examples
    --------
    >>> examples = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> measure_closest(np.array([[2.0, 0.0]]), examples).tolist()
    [1.0]
    """
    cosines = np.sort(normalize(vectors) @ normalize(example_vectors).T, axis=1)  # (n, m)
    return cosines[:, -CLOSEST:].mean(axis=1)


def list_thresholds(threshold: float) -> list[float]:
    """Return a threshold and its neighbours, THRESHOLD_STEP away and from 0 to 1, lowest first.

    Examples
    --------
    >>> list_thresholds(0.85)
    [0.8, 0.85, 0.9]
    >>> list_thresholds(0.98)
    [0.93, 0.98]
    """
    below, above = round(threshold - THRESHOLD_STEP, 6), round(threshold + THRESHOLD_STEP, 6)
    return [one for one in (below, threshold, above) if 0 <= one <= 1]


def compare_examples(vectors: np.ndarray) -> np.ndarray:
    """Return the cosine between each example and the prototype of the other examples.

    Parameters
    ----------
    vectors : (n, C) float32 ndarray

    Returns
    -------
    (n,) float32 ndarray
        Empty for a single example.
    """
    if len(vectors) < 2:
        return np.empty(0, np.float32)
    sums_of_others = vectors.sum(axis=0) - vectors  # (n, C), in the direction of their means
    return (normalize(vectors) * normalize(sums_of_others)).sum(axis=1)


def compare_closest(vectors: np.ndarray) -> np.ndarray:
    """Return the mean cosine between each example and the other examples that are closest to it.

    Parameters
    ----------
    vectors : (n, C) float32 ndarray

    Returns
    -------
    (n,) float32 ndarray
        Empty for a single example.
    """
    if len(vectors) < 2:
        return np.empty(0, np.float32)
    numbers = range(len(vectors))
    closest = [measure_closest(vectors[[i]], np.delete(vectors, i, axis=0)) for i in numbers]
    return np.concatenate(closest)


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Return vectors at length 1. Vectors shorter than LEAST_NORM stay shorter than 1.

    Parameters
    ----------
    vectors : (..., C) float ndarray

    Returns
    -------
    (..., C) float ndarray

    Examples
    --------
    >>> normalize(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(norms, LEAST_NORM)
