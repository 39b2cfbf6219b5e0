import numpy as np

from tests.small_model import small_predictor
from training.measure import load_nuclei, masks_of, measure_points


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
