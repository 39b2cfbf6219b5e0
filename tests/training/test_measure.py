import numpy as np
import pytest

from tests.small_model import small_predictor
from training.measure import (
    load_nuclei,
    load_synthetic,
    masks_of,
    measure_calibration,
    measure_points,
    write_calibration,
)


def test_fragments_are_no_objects_to_be_found():
    labels = np.zeros((40, 40), np.int32)
    labels[:10, :10], labels[20:22, 20:22] = 1, 2
    (mask,) = masks_of(labels)
    assert mask.sum() == 100


def test_nuclei_are_shown_with_the_contrast_of_the_demo():
    rgb, labels = load_nuclei()
    assert rgb.shape[:2] == labels.shape
    assert (rgb == 0).mean() < 0.1
    assert 0.001 < (rgb == 255).mean() < 0.003


def test_one_point_finds_most_nuclei_of_the_labelled_image():
    line = measure_points(small_predictor(), [load_nuclei()])
    preferred = float(line.split('preferred ')[1].split()[0])
    assert preferred > 0.5, line


def test_predicted_iou_is_compared_with_the_true_one_by_tenths():
    predictor = small_predictor()
    rgb, labels = load_nuclei()
    tenths = measure_calibration(predictor, [(rgb, labels)])
    assert sum(tenth.share for tenth in tenths) == pytest.approx(1)
    for number, tenth in enumerate(tenths):
        assert 0 <= tenth.true <= 1
        if tenth.share and 0 < number < 9:
            assert number / 10 <= tenth.predicted < number / 10 + 0.1
    # Most points are on the background, where the model promises little
    assert tenths[0].share + tenths[1].share > 0.5
    text = write_calibration(tenths)
    assert text.count('\n') == 11
    assert '| 0.9 to 1.0 |' in text


def test_drawings_are_calibrated():
    """The model card names 0.05 for more drawings."""
    tenths = measure_calibration(small_predictor(), load_synthetic(6))
    for tenth in tenths:
        if tenth.share >= 0.05:
            assert abs(tenth.predicted - tenth.true) < 0.12
