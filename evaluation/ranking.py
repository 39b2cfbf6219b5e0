"""How well a score ranks the wanted candidates above the others: the area under the ROC curve.

It is the share of the pairs of a wanted and another candidate in which the wanted one has the
higher score. Pairs are within one seed, because another seed has other examples. The interval of
a difference between two scores comes from drawing the frames or tiles anew, with replacement.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.linalg import block_diag

from evaluation.candidates import Trial
from fewshot.matching.prototype import (
    average_direction,
    measure_closest,
    measure_similarities,
    normalize,
)

RESAMPLES = 2000
SHRINKAGE = 0.3  # of the candidates' covariance towards a multiple of the identity
WORSE, BETTER = ' ↓', ' ↑'
NO_RANK = '-'

# The vectors of the candidates per frame, and those of the examples -> the scores of all candidates
Score = Callable[[Sequence[np.ndarray], np.ndarray], np.ndarray]


def score_mean(frames: Sequence[np.ndarray], examples: np.ndarray) -> np.ndarray:
    """Return the similarity as specified: the cosine to the mean of the examples."""
    return measure_similarities(np.concatenate(frames), average_direction(examples))


def score_closest(frames: Sequence[np.ndarray], examples: np.ndarray) -> np.ndarray:
    """Return the largest cosine to any example."""
    return (normalize(np.concatenate(frames)) @ normalize(examples).T).max(axis=1)


def score_three(frames: Sequence[np.ndarray], examples: np.ndarray) -> np.ndarray:
    """Return the score Closest Examples of the worker."""
    return measure_closest(np.concatenate(frames), examples)


def score_centred(frames: Sequence[np.ndarray], examples: np.ndarray) -> np.ndarray:
    """Return the cosine to the mean of the examples, after subtracting that of all candidates."""
    vectors = normalize(np.concatenate(frames))
    centre = vectors.mean(axis=0)
    return measure_similarities(vectors - centre, normalize(examples).mean(axis=0) - centre)


def score_several(frames: Sequence[np.ndarray], examples: np.ndarray) -> np.ndarray:
    """Return the centred cosine in frames with several kinds of candidates, else `score_three`.

    A frame has several kinds if a quarter of its candidates are less similar to the mean of the
    examples than the least similar example.
    """
    middle = average_direction(examples)
    lowest = measure_similarities(examples, middle).min()
    scores = []
    for vectors in frames:
        is_far = measure_similarities(vectors, middle) < lowest
        has_several = len(vectors) > 0 and is_far.mean() >= 0.25
        scores.append((score_centred if has_several else score_three)([vectors], examples))
    return np.concatenate(scores)


def score_whitened(frames: Sequence[np.ndarray], examples: np.ndarray) -> np.ndarray:
    """Return the cosine to the mean of the examples, whitened by the candidates' covariance."""
    vectors = normalize(np.concatenate(frames))
    covariance = np.cov(vectors.T, bias=True)
    channels = len(covariance)
    target = np.trace(covariance) / channels * np.eye(channels)
    inverse = np.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * target)
    root = np.linalg.cholesky(inverse)
    return measure_similarities(vectors @ root, average_direction(normalize(examples) @ root))


SPECIFIED = 'cosine to the mean'
SCORES: Mapping[str, Score] = {
    SPECIFIED: score_mean,
    'closest example': score_closest,
    'three closest examples': score_three,
    'mean subtracted': score_centred,
    'mean subtracted if several kinds': score_several,
    'whitened': score_whitened,
}


def rank_trials(trials: Sequence[Trial]) -> dict[str, str]:
    """Return the area under the ROC curve of each score, as text, for the trials of a group.

    It has an arrow if the whole 95 % interval of the difference from the specified score is below
    or above zero. Without a pair of candidates to rank, it is a dash.
    """
    every = sum(len(one) for trial in trials for one in trial.wanted)
    wanted = sum(int(one.sum()) for trial in trials for one in trial.wanted)
    cells = {'wanted': f'{wanted} of {every}'}
    right: dict[str, np.ndarray] = {}
    for name, score in SCORES.items():
        right[name], pairs = count_pairs(trials, score)
        if not pairs.any():
            cells[name] = NO_RANK
            continue
        area = right[name].sum() / pairs.sum()
        cells[name] = f'{area:.3f}'
        if name != SPECIFIED:
            cells[name] += mark(right[name] - right[SPECIFIED], pairs)
    return cells


def count_pairs(trials: Sequence[Trial], score: Score) -> tuple[np.ndarray, np.ndarray]:
    """Count the pairs of a wanted and another candidate, and those that a score puts right.

    Returns
    -------
    right, pairs : (frames, frames) ndarray
        By the frame of the wanted candidate and the frame of the other one. A tie is half right.
    """
    all_right, all_pairs = [], []
    for trial in trials:
        frames = [one.by_crop for one in trial.candidates]
        scores = score(frames, trial.examples.by_crop)
        is_wanted = np.concatenate(trial.wanted)
        frame = np.repeat(np.arange(len(frames)), [len(one) for one in frames])
        ranks = scores[is_wanted, None], scores[None, ~is_wanted]
        better = np.greater(*ranks) + 0.5 * np.equal(*ranks)
        is_in = frame == np.arange(len(frames))[:, None]  # (frames, candidates)
        ours, others = is_in[:, is_wanted].astype(float), is_in[:, ~is_wanted].astype(float)
        all_right.append(ours @ better @ others.T)
        all_pairs.append(np.outer(ours.sum(axis=1), others.sum(axis=1)))
    return block_diag(*all_right), block_diag(*all_pairs)


def mark(difference: np.ndarray, pairs: np.ndarray) -> str:
    """Return an arrow if a difference is above or below zero in 97.5 % of the drawn samples."""
    rng = np.random.default_rng(0)
    draws = rng.multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), RESAMPLES)
    # a product of each pair of frames by how often both were drawn
    changes = ((draws @ difference) * draws).sum(axis=1)
    changes = changes / np.maximum(1, ((draws @ pairs) * draws).sum(axis=1))
    low, high = np.percentile(changes, [2.5, 97.5])
    if low > 0:
        return BETTER
    return WORSE if high < 0 else ''
