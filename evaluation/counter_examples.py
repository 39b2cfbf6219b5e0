"""What three counter-examples do in the demo's image: `python -m evaluation.counter_examples FILE`.

Does what a user does who has no threshold yet: runs the job with the threshold as it comes, sorts what was found by
similarity, tags the first three that are no nuclei, and runs it again. Prints both results and draws them side by side.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from demo.__main__ import SMALL_MODEL, SMALLEST
from demo.dataset import Example, forget_examples, read_image
from demo.picture import INK, draw_picture
from demo.scoring import rasterise, score
from evaluation.groups import cut_group
from evaluation.jobs import (
    COUNTER_EXAMPLES,
    COUNTER_TAG,
    COUNTERED,
    DEFAULTS,
    POINTS,
    Lab,
    running_lab,
)

# a piece of a nucleus differs from a whole one in its surroundings, so there are more of them in a crop than usual
SETTINGS = {'Similarity Threshold': 0.5, 'Target Occupancy': 0.10, 'Min Mask Area': SMALLEST}
GAP = 8  # between the pictures, pixels


def sort_by_similarity(lab: Lab, way: str) -> list[tuple[int, int]]:
    """What a job found, (picture, index in the picture) each, least like the examples first."""
    values = lab.store.client.get(
        'annotation_property_values', parameters={'datasetId': lab.datasetId, 'limit': 0}
    )
    similarity = {
        one['annotationId']: scores['Similarity']
        for one in values
        for scores in one['values'].values()
    }
    places = [
        (similarity[annotation['_id']], picture, index)
        for picture, found in enumerate(lab.polygons(way))
        for index, annotation in enumerate(found)
    ]
    return [(picture, index) for _, picture, index in sorted(places)]


def draw_pair(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size side by side, at half that size, in a palette, which keeps the file small."""
    width, height = pictures[0].width // 2, pictures[0].height // 2
    page = Image.new('RGB', (width * len(pictures) + GAP * (len(pictures) - 1), height), INK)
    for number, picture in enumerate(pictures):
        page.paste(
            picture.resize((width, height), Image.Resampling.LANCZOS), ((width + GAP) * number, 0)
        )
    return page.quantize(
        256, Image.Quantize.MAXCOVERAGE
    )  # keeps rare colours, those of the outlines


def main(
    arguments: Sequence[str] | None = None, nuclei: tuple[np.ndarray, np.ndarray] | None = None
) -> None:
    """Run both jobs, print the scores, write the picture.

    Parameters
    ----------
    nuclei : tuple of (H, W) ndarray, optional
        An image and its labels; those of the demo if not given.
    """
    parser = argparse.ArgumentParser(
        prog='python -m evaluation.counter_examples', description=(__doc__ or '').splitlines()[0]
    )
    parser.add_argument('file', type=Path, help='the picture to write, a PNG')
    parser.add_argument(
        '--points', type=int, default=POINTS, help=f'points per side (default: {POINTS})'
    )
    options = parser.parse_args(arguments)
    image, labels = nuclei or read_image()
    group = cut_group(image, labels)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_lab(Path(folder), group, points=options.points) as lab,
    ):
        counted = forget_examples(group.labels, lab.examples)
        found = lab.run(DEFAULTS, **SETTINGS)
        result = score(found, counted, SMALLEST)
        wrong = [place for place in sort_by_similarity(lab, DEFAULTS) if place in result.wrong][
            :COUNTER_EXAMPLES
        ]
        tagged = [
            Example(picture, int(rasterise(outline, group.labels[picture].shape).sum()), outline)
            for picture, outline in ((picture, found[picture][index]) for picture, index in wrong)
        ]
        lab.upload(tagged, COUNTER_TAG)
        better = lab.run(COUNTERED, **SETTINGS, **{'Negative Tag': [COUNTER_TAG]})
    ways = (found, result, ()), (better, score(better, counted, SMALLEST), tagged)
    for _, result, shown in ways:
        print(
            f'{len(shown)} counter-examples: {len(result.right)} nuclei, {len(result.wrong)} that are none, '
            f'{len(result.missed)} missed'
        )
    draw_pair(
        [
            draw_picture(image, group.labels, lab.examples, outlines, result, SMALL_MODEL, shown)
            for outlines, result, shown in ways
        ]
    ).save(options.file, optimize=True)


if __name__ == '__main__':
    main()
