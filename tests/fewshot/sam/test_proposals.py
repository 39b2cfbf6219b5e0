import numpy as np
import pytest
import tifffile
import torch
from scipy import ndimage
from segment_anything import SamAutomaticMaskGenerator

from fewshot.geometry import bound_mask
from fewshot.images.layers import ensure_rgb
from fewshot.sam.candidates import Candidate
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.cleaning import clean_mask, select_cleaned
from fewshot.sam.features import encode_image_with_sam1
from fewshot.sam.model import build_sam
from fewshot.sam.proposals import CELLS_PER_BATCH, count_points_at_once, propose_candidates
from tests.fewshot.sam.drawing import place
from tests.small_model import CENTRES, CHECKPOINT, GRID, draw_discs, small_predictor
from tests.worker import REPOSITORY

POINTS = 16  # per side: one on each object, because each takes time


def draw_frame() -> tuple[np.ndarray, np.ndarray]:
    """Draw three discs: (SIDE, SIDE, 3) uint8, and their labels."""
    image, labels = draw_discs(CENTRES, radius=14)
    return ensure_rgb(image / image.max()), labels


def read_nuclei(rows: slice, columns: slice, zoom: float = 1) -> np.ndarray:
    """Read a part of the test image: (H, W, 3) uint8."""
    image = tifffile.imread(REPOSITORY / 'tests' / 'data' / 'nuclei.tif')[rows, columns]
    image = ndimage.zoom(image.astype(float), zoom, order=1)
    return ensure_rgb((image / np.percentile(image, 99.8)).clip(0, 1))


def propose(
    rgb: np.ndarray, points_per_side: int = POINTS, min_area: int = 30, report=lambda share: None
) -> list[Candidate]:
    """Propose candidates by the small model, and clean them."""
    predictor = small_predictor()
    proposed = propose_candidates(
        predictor.model,
        encode_image_with_sam1(predictor, rgb),
        rgb.shape,
        VIT_MINI,
        points_per_side=points_per_side,
        report=report,
    )
    if not min_area:
        return proposed
    cleaned = [clean_mask(one, rgb.shape, min_area) for one in proposed]
    return [
        cleaned[number] for number in select_cleaned(proposed, cleaned, VIT_MINI.box_nms_thresh)
    ]


def test_every_disc_is_proposed():
    rgb, labels = draw_frame()
    found = [place(candidate, rgb.shape) for candidate in propose(rgb)]
    for number in (1, 2, 3):
        disc = labels == number
        assert max((mask & disc).sum() / (mask | disc).sum() for mask in found) > 0.7


@pytest.mark.parametrize(
    ('rgb', 'min_area'),
    [
        pytest.param(draw_frame()[0], 30, id='discs'),
        pytest.param(draw_frame()[0], 0, id='nothing cleaned'),
        pytest.param(read_nuclei(slice(128), slice(128)), 200, id='many small holes'),
        pytest.param(read_nuclei(slice(200, 270), slice(100, 300)), 30, id='wide'),
        pytest.param(read_nuclei(slice(250, 450), slice(100, 200), zoom=3), 30, id='large'),
    ],
)
def test_candidates_are_those_of_the_stock_generator(rgb, min_area):
    stock_model = build_sam(VIT_MINI)
    stock_model.load_state_dict(torch.load(CHECKPOINT, weights_only=True))
    stock = SamAutomaticMaskGenerator(
        stock_model,
        points_per_side=POINTS,
        min_mask_region_area=min_area,
        pred_iou_thresh=VIT_MINI.pred_iou_thresh,
        stability_score_thresh=VIT_MINI.stability_score_thresh,
        box_nms_thresh=VIT_MINI.box_nms_thresh,
        crop_nms_thresh=VIT_MINI.box_nms_thresh,
    )
    records = stock.generate(rgb)
    candidates = propose(rgb, min_area=min_area)
    assert len(candidates) == len(records) > 2
    for candidate, record in zip(candidates, records, strict=True):
        mask, expected = place(candidate, rgb.shape), record['segmentation']
        assert (mask & expected).sum() / (mask | expected).sum() >= 0.999
        assert candidate.area == mask.sum()
        assert candidate.box == bound_mask(mask)
        assert candidate.predicted_iou == pytest.approx(record['predicted_iou'], abs=1e-4)
        assert candidate.stability_score == pytest.approx(record['stability_score'], abs=1e-3)


def test_progress_is_reported_after_each_batch():
    shares: list[float] = []
    propose(draw_frame()[0], points_per_side=9, report=shares.append)
    size = CELLS_PER_BATCH // GRID**2
    assert shares == [min(done, 81) / 81 for done in range(size, 81 + size, size)]


def test_a_black_frame_has_no_candidates():
    assert propose(np.zeros((100, 60, 3), np.uint8)) == []


def test_masks_of_noise_have_a_low_predicted_iou():
    """The model card says so. Objects have 0.8 and more."""
    frame = np.random.default_rng(0).integers(0, 255, (100, 60, 3)).astype(np.uint8)
    candidates = propose(frame)
    assert all(candidate.predicted_iou < 0.65 for candidate in candidates)
    assert max(candidate.predicted_iou for candidate in propose(draw_frame()[0])) > 0.8


@pytest.mark.parametrize(
    ('shape', 'count'), [((1, 128, 16, 16), 64), ((1, 256, 64, 64), 4), ((1, 8, 999, 999), 1)]
)
def test_batch_on_a_cpu_fits_its_cache(shape, count):
    assert count_points_at_once(torch.empty(shape)) == count


@pytest.mark.parametrize(('free_memory', 'count'), [(2**40, 128), (2**32, 32), (2**20, 1)])
def test_batch_on_a_gpu_fits_its_free_memory(free_memory, count):
    image_embedding = torch.empty(1, 256, 64, 64, device='meta')
    assert count_points_at_once(image_embedding, free_memory) == count
