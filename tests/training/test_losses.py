import numpy as np
import pytest
import torch

from training.crops import Points, describe_pixels
from training.losses import OFFSET_UNIT, measure_iou, measure_pixel_loss, measure_point_loss


@pytest.fixture
def points() -> Points:
    """Return a point on an object and one on the background."""
    masks = torch.zeros(2, 3, 8, 8)
    masks[0, :, 2:6, 2:6] = 1
    masks[0, 2, 2:6, :] = 1  # the clump is larger
    return Points(torch.zeros(2, 2), masks, torch.tensor([True, False]))


def test_the_loss_is_smallest_for_the_right_masks_with_the_right_predicted_iou(points):
    right = (points.masks - 0.5) * 40
    true_iou = torch.tensor([[1, 1, 0.5], [0, 0, 0]])
    loss, quality = measure_point_loss(right, true_iou, points)
    assert loss < 0.01
    assert quality.whole == 1
    assert quality.preferred == 1
    assert quality.predicted_on_background == 0
    for worse in [(-right, true_iou), (right, 1 - true_iou)]:
        assert measure_point_loss(*worse, points)[0] > loss + 0.3


def test_points_on_the_background_have_a_true_iou_of_zero(points):
    only_background = Points(*(part[1:] for part in points))
    logits = torch.full((1, 3, 8, 8), -5.0, requires_grad=True)
    loss, _ = measure_point_loss(logits, torch.zeros(1, 3), only_background)
    assert loss == 0
    loss.backward()  # other processes of the training have a gradient here
    assert (logits.grad == 0).all()
    assert measure_point_loss(logits, torch.ones(1, 3), only_background)[0] == 1


def test_the_loss_of_pixels_is_smallest_for_what_is_known():
    labels = np.zeros((32, 32), np.int32)
    labels[4:20, 8:24] = 1
    pixels = describe_pixels(labels)
    right = torch.stack(
        [
            8 * (pixels.is_object - 0.5),
            torch.logit(pixels.edge, eps=0.01),
            pixels.right / OFFSET_UNIT,
            pixels.down / OFFSET_UNIT,
            torch.log(pixels.size / OFFSET_UNIT),
        ]
    )[None]
    batch = type(pixels)(*(one[None] for one in pixels))
    least = measure_pixel_loss(right, batch)
    for number in range(5):
        wrong = right.clone()
        wrong[:, number] += 3
        assert measure_pixel_loss(wrong, batch) > least


def test_iou_of_masks():
    first = torch.tensor([[True, True, False, False]])
    second = torch.tensor([[False, True, True, True]])
    assert measure_iou(first, second) == 0.25
    assert measure_iou(first, first) == 1
    assert measure_iou(first & False, first & False) == 0
