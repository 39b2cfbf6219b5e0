from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.utils.amg import remove_small_regions

from fewshot.frames import ensure_rgb
from fewshot.geometry import Box, bound_mask
from fewshot.sam import decoder
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.features import encode_image_with_sam1
from fewshot.sam.masks import pack_mask
from fewshot.sam.model import build_sam
from fewshot.sam.proposals import (
    Candidate,
    clean_mask,
    count_points_at_once,
    has_allowed_area,
    propose_candidates,
    suppress_doubles,
)
from tests.small_model import CENTRES, CHECKPOINT, draw_discs, small_parameters, small_predictor
from tests.worker import REPOSITORY


@pytest.fixture(autouse=True)
def small_model_folder(monkeypatch):
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))


def draw_picture() -> tuple[np.ndarray, np.ndarray]:
    image, labels = draw_discs(CENTRES, radius=14)
    return ensure_rgb(image / image.max()), labels


def cut_nuclei(rows: slice, columns: slice, zoom: float = 1) -> np.ndarray:
    image = tifffile.imread(REPOSITORY / 'tests' / 'data' / 'nuclei.tif')[rows, columns].astype(float)
    image = ndimage.zoom(image, zoom, order=1)
    return ensure_rgb((image / np.percentile(image, 99.8)).clip(0, 1))


def make_candidate(mask: np.ndarray, top: int = 0, left: int = 0) -> Candidate:
    """A candidate whose mask lies at a place of its frame."""
    inner = bound_mask(mask)
    assert inner is not None
    return Candidate(inner.shift(top, left), pack_mask(mask[inner.slices]), int(mask.sum()), 0.9, 0.9)


def propose(rgb: np.ndarray, report=lambda share: None, **changes) -> list[Candidate]:
    predictor = small_predictor()
    features = encode_image_with_sam1(predictor, rgb)
    return propose_candidates(predictor.model, features, rgb.shape, small_parameters(**changes), report)


def place(candidate: Candidate, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape[:2], bool)
    mask[candidate.box.slices] = candidate.mask
    return mask


def test_every_disc_is_among_the_candidates():
    rgb, labels = draw_picture()
    found = [place(candidate, rgb.shape) for candidate in propose(rgb)]
    for number in (1, 2, 3):
        disc = labels == number
        assert max((mask & disc).sum() / (mask | disc).sum() for mask in found) > 0.7


@pytest.mark.parametrize(('rgb', 'min_area'), [
    (draw_picture()[0], 30),
    (draw_picture()[0], 0),
    (cut_nuclei(slice(0, 128), slice(0, 128)), 200),  # many holes and islands are smaller
    (cut_nuclei(slice(200, 270), slice(100, 300)), 30),  # wider than high
    (cut_nuclei(slice(256, 406), slice(0, 90), zoom=3), 30),  # larger than the model's input
], ids=['discs', 'discs, nothing cleaned', 'nuclei', 'wide', 'large'])
def test_the_candidates_are_the_stock_generators_masks_in_its_order(rgb, min_area):
    model = build_sam(VIT_MINI)  # as published, nothing of the worker's in it
    model.load_state_dict(torch.load(CHECKPOINT, weights_only=True))
    stock = SamAutomaticMaskGenerator(
        model, points_per_side=16, min_mask_region_area=min_area, pred_iou_thresh=VIT_MINI.pred_iou_thresh,
        stability_score_thresh=VIT_MINI.stability_score_thresh, box_nms_thresh=VIT_MINI.box_nms_thresh,
        crop_nms_thresh=VIT_MINI.box_nms_thresh).generate(rgb)
    found = propose(rgb, **{'Min Mask Area': min_area})
    assert len(found) == len(stock) > 2
    for candidate, record in zip(found, stock, strict=True):
        mask, expected = place(candidate, rgb.shape), record['segmentation']
        assert (mask & expected).sum() / (mask | expected).sum() >= 0.999
        assert candidate.area == mask.sum() and candidate.box == bound_mask(mask)
        assert candidate.predicted_iou == pytest.approx(record['predicted_iou'], abs=1e-4)
        assert candidate.stability_score == pytest.approx(record['stability_score'], abs=1e-3)


