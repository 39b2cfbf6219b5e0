"""The frames to measure on."""

import numpy as np
import pytest
from skimage.draw import polygon2mask

from benchmarks.frames import draw_frame, outline_examples
from demo.__main__ import EXAMPLES


@pytest.mark.parametrize('side', [128, 384, 1024])
def test_the_examples_lie_around_bright_nuclei_at_every_size(side):
    image = draw_frame(side)
    assert image.shape == (side, side)
    assert image.dtype == np.uint16
    examples = outline_examples(side)
    assert len(examples) == EXAMPLES
    for example in examples:
        mask = polygon2mask(image.shape, example.outline[:, ::-1] - 0.5)
        assert mask.sum() == pytest.approx(example.area, rel=0.15)
        assert image[mask].mean() > 1.5 * np.median(image)
