"""Outlines as files for other programs. Pure functions: annotations in, bytes out."""

import csv
import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

import numpy as np
import roifile
import shapely
import tifffile
from skimage.draw import polygon as fill_polygon

from annotation_page.outlines import choose_colours, is_result
from fewshot.geometry import Location

Kind = Literal['geojson', 'labels', 'csv', 'imagej']
ENDINGS: dict[str, str] = {
    'geojson': '.geojson',
    'labels': '_labels.tif',
    'csv': '.csv',
    'imagej': '_RoiSet.zip',
}


@dataclass(frozen=True)
class Object:
    """An outline to export.

    Attributes
    ----------
    id : str
    points : (N, 2) ndarray
        x and y in pixels. The centre of the first pixel is at 0.5.
    tags : tuple of str
    location : Location
    scores : dict
        {name of the score: number}.
    """

    id: str
    points: np.ndarray
    tags: tuple[str, ...]
    location: Location
    scores: Mapping[str, float]


def select_objects(
    annotations: Sequence[Mapping],
    scores: Mapping[str, Mapping[str, float]],
    roles: Set[str],
    tags: Sequence[str],
    score: str,
    threshold: float,
) -> list[Object]:
    """Return the outlines to export, in the order of their locations.

    Parameters
    ----------
    annotations : sequence of dict
        Polygons, as the server has them.
    scores : dict
        {annotation id: {name: number}}.
    roles : set of str
        The tags of examples and counter-examples. The threshold is not for them.
    tags : sequence of str
        Only outlines with one of these tags.
    score : str
        Name of the score for the threshold.
    threshold : float
        Results with a lower score are ignored. Those without this score are exported.
    """
    objects = []
    for annotation in annotations:
        own_scores = scores.get(annotation['_id'], {})
        is_below = (
            is_result(annotation, own_scores, roles)
            and own_scores.get(score, threshold) < threshold
        )
        if is_below or not set(tags) & set(annotation['tags']):
            continue
        place = annotation['location']
        objects.append(
            Object(
                id=annotation['_id'],
                points=np.array([(point['x'], point['y']) for point in annotation['coordinates']]),
                tags=tuple(annotation['tags']),
                location=Location(place['XY'], place['Z'], place.get('Time', 0)),
                scores=own_scores,
            )
        )
    return sorted(objects, key=lambda one: (one.location, one.id))


def export(
    kind: Kind, name: str, objects: Sequence[Object], size: tuple[int, int]
) -> tuple[str, bytes]:
    """Return the name and the content of the file to save.

    Files of several positions or frames are joined in a ZIP file.

    Parameters
    ----------
    kind : str
        'geojson', 'labels', 'csv' or 'imagej'.
    name : str
        Of the dataset.
    objects : sequence of Object
    size : tuple of int
        Width and height of a frame, pixels.
    """
    ending = ENDINGS[kind]
    if kind == 'csv':
        return f'{name}{ending}', to_csv(objects)
    groups: dict[str, list[Object]] = defaultdict(list)
    for one in objects:
        groups[name_group(kind, one.location)].append(one)
    if not groups:
        groups[name_group(kind, Location(0, 0, 0))] = []
    files = {
        f'{name}_{place}{ending}': write_group(kind, group, size) for place, group in groups.items()
    }
    if len(files) == 1:
        return f'{name}{ending}', next(iter(files.values()))
    return f'{name}_{kind}.zip', to_zip(files)


def name_group(kind: Kind, location: Location) -> str:
    """Return the name of the file that an object belongs to.

    A label image holds a frame. The others hold all slices and times of a position.
    """
    position = f'xy{location.xy + 1}'
    return f'{position}_z{location.z + 1}_t{location.time + 1}' if kind == 'labels' else position


def write_group(kind: Kind, objects: Sequence[Object], size: tuple[int, int]) -> bytes:
    """Return the content of one file."""
    if kind == 'geojson':
        return to_geojson(objects)
    if kind == 'imagej':
        return to_imagej(objects)
    return to_labels(objects, size)


