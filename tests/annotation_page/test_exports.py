"""Each export is opened with a reader that has nothing to do with its writer."""

import csv
import io
import json
import struct
import zipfile

import numpy as np
import pytest
import shapely
from PIL import Image

from fewshot.geometry import Location

pytest.importorskip('roifile', reason='The page is not installed: pip install ".[page]"')

from annotation_page.exports import (
    disposition,
    export,
    select_objects,
    to_imagej,
)

SIZE = 40, 30
SQUARE = [(2, 3), (12, 3), (12, 9), (2, 9)]
TRIANGLE = [(20.5, 4), (35.25, 25), (20.5, 25)]


def annotation(number: int, points, tags, xy=0, z=0, time=0) -> dict:
    return {
        '_id': f'{number:024x}',
        'coordinates': [{'x': x, 'y': y} for x, y in points],
        'tags': list(tags),
        'location': {'XY': xy, 'Z': z, 'Time': time},
        'shape': 'polygon',
    }


ANNOTATIONS = [
    annotation(1, SQUARE, ['example']),
    annotation(2, TRIANGLE, ['found']),
    annotation(3, SQUARE, ['found']),
    annotation(4, SQUARE, ['not this']),
]
SCORES = {
    f'{2:024x}': {'Similarity': 0.9, 'Predicted IoU': 0.8},
    f'{3:024x}': {'Similarity': 0.6, 'Predicted IoU': 0.7},
    f'{4:024x}': {'Similarity': 0.3, 'Predicted IoU': 0.7},
}
ROLES = {'example', 'not this'}
ALL_TAGS = ['example', 'found', 'not this']
OBJECTS = select_objects(ANNOTATIONS, SCORES, ROLES, ['example', 'found'], 'Similarity', 0.7)


def read_roi(content: bytes) -> tuple[str, list[tuple[float, float]], int, int]:
    """Return name, points, slice and time of a polygon, as ImageJ's RoiDecoder reads them."""
    magic, _, kind, *_, count = struct.unpack_from('>4shBx5h', content)
    assert (magic, kind) == (b'Iout', 0)  # 0: polygon
    has_subpixels = struct.unpack_from('>h', content, 50)[0] & 128
    assert has_subpixels
    xs = struct.unpack_from(f'>{count}f', content, 64 + 4 * count)
    ys = struct.unpack_from(f'>{count}f', content, 64 + 8 * count)
    (second,) = struct.unpack_from('>i', content, 60)
    _, z, time, name_at, name_length = struct.unpack_from('>5i', content, second + 4)
    name = content[name_at : name_at + 2 * name_length].decode('utf-16-be')
    return name, list(zip(xs, ys, strict=True)), z, time


def test_only_outlines_that_are_shown_are_exported():
    assert [int(one.id, 16) for one in OBJECTS] == [1, 2]
    everything = select_objects(ANNOTATIONS, SCORES, ROLES, ALL_TAGS, 'Similarity', 0.7)
    # a counter-example is no result any more, so the threshold does not hide it
    assert [int(one.id, 16) for one in everything] == [1, 2, 4]


def test_the_threshold_can_be_for_another_score():
    objects = select_objects(ANNOTATIONS, SCORES, ROLES, ['found'], 'Predicted IoU', 0.75)
    assert [int(one.id, 16) for one in objects] == [2]
    # outlines of an earlier version do not have every score
    objects = select_objects(ANNOTATIONS, SCORES, ROLES, ['found'], 'Closest Examples', 0.75)
    assert [int(one.id, 16) for one in objects] == [2, 3]


def test_geojson_has_the_outlines_with_classes_and_scores():
    name, content = export('geojson', 'cells', OBJECTS, SIZE)
    assert name == 'cells.geojson'
    square, triangle = shapely.from_geojson(content).geoms
    assert square.equals(shapely.Polygon(SQUARE))
    assert triangle.equals(shapely.Polygon(TRIANGLE))
    first, second = json.loads(content)['features']
    assert first['properties']['classification'] == {'name': 'example', 'color': [255, 214, 10]}
    assert first['properties']['measurements'] == {}
    assert second['properties']['measurements'] == {'Similarity': 0.9, 'Predicted IoU': 0.8}
    assert second['geometry']['plane'] == {'c': -1, 'z': 0, 't': 0}


