"""Draw the result: the image, the objects found in it, and the missed nuclei."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from demo.dataset import BLACK, WHITE, Example, outline
from demo.scoring import IOU, Score

ZOOM = 3
MARGIN = 24  # left of the text, pixels
ABOVE, BELOW = 138, 74  # height of the title and of the legend, pixels
EXAMPLE, COUNTER, RIGHT, WRONG, MISSED = '#FFD60A', '#B98CFF', '#2EE6A6', '#FF8C42', '#FF4D8D'
PAPER, INK, FAINT = '#12161C', '#F2F4F7', '#A4ADB8'


def stretch(image: np.ndarray) -> Image.Image:
    """Return an (H, W) image as grey values from its black to its white percentile, enlarged."""
    low, high = np.percentile(image, [BLACK, WHITE])
    # the exponent makes dim nuclei visible; the worker gets the image without it
    grey = np.clip((image.astype(float) - low) / (high - low), 0, 1) ** 0.6
    size = image.shape[1] * ZOOM, image.shape[0] * ZOOM
    picture = Image.fromarray((grey * 255).astype(np.uint8))
    return picture.resize(size, Image.Resampling.BICUBIC).convert('RGB')


def draw_outline(draw: ImageDraw.ImageDraw, points: np.ndarray, colour: str, width: int) -> None:
    """Draw a closed outline.

    Parameters
    ----------
    draw : ImageDraw
    points : (N, 2) ndarray
        x and y.
    colour : str
    width : int
        Pixels of the picture.
    """
    placed = [tuple(point) for point in points * ZOOM]
    draw.line([*placed, placed[0], placed[1]], fill=colour, width=width, joint='curve')


def draw_picture(
    image: np.ndarray,
    labels: np.ndarray,
    examples: Sequence[Example],
    found: list[np.ndarray],
    score: Score,
    model: str,
    counterexamples: Sequence[Example] = (),
) -> Image.Image:
    """Draw the image with all outlines, a title and a legend.

    Parameters
    ----------
    image : (H, W) ndarray
    labels : (H, W) ndarray
    examples : sequence of Example
    found : list of (N, 2) ndarray
        The outlines, x and y.
    score : Score
        Of the outlines.
    model : str
        Name of the model.
    counterexamples : sequence of Example
    """
    picture = stretch(image)
    draw = ImageDraw.Draw(picture)
    for shown, colour in ((examples, EXAMPLE), (counterexamples, COUNTER)):
        for example in shown:  # wide, so it is visible beside the outline of a found object
            draw_outline(draw, example.outline, colour, 9)
    for number in score.missed:
        draw_outline(draw, outline(labels == number), MISSED, 3)
    for outcome, colour in ((score.wrong, WRONG), (score.right, RIGHT)):
        for number in outcome:
            draw_outline(draw, found[number], colour, 3)
    return add_caption(picture, score, len(examples), len(counterexamples), model)


def add_caption(
    picture: Image.Image,
    score: Score,
    examples: int,
    counterexamples: int,
    model: str,
) -> Image.Image:
    """Put the title above the picture and the legend below it.

    Parameters
    ----------
    picture : Image
    score : Score
    examples, counterexamples : int
        How many there are.
    model : str
        Name of the model.
    """
    title, text = ImageFont.load_default(44), ImageFont.load_default(27)
    page = Image.new('RGB', (picture.width, ABOVE + picture.height + BELOW), PAPER)
    page.paste(picture, (0, ABOVE))
    draw = ImageDraw.Draw(page)
    others = len(score.right) + len(score.missed)
    headline = f'{examples} nuclei as examples, {len(score.right)} of {others} others found'
    details = (
        f'Precision {score.precision:.2f}   recall {score.recall:.2f}   F1 {score.f1:.2f}   at '
        f'IoU {IOU} with expert labels.   Model {model}'
    )
    legend = [
        (EXAMPLE, 9, f'{examples} examples'),
        (RIGHT, 4, f'found: {len(score.right)}'),
        (WRONG, 4, f'found, but not a nucleus: {len(score.wrong)}'),
        (MISSED, 4, f'missed: {len(score.missed)}'),
    ]
    if counterexamples:
        details += f', {counterexamples} counter-examples'
        legend.insert(1, (COUNTER, 9, f'{counterexamples} counter-examples'))

    draw.text((MARGIN, 18), headline, font=title, fill=INK)
    draw.text((MARGIN, 82), details, font=text, fill=FAINT)
    x, y = MARGIN, ABOVE + picture.height + 20
    for colour, width, words in legend:
        draw.line([(x, y + 17), (x + 44, y + 17)], fill=colour, width=width)
        draw.text((x + 56, y), words, font=text, fill=INK)
        x += 56 + round(draw.textlength(words, font=text)) + 48
    return page
