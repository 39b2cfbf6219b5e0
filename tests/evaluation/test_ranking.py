"""The area under the ROC curve is the share of right pairs, and arrows mark clear differences."""

import numpy as np
import pytest

from evaluation.candidates import Objects, Trial
from evaluation.dropping import BEST, drop_trials
from evaluation.ranking import (
    BETTER,
    SCORES,
    SPECIFIED,
    WORSE,
    count_pairs,
    mark,
    rank_trials,
    score_mean,
    score_several,
    score_three,
)

EXAMPLES = np.array([(1, 0, 0), (1, 0.1, 0), (1, 0, 0.1)], np.float32)


def make_objects(by_crop: np.ndarray, by_frame: np.ndarray | None = None) -> Objects:
    vectors = np.asarray(by_crop, np.float32)
    return Objects([], vectors, vectors if by_frame is None else np.asarray(by_frame, np.float32))


def make_trial(*frames: tuple[list[tuple[float, ...]], list[bool]]) -> Trial:
    """Return a trial with these vectors of each frame, and whether the candidates are wanted."""
    return Trial(
        make_objects(EXAMPLES),
        [make_objects(np.reshape(vectors, (-1, 3))) for vectors, _ in frames],
        [np.array(wanted, bool) for _, wanted in frames],
        cells=2.0,
    )


def first_number(frames, examples):
    """Score a candidate by its first number."""
    return np.concatenate(frames)[:, 0]


def test_pairs_are_counted_by_frame():
    trial = make_trial(
        ([(3, 0, 0), (1, 0, 0)], [True, False]),
        ([(1, 0, 0), (2, 0, 0), (4, 0, 0)], [True, False, False]),
        ([], []),
    )
    right, pairs = count_pairs([trial], first_number)
    assert pairs.tolist() == [[1, 2, 0], [1, 2, 0], [0, 0, 0]]
    assert right.tolist() == [[1, 1, 0], [0.5, 0, 0], [0, 0, 0]]


def test_pairs_of_two_seeds_are_never_compared():
    trial = make_trial(([(3, 0, 0), (1, 0, 0)], [True, False]))
    right, pairs = count_pairs([trial, trial], first_number)
    assert right.tolist() == pairs.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(('sign', 'expected'), [(1, BETTER), (-1, WORSE), (0, '')])
def test_a_difference_is_marked_if_most_frames_have_it(sign, expected):
    pairs = np.full((20, 20), 4.0)
    noise = np.random.default_rng(1).normal(0, 0.5, (20, 20))
    assert mark(sign * pairs + noise, pairs) == expected


def test_a_difference_of_one_frame_among_many_is_noise():
    pairs = np.eye(20) * 10
    difference = np.zeros((20, 20))
    difference[3, 3] = 10
    assert mark(difference, pairs) == ''


def test_scores_rank_what_their_names_say():
    rng = np.random.default_rng(0)
    like = EXAMPLES[rng.integers(0, 3, 12)] + rng.normal(0, 0.01, (12, 3))
    other = np.array([0.6, 0.8, 0]) + rng.normal(0, 0.01, (12, 3))
    vectors, wanted = np.concatenate([like, other]), [True] * 12 + [False] * 12
    cells = rank_trials([make_trial((vectors.tolist(), wanted))])
    assert list(cells) == ['wanted', *SCORES]
    assert cells.pop('wanted') == '12 of 24'
    assert cells[SPECIFIED] == '1.000'
    assert all(cell.startswith('1.000') for cell in cells.values())


def test_a_group_without_other_candidates_has_no_rank():
    cells = rank_trials([make_trial(([(1, 0, 0), (1, 0.1, 0)], [True, True]), ([], []))])
    assert cells.pop('wanted') == '2 of 2'
    assert set(cells.values()) == {'-'}


def test_candidates_are_centred_only_in_frames_with_several_kinds():
    one_kind = EXAMPLES * 2
    several = np.concatenate([EXAMPLES, EXAMPLES[:, [1, 0, 2]]])
    scores = score_several([one_kind, several, several[:0]], EXAMPLES)
    assert scores[:3] == pytest.approx(score_three([one_kind], EXAMPLES))
    assert scores[3:6].min() > 0.9  # the wanted
    assert scores[6:].max() < -0.9  # the others, which are on the other side of the centre
    assert score_mean([several], EXAMPLES)[3:].min() > 0  # else they are on the same side


def test_a_bound_drops_what_is_below_it():
    near, far, between = (1, 0, 0), (0, 1, 0), (1, 0.16, 0)
    frame = make_objects(np.tile(near, (4, 1)), np.array([near, near, between, far]))
    wanted = np.array([True, True, False, False])
    cells = drop_trials([Trial(make_objects(EXAMPLES), [frame], [wanted], 2.0)], 0.5)
    assert cells.pop('cells') == '2.0'
    assert cells == {
        'lowest example': '0.50, 0.000',  # the two that are as similar as the examples
        'lower by the range': '0.75, 0.000',
        'twice as far from 1': '0.75, 0.000',
        BEST: '0.50, 0.000',
    }

    wanted = np.array([True, True, True, True])
    cells = drop_trials([Trial(make_objects(EXAMPLES), [frame], [wanted], 2.0)], 0.5)
    assert cells['lowest example'] == '0.50, 0.500'
    assert cells[BEST] == '1.00, 0.000'