def test_progress_moves_while_masks_are_proposed():
    shares: list[float] = []
    propose(draw_picture()[0], shares.append, **{'Points per side': 20})
    assert len(shares) == 7 and shares == sorted(shares) and shares[-1] == 1


def test_black_frame_is_one_candidate():
    candidate, = propose(np.zeros((100, 60, 3), np.uint8))
    assert candidate.box == Box(0, 0, 100, 60) and candidate.mask.all()


def test_noise_has_no_candidates():
    assert propose(np.random.default_rng(0).integers(0, 255, (100, 60, 3)).astype(np.uint8)) == []


def test_when_the_gpu_is_full_fewer_points_are_asked_at_a_time_and_nothing_is_lost(monkeypatch):
    rgb, _ = draw_picture()
    expected = propose(rgb)
    sizes = []

    def fill_up(model, ground, points):  # a GPU that runs out of memory cannot be had in a test
        sizes.append(len(points))
        if len(points) > 16:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return ask(model, ground, points)

    ask = decoder.ask_points
    monkeypatch.setattr(decoder, 'ask_points', fill_up)
    with pytest.warns(RuntimeWarning, match='memory of the GPU is short'):
        found = propose(rgb)
    assert sizes[:3] == [64, 32, 16] and sizes[2:18] == [16] * 16  # 256 points, and then those chosen
    assert [one.box for one in found] == [one.box for one in expected]


def test_a_gpu_that_cannot_hold_one_point_is_an_error(monkeypatch):
    def fill_up(*arguments):
        raise torch.OutOfMemoryError('CUDA out of memory')

    monkeypatch.setattr(decoder, 'ask_points', fill_up)
    with pytest.warns(RuntimeWarning), pytest.raises(torch.OutOfMemoryError):
        propose(draw_picture()[0])


@pytest.mark.parametrize(('features', 'count'), [((1, 128, 16, 16), 64), ((1, 256, 64, 64), 4), ((1, 8, 999, 999), 1)])
def test_a_cpu_is_asked_as_many_points_as_its_cache_can_hold(features, count):
    assert count_points_at_once(torch.empty(features)) == count


@pytest.mark.parametrize(('free', 'count'), [(2 ** 40, 128), (2 ** 32, 32), (2 ** 20, 1)])
def test_a_gpu_is_asked_as_many_points_as_its_free_memory_can_hold(monkeypatch, free, count):
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (free, 2 ** 41))  # no GPU here
    assert count_points_at_once(torch.empty(1, 256, 64, 64, device='meta')) == count


@pytest.mark.parametrize(('low', 'high', 'allowed'), [
    (0, 0, True), (12, 0, True), (13, 0, False), (0, 12, True), (0, 11, False), (12, 12, True)])
def test_a_candidate_is_kept_within_both_area_limits_included(low, high, allowed):
    candidate = make_candidate(np.arange(16).reshape(4, 4) < 12)
    assert candidate.area == 12
    assert has_allowed_area(candidate, SimpleNamespace(min_area=low, max_area=high)) is allowed


def test_of_two_boxes_in_almost_the_same_place_the_better_stays():
    boxes = [Box(0, 0, 10, 10), Box(1, 0, 11, 10), Box(30, 30, 40, 40)]
    assert suppress_doubles(boxes, [0.6, 0.9, 0.7], 0.7) == [1, 2]
    assert suppress_doubles(boxes, [0.6, 0.9, 0.7], 0.9) == [1, 2, 0]
    assert suppress_doubles([], [], 0.7) == []


@settings(max_examples=200)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)), fill=st.nothing()), st.integers(0, 3),
       st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(1, 20))
def test_holes_and_islands_are_cleaned_as_in_the_full_frame(mask, top, bottom, left, right, min_area):
    mask[0, 0] = True  # something must be there
    frame = np.pad(mask, ((top, bottom), (left, right)))
    filled, had_holes = remove_small_regions(frame, min_area, 'holes')
    expected, had_islands = remove_small_regions(filled, min_area, 'islands')
    candidate = make_candidate(mask, top, left)
    cleaned = clean_mask(candidate, frame.shape, min_area)
    assert (cleaned is candidate) == (not had_holes and not had_islands)
    np.testing.assert_array_equal(place(cleaned, frame.shape), expected)
    assert cleaned.box == bound_mask(expected) and cleaned.area == expected.sum()
