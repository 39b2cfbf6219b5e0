"""Show the effect of three counter-examples: `python -m evaluation.counter_examples FILE`.

The module follows a user who has chosen neither a threshold nor area limits. It runs the job on the
demo's image with the defaults, sorts the found objects by similarity, tags the first three that are
not nuclei, and runs the job again. It prints both results and draws them side by side.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from demo.__main__ import SMALL_MODEL
from demo.dataset import Example, forget_examples, read_image
from demo.picture import INK, draw_picture
from demo.scoring import rasterise, score
from evaluation.groups import show_nuclei
from evaluation.jobs import (
    COUNTER_EXAMPLES,
    COUNTER_TAG,
    COUNTERED,
    DEFAULTS,
    POINTS,
    POINTS_SIDE,
    Lab,
    running_lab,
)

# A part of a nucleus differs from a whole one by its surroundings. So the occupancy is low, which
# leaves more room for the surroundings in a crop.
SETTINGS = {
    'Similarity Threshold': 0.5,
    'Target Occupancy': 0.10,
    'Min Mask Area': 30,
    'Max Mask Area': 0,
}
GAP = 8  # between the pictures, pixels


def sort_by_similarity(lab: Lab, way: str) -> list[int]:
    """Return the numbers of the objects that a job found, the least similar first."""
    values = lab.store.client.get(
        'annotation_property_values', parameters={'datasetId': lab.datasetId, 'limit': 0}
    )
    similarity = {}
    for one in values:
        for scores in one['values'].values():
            similarity[one['annotationId']] = scores['Similarity']
    (found,) = lab.polygons(way)
    return sorted(range(len(found)), key=lambda number: similarity[found[number]['_id']])


def draw_pair(pictures: Sequence[Image.Image]) -> Image.Image:
    """Put pictures of one size side by side, at half that size.

    The result has a palette, which makes the file small.
    """
    width, height = pictures[0].width // 2, pictures[0].height // 2
    page = Image.new('RGB', (width * len(pictures) + GAP * (len(pictures) - 1), height), INK)
    for number, picture in enumerate(pictures):
        small = picture.resize((width, height), Image.Resampling.LANCZOS)
        page.paste(small, ((width + GAP) * number, 0))
    # MAXCOVERAGE keeps rare colours, for example those of the outlines
    return page.quantize(256, Image.Quantize.MAXCOVERAGE)


def main(
    arguments: Sequence[str] | None = None, nuclei: tuple[np.ndarray, np.ndarray] | None = None
) -> None:
    """Run both jobs, print the scores, and write the picture.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line; that of the process by default.
    nuclei : tuple of (H, W) ndarray, optional
        An image and its labels; those of the demo by default.
    """
    parser = argparse.ArgumentParser(
        prog='python -m evaluation.counter_examples', description=(__doc__ or '').splitlines()[0]
    )
    parser.add_argument('file', type=Path, help='PNG file to write')
    parser.add_argument(
        '--points',
        type=int,
        default=POINTS,
        help=f'points per side of a picture of {POINTS_SIDE} pixels (default: {POINTS})',
    )
    options = parser.parse_args(arguments)
    image, labels = nuclei or read_image()
    group = show_nuclei(image, labels)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_lab(Path(folder), group, points=options.points) as lab,
    ):
        others = forget_examples(labels, lab.examples)
        (found,) = lab.run(DEFAULTS, **SETTINGS)
        result = score(found, others, lab.smallest)
        wrong = [number for number in sort_by_similarity(lab, DEFAULTS) if number in result.wrong]
        tagged = []
        for number in wrong[:COUNTER_EXAMPLES]:
            area = int(rasterise(found[number], labels.shape).sum())
            tagged.append(Example(area, found[number]))
        lab.upload(tagged, COUNTER_TAG)
        (better,) = lab.run(COUNTERED, **SETTINGS, **{'Negative Tag': [COUNTER_TAG]})
    ways = (found, result, ()), (better, score(better, others, lab.smallest), tagged)
    for _, result, shown in ways:
        print(
            f'{len(shown)} counter-examples: {len(result.right)} nuclei found, '
            f'{len(result.wrong)} other objects found, {len(result.missed)} nuclei missed'
        )
    pictures = [
        draw_picture(image, labels, lab.examples, outlines, result, SMALL_MODEL, shown)
        for outlines, result, shown in ways
    ]
    draw_pair(pictures).save(options.file, optimize=True)


if __name__ == '__main__':
    main()