def test_label_image_has_the_pixels_whose_centres_are_inside():
    name, content = export('labels', 'cells', OBJECTS, SIZE)
    assert name == 'cells_labels.tif'
    labels = np.array(Image.open(io.BytesIO(content)))
    expected = np.zeros((30, 40), int)
    expected[3:9, 2:12] = 1
    rows, columns = np.mgrid[:30, :40] + 0.5
    expected[shapely.contains_xy(shapely.Polygon(TRIANGLE), columns, rows)] = 2
    assert labels.dtype == np.uint16
    differs = labels != expected
    # a pixel whose centre is on the outline may be in or out
    on_outline = shapely.distance(
        shapely.points(columns[differs], rows[differs]),
        shapely.LineString([*TRIANGLE, TRIANGLE[0]]),
    )
    assert (on_outline < 1e-6).all()


def test_table_has_area_centroid_and_scores():
    name, content = export('csv', 'cells', OBJECTS, SIZE)
    assert name == 'cells.csv'
    square, triangle = csv.DictReader(io.StringIO(content.decode()))
    assert (square['area_pixels'], square['centroid_x'], square['centroid_y']) == (
        '60.0',
        '7.0',
        '6.0',
    )
    assert (square['tags'], square['Similarity']) == ('example', '')
    assert float(triangle['area_pixels']) == pytest.approx(14.75 * 21 / 2, abs=1e-3)
    assert float(triangle['centroid_x']) == pytest.approx(20.5 + 14.75 / 3, abs=1e-3)
    assert (triangle['Similarity'], triangle['Predicted IoU']) == ('0.9', '0.8')
    assert (triangle['XY'], triangle['Z'], triangle['Time']) == ('1', '1', '1')


def test_text_of_a_tag_is_no_formula_in_a_table():
    objects = select_objects(
        [annotation(1, SQUARE, ['=1+1'])], {}, ROLES, ['=1+1'], 'Similarity', 0
    )
    (row,) = csv.DictReader(io.StringIO(export('csv', 'cells', objects, SIZE)[1].decode()))
    assert row['tags'] == "'=1+1"


def test_rois_have_the_outlines():
    name, content = export('imagej', 'cells', OBJECTS, SIZE)
    assert name == 'cells_RoiSet.zip'
    archive = zipfile.ZipFile(io.BytesIO(content))
    first, second = (read_roi(archive.read(file)) for file in archive.namelist())
    assert first == ('00001', SQUARE, 1, 1)
    assert second == ('00002', TRIANGLE, 1, 1)


def test_rois_keep_their_slice_and_time():
    (one,) = select_objects(
        [annotation(1, SQUARE, ['a'], z=4, time=2)], {}, ROLES, ['a'], 'Similarity', 0
    )
    assert one.location == Location(0, 4, 2)
    archive = zipfile.ZipFile(io.BytesIO(to_imagej([one])))
    assert read_roi(archive.read('00001.roi'))[2:] == (5, 3)


def test_several_frames_give_several_files():
    places = [
        annotation(1, SQUARE, ['a']),
        annotation(2, SQUARE, ['a'], z=1),
        annotation(3, SQUARE, ['a'], xy=1),
    ]
    objects = select_objects(places, {}, ROLES, ['a'], 'Similarity', 0)

    def names(kind):
        name, content = export(kind, 'cells', objects, SIZE)
        assert name == f'cells_{kind}.zip'
        return zipfile.ZipFile(io.BytesIO(content)).namelist()

    assert names('labels') == [
        'cells_xy1_z1_t1_labels.tif',
        'cells_xy1_z2_t1_labels.tif',
        'cells_xy2_z1_t1_labels.tif',
    ]
    assert names('geojson') == ['cells_xy1.geojson', 'cells_xy2.geojson']
    assert names('imagej') == ['cells_xy1_RoiSet.zip', 'cells_xy2_RoiSet.zip']


@pytest.mark.parametrize('kind', ['geojson', 'labels', 'csv', 'imagej'])
def test_nothing_to_export_gives_an_empty_file(kind):
    name, content = export(kind, 'cells', [], SIZE)
    assert name.startswith('cells')
    if kind == 'labels':
        assert np.array(Image.open(io.BytesIO(content))).shape == (30, 40)
    assert content


def test_a_header_carries_any_name():
    assert disposition('ä "b"\n.csv') == "attachment; filename*=UTF-8''%C3%A4%20%22b%22%0A.csv"
