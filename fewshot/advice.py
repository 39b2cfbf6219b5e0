"""What a user should know about the settings of a job, reckoned from the examples and from what was found.

Each warning is a pair, (message, info); None says that there is nothing to say.
"""
import math
from collections.abc import Sequence

import numpy as np

from fewshot.geometry import CutMask
from fewshot.parameters import Parameters
from fewshot.tally import Tally, count

Advice = tuple[str, str] | None
SMALLEST_IN_FRAME = 32  # two cells of the feature grid, pixels of the model's input
SMALLEST_TO_PROPOSE = 12  # pixels of the model's input; what is smaller SAM rarely outlines
COMFORTABLE = 24  # likewise; what the proposed Tile Size makes of the median example
LEAST_SPREAD = 0.02  # of the examples' similarities; a few alike examples do not make a strict threshold
NARROW = 0.1  # between threshold and examples; a wider gap lets everything through


def advise_on_examples(objects: Sequence[CutMask], scale: float, parameters: Parameters) -> list[tuple[str, str]]:
    """The warnings of examples that do not fit the settings.

    `scale` is pixels of the model's input for one of the frame.
    """
    every = (advise_on_source(objects, scale, parameters), advise_on_size(objects, scale, parameters),
             advise_on_areas(objects, parameters))
    return [found for found in every if found]


def advise_on_source(objects: Sequence[CutMask], scale: float, parameters: Parameters) -> Advice:
    """When the examples are too small to be described in the whole frame."""
    small = sum(scale * max(one.mask.shape) < SMALLEST_IN_FRAME for one in objects)
    if not (parameters.whole_frame and small):
        return None
    return (f'{small} of {len(objects)} examples are small for the Feature Source whole frame',
            f'The model sees the frame shrunk to {parameters.checkpoint.input_size} pixels, and these examples at less '
            f'than {SMALLEST_IN_FRAME}, so that what it says of them is largely about their surroundings. Choose '
            'object crops if wrong objects are kept.')


def advise_on_size(objects: Sequence[CutMask], scale: float, parameters: Parameters) -> Advice:
    """When SAM sees the objects too small to outline them; proposes a Tile Size."""
    width = float(np.median([min(one.mask.shape) for one in objects]))
    if scale * width >= SMALLEST_TO_PROPOSE:
        return None
    longest = max(max(one.mask.shape) for one in objects)
    size = max(parameters.checkpoint.input_size * width / COMFORTABLE, 4 * longest)
    size = min(64 * math.ceil(size / 64), 4096)
    return (f'The objects are small for SAM in so large a picture: a Tile Size of {size} would show them larger',
            f'The median example is {width:.0f} pixels wide, of which SAM sees {scale * width:.0f}; it needs about '
            f'{SMALLEST_TO_PROPOSE}. Set Tile Size to {size} to search the frame in tiles.')


def advise_on_areas(objects: Sequence[CutMask], parameters: Parameters) -> Advice:
    """When the area limits shut out the user's own examples."""
    areas = [int(one.mask.sum()) for one in objects]
    outside = sum(not parameters.min_area <= area <= (parameters.max_area or area) for area in areas)
    if not outside:
        return None
    return (f'{outside} of {len(areas)} examples lie outside Min and Max Mask Area',
            f'Objects like them will be left out. The examples have {min(areas)} to {max(areas)} pixels: Min Mask Area '
            f'{min(areas)} or less and Max Mask Area {max(areas)} or more would not shut them out.')


def advise_on_threshold(examples: Sequence[float], tally: Tally, parameters: Parameters) -> Advice:
    """When the threshold let every candidate pass and stands far below the examples.

    Proposes the lowest example less the spread of the examples, or LEAST_SPREAD, so that objects as different from them
    as they are from each other pass. Fewer than three examples say nothing about spread.

    Parameters
    ----------
    examples : similarity of each example to the prototype of the others
    """
    passed_all = tally.in_area and tally.unlike == 0
    if not passed_all or len(examples) < 3 or min(examples) - parameters.threshold <= NARROW:
        return None
    spread = max(max(examples) - min(examples), LEAST_SPREAD)
    proposed = math.floor(100 * max(min(examples) - spread, parameters.threshold)) / 100
    if proposed <= parameters.threshold:
        return None
    return (f'Similarity Threshold {parameters.threshold:g} let every candidate pass: try {proposed:.2f}',
            f'The examples are {min(examples):.2f} to {max(examples):.2f} like each other, and the '
            f'{count(tally.in_area, "candidate")} were compared with them. {proposed:.2f} is the lowest example less '
            f'their spread ({spread:.2f}, and no less than {LEAST_SPREAD}). Filtering the object list by the scores '
            'needs no second run.')
