"""A user's way through the page, with mouse and keyboard, in a real Chromium."""

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image

from tests.annotation_page.conftest import PageServer, StartPage
from tests.annotation_page.tab import Tab
from tests.annotation_page.worker import SLOW_TAG, WARNING
from tests.datasets import make_layer, write_dataset

# Row, column and brightness of the squares of the picture.
SQUARES = [
    (6, 6, 255),
    (6, 40, 250),
    (6, 74, 245),
    (6, 108, 240),
    (40, 6, 235),
    (40, 40, 230),
    (40, 74, 180),
    (40, 108, 175),
    (74, 6, 225),
    (74, 40, 220),
]
SIDE = 20
SHAPE = 100, 140


def square(number: int) -> list[tuple[float, float]]:
    """Return the corners of one of the squares."""
    row, column, _ = SQUARES[number]
    return [
        (column, row),
        (column + SIDE, row),
        (column + SIDE, row + SIDE),
        (column, row + SIDE),
    ]


def middle(number: int) -> tuple[float, float]:
    row, column, _ = SQUARES[number]
    return column + SIDE / 2, row + SIDE / 2


def write_picture(folder: Path, name: str = 'cells', frames: int = 1) -> None:
    picture = np.zeros(SHAPE, np.uint8)
    for row, column, level in SQUARES:
        picture[row : row + SIDE, column : column + SIDE] = level
    pixels = np.broadcast_to(picture, (frames, 1, 1, 1, *SHAPE))
    write_dataset(folder, name, pixels, [make_layer(0, mode='absolute', black=0, white=255)])


WORKER = 'tests.annotation_page.worker'


@pytest.fixture
def start(start_page: StartPage, python_command: str):
    return lambda folder, *options: start_page(
        folder, *options, worker=f'{python_command} -m {WORKER}'
    )


@pytest.fixture
def server(start, tmp_path) -> PageServer:
    write_picture(tmp_path)
    return start(tmp_path)


def as_shape(annotation: dict[str, Any]) -> shapely.Polygon:
    return shapely.Polygon([(point['x'], point['y']) for point in annotation['coordinates']])


def overlap(one: shapely.Geometry, other: shapely.Geometry) -> float:
    return one.intersection(other).area / one.union(other).area


def test_a_user_gets_from_outlines_to_files(browser, start, server):
    tab = Tab(browser, server.link)
    tab.wait_for_image()
    tab.see('Outline 5 to 20 typical objects')
    assert '?token' not in tab.page.url

    # outline: four freehand, one as a polygon
    for number in range(4):
        tab.draw(*square(number))
    for corner in square(4):
        tab.click(*corner)
    tab.page.keyboard.press('Enter')
    tab.wait_for_count(5)
    tab.see('5 examples')
    examples = server.polygons('cells')
    assert [one['tags'] for one in examples] == [['example']] * 5
    for number, example in enumerate(examples):
        assert overlap(as_shape(example), shapely.Polygon(square(number))) > 0.9

    # run
    tab.run()
    tab.wait_for_count(10)
    assert tab.tags() == {'example': 5, 'found': 5}
    found = [one for one in tab.outlines() if one['isResult']]
    assert all(
        set(one['scores']) == {'Similarity', 'Closest Examples', 'Predicted IoU'} for one in found
    )

    # look: the two dark squares are less similar
    tab.see('5 of 5 shown')
    least = sorted(one['scores']['Similarity'] for one in found)
    tab.set_threshold((least[1] + least[2]) / 2)
    tab.see('3 of 5 shown')
    assert tab.shown() == 8

    # another score for the slider
    tab.set_threshold(0.5)
    tab.choose_score('Closest Examples')
    tab.see('closest examples ≥')
    closest = sorted(one['scores']['Closest Examples'] for one in found)
    tab.set_threshold((closest[1] + closest[2]) / 2)
    tab.see('3 of 5 shown')
    rows = list(csv.DictReader(io.StringIO(tab.save('csv')[1].decode())))
    assert len(rows) == 8
    tab.choose_score('Similarity')

    # mark one as a counter-example, run again: it replaces
    tab.choose('counter')
    tab.set_threshold(0)
    tab.click(*middle(6))
    tab.see('4 of 4 shown')
    assert tab.tags() == {'example': 5, 'found': 4, 'not this': 1}
    tab.choose('example')
    tab.click(*middle(9))
    tab.see('3 of 3 shown')
    tab.run()
    tab.wait('annotationViewer.shownScores.length > 0')

    # save, and compare with the server
    saved = [one for one in server.polygons('cells') if one['tags'] != ['not this']]
    shapes = {one['_id']: as_shape(one) for one in saved}
    name, content = tab.save('geojson')
    features = json.loads(content)['features']
    assert name == 'cells.geojson'
    assert {one['id']: shapely.from_geojson(json.dumps(one)) for one in features} == shapes
    rows = list(csv.DictReader(io.StringIO(tab.save('csv')[1].decode())))
    assert {row['id']: float(row['area_pixels']) for row in rows} == pytest.approx(
        {id: shape.area for id, shape in shapes.items()}, abs=0.01
    )
    labels = np.array(Image.open(io.BytesIO(tab.save('labels')[1])))
    assert labels.shape == SHAPE
    assert len(np.unique(labels)) == len(saved) + 1
    name, content = tab.save('imagej')
    assert len(zipfile.ZipFile(io.BytesIO(content)).namelist()) == len(saved)

    # a restart shows it all again
    tab.set_threshold(0.99)
    tab.see('similarity ≥ 0.99')
    outlines = tab.outlines()
    server.stop()
    again = Tab(browser, start(server.folder, '--port', str(server.port)).link)
    again.wait_for_count(len(outlines))
    assert again.outlines() == outlines
    again.find('tab-look').click()
    again.see('similarity ≥ 0.99')

    assert tab.errors == again.errors == []
    assert tab.hosts == {f'127.0.0.1:{server.port}'}