def to_geojson(objects: Sequence[Object]) -> bytes:
    """Return objects of one position as GeoJSON that QuPath opens.

    QuPath puts the corner of the first pixel at 0, as the server does.
    """
    colours = choose_colours(sorted({tag for one in objects for tag in one.tags}))
    features = []
    for one in objects:
        ring = [*one.points.tolist(), one.points[0].tolist()]
        tag = one.tags[0]
        colour = [int(colours[tag][start : start + 2], 16) for start in (1, 3, 5)]
        plane = {'c': -1, 'z': one.location.z, 't': one.location.time}
        features.append(
            {
                'type': 'Feature',
                'id': one.id,
                'geometry': {'type': 'Polygon', 'coordinates': [ring], 'plane': plane},
                'properties': {
                    'objectType': 'annotation',
                    'name': ', '.join(one.tags),
                    'classification': {'name': tag, 'color': colour},
                    'measurements': {name: float(value) for name, value in one.scores.items()},
                },
            }
        )
    return json.dumps({'type': 'FeatureCollection', 'features': features}).encode()


def to_labels(objects: Sequence[Object], size: tuple[int, int]) -> bytes:
    """Return objects of one frame as a label image, a TIFF. The first object has the number 1.

    Where objects overlap, the later one counts.
    """
    width, height = size
    kind = np.uint16 if len(objects) < 2**16 else np.uint32
    labels = np.zeros((height, width), kind)
    for number, one in enumerate(objects, start=1):
        # scikit-image puts the centre of the first pixel at 0
        rows, columns = fill_polygon(
            one.points[:, 1] - 0.5, one.points[:, 0] - 0.5, shape=labels.shape
        )
        labels[rows, columns] = number
    file = io.BytesIO()
    tifffile.imwrite(file, labels, compression='zlib')
    return file.getvalue()


def to_csv(objects: Sequence[Object]) -> bytes:
    """Return one line per object: location from 1, area, centroid, tags and scores."""
    names = sorted({name for one in objects for name in one.scores})
    file = io.StringIO(newline='')
    writer = csv.writer(file)
    writer.writerow(
        ['id', 'XY', 'Z', 'Time', 'tags', 'area_pixels', 'centroid_x', 'centroid_y', *names]
    )
    for one in objects:
        shape = shapely.make_valid(shapely.Polygon(one.points))
        centroid = shape.centroid
        writer.writerow(
            [
                one.id,
                one.location.xy + 1,
                one.location.z + 1,
                one.location.time + 1,
                as_text(';'.join(one.tags)),
                round(shape.area, 3),
                round(centroid.x, 3),
                round(centroid.y, 3),
                *(one.scores.get(name, '') for name in names),
            ]
        )
    return file.getvalue().encode()


def as_text(value: str) -> str:
    """Return a text that a spreadsheet does not take for a formula."""
    return f"'{value}" if value.startswith(('=', '+', '-', '@')) else value


def to_imagej(objects: Sequence[Object]) -> bytes:
    """Return objects of one position as a set of ImageJ ROIs, which the ROI Manager opens."""
    files = {}
    for number, one in enumerate(objects, start=1):
        label = f'{number:05}'
        roi = roifile.ImagejRoi.frompoints(
            one.points.astype(np.float32),
            name=label,
            z=one.location.z,
            t=one.location.time,
        )
        roi.roitype = roifile.ROI_TYPE.POLYGON
        files[f'{label}.roi'] = roi.tobytes()
    return to_zip(files)


def to_zip(files: Mapping[str, bytes]) -> bytes:
    """Return files as one ZIP file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def disposition(file_name: str) -> str:
    """Return the header that makes a browser save a file under this name."""
    return f"attachment; filename*=UTF-8''{quote(file_name)}"
