"""How many points lie inside accepted masks: `python -m evaluation.covered`.

A point inside a mask that is already accepted hardly finds a new object. It could be skipped. The
command proposes masks with all points, and counts the points whose cell lies inside the masks. In
the best case exactly these points are skipped. So the count gives a bound on the time that skipping
saves. The command prints Markdown.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np

from demo.dataset import color_picture
from demo.processes import ROOT
from evaluation.__main__ import add_options, cut_corner, write_table
from evaluation.candidates import OCCUPANCY
from evaluation.groups import Group, make_group
from evaluation.jobs import choose_points
from fewshot.images.tiling import plan_tiles
from fewshot.sam.candidates import Candidate
from fewshot.sam.checkpoints import VIT_MINI, Checkpoint
from fewshot.sam.model import load_model
from fewshot.sam.segmenter import SamSegmenter, Segmenter

FAR = 0.5  # of the way from a threshold of the mask generator to 1


def is_far_above(one: Candidate, checkpoint: Checkpoint) -> bool:
    """Return whether both scores of a mask are far above the thresholds of the mask generator."""
    least_iou = checkpoint.pred_iou_thresh + FAR * (1 - checkpoint.pred_iou_thresh)
    least_stability = checkpoint.stability_score_thresh + FAR * (
        1 - checkpoint.stability_score_thresh
    )
    return one.predicted_iou >= least_iou and one.stability_score >= least_stability


def count_covered(masks: Sequence[Candidate], shape: tuple[int, ...], points: int) -> int:
    """Count the points of a grid whose cell lies inside masks.

    Parameters
    ----------
    masks : sequence of Candidate
        A cell may lie in several of them together.
    shape : tuple of int
        Of the frame or tile, (H, W, ...).
    points : int
        Per side.
    """
    covered = np.zeros(shape[:2], bool)
    for one in masks:
        covered[one.box.slices] |= one.mask
    for axis in (0, 1):
        starts = np.arange(points) * shape[axis] // points
        covered = np.logical_and.reduceat(covered, starts, axis=axis)
    return int(covered.sum())


def measure_group(group: Group, segmenter: Segmenter, points: int) -> dict[str, str]:
    """Return the cells of a group's row.

    Parameters
    ----------
    group : Group
    segmenter : Segmenter
    points : int
        Per side of a frame or tile, as the segmenter has them.
    """
    side = int(max(np.ptp(one.outline, axis=0).max() for one in group.examples))
    every = far = asked = 0
    for image in group.images:
        rgb = color_picture(image)
        for tile in plan_tiles(image.shape, group.tile_size, side):
            pixels = rgb[tile.slices] if tile else rgb
            masks = segmenter.propose(pixels, lambda share: None)
            best = [one for one in masks if is_far_above(one, VIT_MINI)]
            every += count_covered(masks, pixels.shape, points)
            far += count_covered(best, pixels.shape, points)
            asked += points**2
    return {
        'points': str(asked),
        'inside masks': f'{every / asked:.0%}',
        'at most faster': f'{asked / (asked - every):.2f}×',
        'inside masks far above the thresholds': f'{far / asked:.0%}',
        'at most faster with these': f'{asked / (asked - far):.2f}×',
    }


def main(
    arguments: Sequence[str] | None = None, make_group: Callable[..., Group] = make_group
) -> None:
    """Read the options, propose masks in all groups, and print the table.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line; that of the process by default.
    make_group : callable
        Returns a group by its name and a seed. Tests pass their own.
    """
    parser = argparse.ArgumentParser(
        prog='python -m evaluation.covered', description=(__doc__ or '').splitlines()[0]
    )
    add_options(parser)
    options = parser.parse_args(arguments)
    model = load_model(VIT_MINI, str(ROOT / 'models' / VIT_MINI.file), 'bfloat16')
    rows = {}
    for name in options.groups:
        group = cut_corner(make_group(name, 0))
        points = choose_points(group, options.points)
        segmenter = SamSegmenter(
            model, VIT_MINI, points_per_side=points, occupancy=OCCUPANCY, whole_frame=True
        )
        rows[name] = measure_group(group, segmenter, points)
    print(write_table(rows))


if __name__ == '__main__':
    main()