def test_outlines_are_selected_tagged_deleted_and_restored(browser, server):
    tab = Tab(browser, server.link)
    tab.wait_for_image()
    tab.draw(*square(0))
    tab.draw(*square(1))
    press = tab.page.keyboard.press

    press('v')
    tab.click(*middle(0))
    tab.wait('annotationViewer.selected.size === 1')
    press('2')
    tab.wait("[...annotationViewer.shapes.values()].some((s) => s.outline.tags[0] === 'not this')")
    tab.page.keyboard.down('Shift')
    tab.click(*middle(1))
    tab.page.keyboard.up('Shift')
    tab.wait('annotationViewer.selected.size === 2')
    press('Delete')
    tab.wait_for_count(0)
    assert server.polygons('cells') == []

    press('Control+z')
    tab.wait_for_count(2)
    assert tab.tags() == {'not this': 1, 'example': 1}
    press('Control+z')
    tab.wait("[...annotationViewer.shapes.values()].every((s) => s.outline.tags[0] === 'example')")
    press('Control+z')
    tab.wait_for_count(1)
    press('Control+z')
    tab.wait_for_count(0)
    press('Control+z')
    tab.see('There is nothing to undo')
    assert tab.errors == []


def test_keys_while_drawing(browser, server):
    tab = Tab(browser, server.link)
    tab.wait_for_image()
    press = tab.page.keyboard.press
    for corner in square(0)[:3]:
        tab.click(*corner)
    press('Escape')
    for corner in [*square(0)[:3], (130, 90)]:
        tab.click(*corner)
    tab.click(130, 50)
    press('Control+z')
    press('Backspace')
    tab.click(*square(0)[3])
    tab.click(*square(0)[0])  # a click on the first corner closes
    tab.wait_for_count(1)
    (outline,) = server.polygons('cells')
    assert overlap(as_shape(outline), shapely.Polygon(square(0))) > 0.95

    tab.click(30, 30)
    press('Enter')
    tab.see('This outline is too small')
    press('?')
    tab.see('How it works')
    assert tab.errors == []


def test_keys_go_to_the_field_that_has_the_focus(browser, server):
    tab = Tab(browser, server.link)
    tab.wait_for_image()
    tab.draw(*square(0))
    field = tab.page.get_by_placeholder('Add a tag')
    field.click()
    tab.page.keyboard.type('envoh 2 f?')
    tab.page.keyboard.press('Control+z')
    tab.page.keyboard.press('Delete')
    assert tab.page.evaluate('annotationViewer.mode') == 'draw'
    assert tab.page.locator('.q-dialog').count() == 0
    assert len(server.polygons('cells')) == 1

    # a tool that was chosen with the mouse does not keep Space
    tab.choose('draw')
    tab.page.mouse.move(*tab.place(*middle(0)))
    tab.page.keyboard.down('Space')
    tab.page.mouse.down()
    tab.page.mouse.move(*tab.place(*middle(5)))
    tab.page.mouse.up()
    tab.page.keyboard.up('Space')
    assert tab.page.evaluate('annotationViewer.map.getCenter().lng') < SHAPE[1] / 2
    assert tab.errors == []


def test_a_polygon_is_dropped_when_another_tool_is_chosen(browser, server):
    tab = Tab(browser, server.link)
    tab.wait_for_image()
    for corner in square(0)[:3]:
        tab.click(*corner)
    tab.page.keyboard.press('v')
    tab.page.keyboard.press('o')
    tab.draw(*square(1))
    (outline,) = server.polygons('cells')
    assert overlap(as_shape(outline), shapely.Polygon(square(1))) > 0.9


