"""Whether the features of the whole frame can tell which candidates need no object crop.

A candidate would be dropped if its similarity to the examples, both in features of the whole frame,
is below a bound. A good bound drops many candidates, and hardly any wanted one that would be kept.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.candidates import Trial
from fewshot.matching.prototype import (
    average_direction,
    compare_examples,
    measure_similarities,
)

MOST_LOST = 0.01  # of the recall
BEST = 'best bound'


def bound_trial(similarities: np.ndarray) -> dict[str, float]:
    """Return bounds from the similarities of the examples to each other, by name."""
    lowest, highest = similarities.min(), similarities.max()
    return {
        'lowest example': float(lowest),
        'lower by the range': float(lowest - (highest - lowest)),
        'twice as far from 1': float(2 * lowest - 1),
    }


def drop_trials(trials: Sequence[Trial], threshold: float) -> dict[str, str]:
    """Return what each bound does, as text: the share that is described, and the recall lost.

    The best bound is chosen with the truth: the highest that loses MOST_LOST of the recall. No
    rule that has only the examples can describe fewer.

    Parameters
    ----------
    trials : sequence of Trial
        Of a group.
    threshold : float
        The Similarity Threshold.
    """
    described: dict[str, list[np.ndarray]] = {}
    kept: list[np.ndarray] = []
    for trial in trials:
        by_frame = np.concatenate([one.by_frame for one in trial.candidates])
        by_crop = np.concatenate([one.by_crop for one in trial.candidates])
        similarities = measure_similarities(by_frame, average_direction(trial.examples.by_frame))
        final = measure_similarities(by_crop, average_direction(trial.examples.by_crop))
        is_kept = (final >= threshold) & np.concatenate(trial.wanted)
        bounds: Mapping[str, float] = {
            **bound_trial(compare_examples(trial.examples.by_frame)),
            BEST: float(np.quantile(similarities[is_kept], MOST_LOST, method='lower')),
        }
        kept.append(is_kept)
        for name, bound in bounds.items():
            described.setdefault(name, []).append(similarities >= bound)
    is_kept = np.concatenate(kept)
    cells = {'cells': f'{min(trial.cells for trial in trials):.1f}'}
    for name, parts in described.items():
        one = np.concatenate(parts)
        cells[name] = f'{one.mean():.2f}, {1 - one[is_kept].mean():.3f}'
    return cells
