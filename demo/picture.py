"""The result as a picture: the image, what was found in it, what was missed."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from demo.dataset import BLACK, WHITE, Example, outline
from demo.scoring import Score

ZOOM = 3
MARGIN, ABOVE, BELOW = (
    24,
    138,
    122,
)  # around the text; room for the title and for the legend; pixels
EXAMPLE, COUNTER, RIGHT, WRONG, MISSED = '#FFD60A', '#B98CFF', '#2EE6A6', '#FF8C42', '#FF4D8D'
PAPER, INK, FAINT, GRID = '#12161C', '#F2F4F7', '#A4ADB8', '#5A6673'


def stretch(image: np.ndarray) -> Image.Image:
    """An (H, W) image between its black and white percentiles as grey values, enlarged."""
    low, high = np.percentile(image, [BLACK, WHITE])
    # a root brightens the dim nuclei for the eye; the worker sees the image without it
    grey = np.clip((image.astype(float) - low) / (high - low), 0, 1) ** 0.6
    size = image.shape[1] * ZOOM, image.shape[0] * ZOOM
    return (
        Image.fromarray((grey * 255).astype(np.uint8))
        .resize(size, Image.Resampling.BICUBIC)
        .convert('RGB')
    )


def draw_outline(
    draw: ImageDraw.ImageDraw, points: np.ndarray, corner: np.ndarray, colour: str, width: int
) -> None:
    """Draw a closed outline of a position whose upper left corner is at (x, y) of the whole image."""
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
    """The whole image with all outlines, a legend and a caption.

    labels: (positions, side, side); found: the outlines of each position, (N, 2) as x, y.
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
        for example in shown:  # wide, so that it shows on both sides of what was found there
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
    """Put the title above the picture and the legend below it."""
    title, text = ImageFont.load_default(44), ImageFont.load_default(27)
    page = Image.new('RGB', (picture.width, ABOVE + picture.height + BELOW), PAPER)
    page.paste(picture, (0, ABOVE))
    draw = ImageDraw.Draw(page)
    counter = f'{counterexamples} counter-examples'
    draw.text(
        (MARGIN, 18),
        f'{examples} nuclei shown to the worker, {len(score.right)} of '
        f'{len(score.right) + len(score.missed)} others found',
        font=title,
        fill=INK,
    )
    draw.text(
        (MARGIN, 82),
        f'Precision {score.precision:.2f}   recall {score.recall:.2f}   F1 {score.f1:.2f}   at '
        f'IoU 0.5 against expert labels.   {positions} positions, model {model}'
        + (f', {counter}' if counterexamples else ''),
        font=text,
        fill=FAINT,
    )
    legend = [
        (EXAMPLE, 9, f'{examples} examples'),
        *([(COUNTER, 9, counter)] if counterexamples else []),
        (RIGHT, 4, f'found: {len(score.right)}'),
        (WRONG, 4, f'found, but no nucleus: {len(score.wrong)}'),
        (MISSED, 4, f'missed: {len(score.missed)}'),
    ]
    x, y = MARGIN, ABOVE + picture.height + 20
    for colour, width, words in legend:
        draw.line([(x, y + 17), (x + 44, y + 17)], fill=colour, width=width)
        draw.text((x + 56, y), words, font=text, fill=INK)
        x += 56 + round(draw.textlength(words, font=text)) + 48
    draw.text(
        (MARGIN, y + 48),
        'Thin grey lines: borders of the positions. A nucleus that one cuts counts once in '
        'each position.',
        font=text,
        fill=FAINT,
    )
    return page
