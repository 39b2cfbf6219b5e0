"""How the Similarity Threshold divides candidates into wanted and others.

The small model's threshold in the demo was chosen from the groups of drawings.
"""

from collections.abc import Sequence

import numpy as np

from evaluation.candidates import Trial
from fewshot.matching.prototype import average_direction, measure_similarities

THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def divide_trials(trials: Sequence[Trial]) -> dict[str, str]:
    """Return the F1 of the kept candidates at each threshold, as text.

    A candidate is right if it is kept and wanted, wrong if it is kept and not wanted, and missed if
    it is wanted and not kept.

    Parameters
    ----------
    trials : sequence of Trial
        Of a group.
    """
    similarities, wanted = [], []
    for trial in trials:
        middle = average_direction(trial.examples.by_crop)
        for frame, is_wanted in zip(trial.candidates, trial.wanted, strict=True):
            similarities.append(measure_similarities(frame.by_crop, middle))
            wanted.append(is_wanted)
    all_similarities, all_wanted = np.concatenate(similarities), np.concatenate(wanted)
    cells = {}
    for threshold in THRESHOLDS:
        is_kept = all_similarities >= threshold
        right = int((is_kept & all_wanted).sum())
        f1 = 2 * right / max(1, int(is_kept.sum()) + int(all_wanted.sum()))
        cells[f'{threshold}'] = f'{f1:.2f}'
    return cells
