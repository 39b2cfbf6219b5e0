"""What counter-examples do: the same picture searched twice, side by side."""
from collections import Counter

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from demo.dataset import Example, outline
from demo.picture import FAINT, INK, MARGIN, MISSED, PAPER, RIGHT, WRONG, draw_outline, stretch
from demo.scoring import Score
from evaluation.groups import Group

ABOVE, BELOW = 112, 72  # room for the titles and for the legend, pixels
Outlines = list[list[np.ndarray]]  # of each picture


def draw_pair(group: Group, shown: list[Example], ways: dict[str, tuple[Outlines, Score]]) -> Image.Image:
    """The picture of a group of which least was shown to the worker, once for each way, with its outcome.

    `ways` are titles, each with what was found and the score of the whole group.
    """
    times = Counter(one.position for one in shown)
    position = min(range(len(group.images)), key=lambda number: times[number])
    panels = [draw_panel(group, position, *way) for way in ways.values()]
    width, height = panels[0].size
    page = Image.new('RGB', (MARGIN + (width + MARGIN) * len(panels), ABOVE + height + BELOW), PAPER)
    draw = ImageDraw.Draw(page)
    title, text = ImageFont.load_default(36), ImageFont.load_default(24)
    for number, (panel, (name, (_, score))) in enumerate(zip(panels, ways.items(), strict=True)):
        left = MARGIN + (width + MARGIN) * number
        page.paste(panel, (left, ABOVE))
        draw.text((left, 16), name, font=title, fill=INK)
        draw.text((left, 66), f'Precision {score.precision:.2f}   recall {score.recall:.2f}   in {len(group.images)} '
                  'pictures', font=text, fill=FAINT)
    x, y = MARGIN, ABOVE + height + 20
    for colour, words in ((RIGHT, 'found, and wanted'), (WRONG, 'found, but not wanted'), (MISSED, 'missed')):
        draw.line([(x, y + 15), (x + 44, y + 15)], fill=colour, width=4)
        draw.text((x + 56, y), words, font=text, fill=INK)
        x += 56 + round(draw.textlength(words, font=text)) + 48
    return page


def draw_panel(group: Group, position: int, found: Outlines, score: Score) -> Image.Image:
    """One picture with what was found in it and what was missed."""
    panel = stretch(group.images[position])
    draw, corner = ImageDraw.Draw(panel), np.zeros(2)
    for at, number in score.missed:
        if at == position:
            draw_outline(draw, outline(group.labels[position] == number), corner, MISSED, 4)
    for outcome, colour in ((score.wrong, WRONG), (score.right, RIGHT)):
        for at, number in outcome:
            if at == position:
                draw_outline(draw, found[position][number], corner, colour, 4)
    return panel
