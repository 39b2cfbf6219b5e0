"""Draw the result: the image, the objects found in it, and the missed nuclei."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from demo.dataset import BLACK, WHITE, Example, outline
from demo.scoring import Score

ZOOM = 3
MARGIN = 24  # left of the text, pixels
ABOVE, BELOW = 138, 122  # height of the title and of the legend, pixels
EXAMPLE, COUNTER, RIGHT, WRONG, MISSED = '#FFD60A', '#B98CFF', '#2EE6A6', '#FF8C42', '#FF4D8D'
PAPER, INK, FAINT, GRID = '#12161C', '#F2F4F7', '#A4ADB8', '#5A6673'


def stretch(image: np.ndarray) -> Image.Image:
    """Return an (H, W) image as grey values from its black to its white percentile, enlarged."""
    low, high = np.percentile(image, [BLACK, WHITE])
    # the exponent makes dim nuclei visible; the worker gets the image without it
    grey = np.clip((image.astype(float) - low) / (high - low), 0, 1) ** 0.6
    size = image.shape[1] * ZOOM, image.shape[0] * ZOOM
    picture = Image.fromarray((grey * 255).astype(np.uint8))
    return picture.resize(size, Image.Resampling.BICUBIC).convert('RGB')


def draw_outline(
    draw: ImageDraw.ImageDraw, points: np.ndarray, corner: np.ndarray, colour: str, width: int
) -> None:
    """Draw a closed outline.

    Parameters
    ----------
    draw : ImageDraw
    points : (N, 2) ndarray
        x and y in the position.
    corner : (2,) ndarray
        The upper left corner of the position, x and y in the whole image.
    colour : str
    width : int
        Pixels of the picture.
    """
    placed = [tuple(point) for point in (points + corner) * ZOOM]
    draw.line([*placed, placed[0], placed[1]], fill=colour, width=width, joint='curve')


def draw_picture(
    image: np.ndarray,
    labels: np.ndarray,
    examples: list[Example],
    found: list[list[np.ndarray]],
    score: Score,
    model: str,
    counterexamples: Sequence[Example] = (),
) -> Image.Image:
    """Draw the whole image with all outlines, a title and a legend.

    Parameters
    ----------
    image : (H, W) ndarray
    labels : (positions, side, side) ndarray
    examples : list of Example
    found : list of list of (N, 2) ndarray
        The outlines in each position, x and y.
    score : Score
        Of the outlines.
    model : str
        Name of the model.
    counterexamples : sequence of Example
    """
    side = labels.shape[-1]
    columns = image.shape[1] // side
    corners = [
        np.array([position % columns, position // columns]) * side
        for position in range(len(labels))
    ]
    picture = stretch(image)
    draw = ImageDraw.Draw(picture)
    for at in range(side * ZOOM, image.shape[1] * ZOOM, side * ZOOM):
        draw.line([(at, 0), (at, picture.height)], fill=GRID)
        draw.line([(0, at), (picture.width, at)], fill=GRID)
    for shown, colour in ((examples, EXAMPLE), (counterexamples, COUNTER)):
        for example in shown:  # wide, so it is visible beside the outline of a found object
            draw_outline(draw, example.outline, corners[example.position], colour, 9)
    for position, number in score.missed:
        draw_outline(draw, outline(labels[position] == number), corners[position], MISSED, 3)
    for outcome, colour in ((score.wrong, WRONG), (score.right, RIGHT)):
        for position, index in outcome:
            draw_outline(draw, found[position][index], corners[position], colour, 3)
    return add_caption(picture, score, len(examples), len(counterexamples), len(labels), model)


def add_caption(
    picture: Image.Image,
    score: Score,
    examples: int,
    counterexamples: int,
    positions: int,
    model: str,
) -> Image.Image:
    """Put the title above the picture and the legend below it.

    Parameters
    ----------
    picture : Image
    score : Score
    examples, counterexamples, positions : int
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
        f'IoU 0.5 with expert labels.   {positions} positions, model {model}'
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
    draw.text(
        (MARGIN, y + 48),
        'Thin grey lines are the borders of the positions. A nucleus on a border counts once in '
        'each position.',
        font=text,
        fill=FAINT,
    )
    return page
