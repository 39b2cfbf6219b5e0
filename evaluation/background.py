"""The time that skipping points on the background saves, see `fewshot.sam.background`."""

import time

from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from demo.dataset import color_picture
from evaluation.groups import Group
from fewshot.images.tiling import plan_tiles
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.features import encode_image_with_sam1
from fewshot.sam.proposals import propose_candidates

OBJECT_SIDE = 30  # for the overlap of tiles, pixels


def time_group(group: Group, model: Sam, points: int) -> dict[str, str]:
    """Return the seconds to propose the candidates of a group in both ways, and their ratio.

    Both include the encoding of each picture or tile.
    """
    predictor = SamPredictor(model)
    seconds = {False: 0.0, True: 0.0}
    for image in group.images:
        rgb = color_picture(image)
        for tile in plan_tiles(rgb.shape, group.tile_size, OBJECT_SIDE):
            pixels = rgb[tile.slices] if tile else rgb
            for skip_background in seconds:
                start = time.process_time()
                propose_candidates(
                    model,
                    encode_image_with_sam1(predictor, pixels),
                    pixels.shape,
                    VIT_MINI,
                    points_per_side=points,
                    report=lambda share: None,
                    skip_background=skip_background,
                )
                seconds[skip_background] += time.process_time() - start
    return {
        'seconds with all points': f'{seconds[False]:.1f}',
        'without those on the background': f'{seconds[True]:.1f}',
        'times faster': f'{seconds[False] / seconds[True]:.1f}',
    }
