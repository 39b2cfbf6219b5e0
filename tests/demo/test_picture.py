"""The picture of the result."""

import numpy as np
from PIL import ImageColor

from demo.dataset import Example, outline
from demo.picture import ABOVE, COUNTER, EXAMPLE, MISSED, RIGHT, WRONG, ZOOM, draw_picture
from demo.scoring import score


def test_the_picture_shows_each_outcome_in_its_colour_and_place():
    nucleus, missed, wrong, counter = np.zeros((4, 128, 128), bool)
    nucleus[10:30, 10:30] = missed[99:119, 99:119] = True
    wrong[5:15, 109:119] = counter[84:104, 20:40] = True
    labels = np.zeros((128, 128), np.uint16)
    labels[nucleus], labels[missed] = 1, 2
    found = [outline(nucleus), outline(wrong)]
    image = np.random.default_rng(1).integers(0, 200, (128, 128)).astype(np.uint16)
    result = score(found, labels, smallest=30)
    picture = draw_picture(
        image,
        labels,
        [Example(400, outline(nucleus))],
        found,
        result,
        'm',
        [Example(400, outline(counter))],
    )
    pixels = np.array(picture)
    assert pixels.shape[1] == 128 * ZOOM
    for colour, centre, reach in [
        (RIGHT, (20, 20), 11),
        (EXAMPLE, (20, 20), 12),
        (WRONG, (114, 10), 6),
        (MISSED, (109, 109), 11),
        (COUNTER, (30, 94), 12),
    ]:
        rows, columns = np.nonzero(
            (pixels[ABOVE : ABOVE + 128 * ZOOM] == ImageColor.getrgb(colour)).all(axis=-1)
        )
        assert len(rows) > 50
        assert abs(columns.mean() / ZOOM - centre[0]) < 1
        assert abs(rows.mean() / ZOOM - centre[1]) < 1
        assert np.ptp(columns) / ZOOM / 2 <= reach