def test_the_page_says_when_the_server_has_ended(browser, server):
    tab = Tab(browser, server.link)
    tab.wait_for_image()
    server.process.kill()
    tab.wait("getComputedStyle(document.getElementById('popup')).visibility === 'visible'")
    text = tab.page.evaluate(
        "getComputedStyle(document.getElementById('popup'), '::after').content"
    )
    assert 'Start it again' in text
    assert tab.errors == []


def test_two_tabs_show_the_same(browser, server):
    first = Tab(browser, server.link)
    first.wait_for_image()
    second = Tab(browser, server.link, first.context)
    second.wait_for_image()
    first.draw(*square(0))
    second.wait_for_count(1)
    second.draw(*square(1))
    first.wait_for_count(2)
    first.find('run').click()
    for tab in (first, second):
        tab.wait_for_count(10)
        tab.find('run').get_by_text('Run again').wait_for()
    assert first.errors == second.errors == []


def test_a_job_shows_progress_and_warnings_and_is_cancelled(browser, server):
    tab = Tab(browser, server.link)
    tab.wait_for_image()
    tab.draw(*square(0))
    tab.page.get_by_label('Tag of the objects that are found').fill(SLOW_TAG)
    tab.find('run').click()
    tab.see('Searching · 2 min left')
    tab.see(WARNING)  # as text, not as HTML
    tab.find('log').click()
    tab.see('a line of the log')
    tab.page.keyboard.press('Escape')
    tab.find('cancel').click()
    tab.see('Cancelled')
    assert tab.find('run').is_enabled()
    assert tab.errors == []


def test_run_without_an_outline_says_what_to_do(browser, server):
    tab = Tab(browser, server.link)
    tab.wait_for_image()
    tab.see('Similarity Threshold')
    tab.find('run').click()
    tab.see('No outline has the tag "example"')


def test_images_are_dropped_and_bad_ones_refused(browser, start, tmp_path):
    tab = Tab(browser, start(tmp_path).link)
    tab.see('Drop a TIFF or PNG here')
    notes, picture = tmp_path / 'a<i>b.txt', tmp_path / 'picture.png'
    notes.write_text('no image')
    Image.fromarray(np.full((30, 30), 90, np.uint8)).save(picture)
    tab.page.set_input_files('input[type=file]', notes)
    tab.see('"a<i>b.txt" is not a TIFF or PNG image')
    tab.page.evaluate(
        """async (bytes) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "dropped.png"));
            window.dispatchEvent(new DragEvent("drop", { dataTransfer: data }));
        }""",
        list(picture.read_bytes()),
    )
    tab.wait_for_image()
    assert tab.page.locator('.image-link.active').inner_text() == 'dropped'
    assert tab.page.evaluate('annotationViewer.image.width') == 30
    assert tab.errors == []


def test_names_and_tags_show_as_text(browser, start, tmp_path):
    name = '<img src=x onerror=window.harmed=1>'
    write_picture(tmp_path, name)
    server = start(tmp_path)
    tab = Tab(browser, server.link)
    tab.wait_for_image()
    tab.page.get_by_placeholder('Add a tag').fill(name)
    tab.page.keyboard.press('Enter')
    tab.wait(f'document.querySelector(".tag.active").innerText.includes({json.dumps(name)})')
    tab.draw(*square(0))
    assert [one['tags'] for one in server.polygons(name)] == [[name]]
    tab.choose('select')
    tab.page.mouse.move(*tab.place(*middle(0)))
    tab.page.locator('.scores').wait_for()
    assert tab.page.locator('.scores').inner_text() == name
    tab.find('tab-save').click()
    tab.page.locator('.q-tab-panel .q-chip').get_by_text(name).wait_for()
    assert tab.page.evaluate('window.harmed') is None
    assert tab.page.locator('img[src=x]').count() == 0


def test_channels_are_saved_as_the_worker_reads_them(browser, start, tmp_path):
    pixels = np.zeros((1, 1, 2, 2, 40, 50), np.uint8)
    pixels[0, 0, 0, 0, :20] = 200
    pixels[0, 0, 1, 1] = 100
    write_dataset(tmp_path, 'stack', pixels)
    server = start(tmp_path)
    tab = Tab(browser, server.link)
    tab.wait_for_image()
    tab.page.get_by_text('Channel 2').click()
    tab.page.get_by_label('Colour of Channel 1').evaluate(
        "(input) => { input.value = '#0000ff'; input.dispatchEvent(new Event('change')); }"
    )
    layers = server.wait_for_layers('stack', lambda layers: layers[0]['color'] == '#0000FF')
    assert [layer['visible'] for layer in layers] == [True, False]
    tab.page.locator('.positions [aria-label=Z] [tabindex]').press('ArrowRight')
    tab.see('Z 2 of 2')
    tab.see('Z slices to search')
    assert tab.page.get_by_label('XY positions to search').count() == 0
    assert tab.errors == []
