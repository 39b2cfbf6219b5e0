"""Image folders for tests, as the annotation server reads them."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile


def write_dataset(
    folder: Path,
    name: str,
    array: np.ndarray,
    layers: list[dict[str, Any]] | None = None,
    layer_contrasts: dict[str, Any] | None = None,
) -> Path:
    """Write an image into a folder as a dataset of the annotation server.

    Parameters
    ----------
    folder
        The server's folder.
    name
        The dataset's name.
    array
        (XY, T, Z, C, H, W), written as one TIFF file per plane; or one plane, (H, W), or (H, W, 3)
        for RGB.
    layers
        The layers of the dataset's configuration (see `make_layer`), or None for a dataset without
        configuration.
    layer_contrasts
        Contrasts of the dataset's view by layer id.

    Returns
    -------
    Path
        The file that is the dataset.
    """
    if layers is not None:
        sidecar = {'layers': layers, 'layerContrasts': layer_contrasts or {}}
        (folder / f'{name}.layers.json').write_text(json.dumps(sidecar))
    if array.ndim != 6:
        path = folder / f'{name}.tif'
        tifffile.imwrite(path, array, photometric='rgb' if array.ndim == 3 else 'minisblack')
        return path
    planes = folder / name
    planes.mkdir()
    sources = []
    for xy, t, z, c in product(*map(range, array.shape[:4])):
        plane = planes / f'xy{xy}_t{t}_z{z}_c{c}.tif'
        tifffile.imwrite(plane, array[xy, t, z, c])
        sources.append({'path': f'{name}/{plane.name}', 'xy': xy, 't': t, 'z': z, 'c': c})
    path = folder / f'{name}.yml'
    path.write_text(json.dumps({'sources': sources}))  # JSON is YAML
    return path


def make_layer(
    channel: int,
    color: str = '#FFFFFF',
    visible: bool = True,
    mode: str = 'percentile',
    black: float = 0,
    white: float = 100,
    id: str | None = None,
) -> dict[str, Any]:
    """Return a layer as the server's configuration has it. The default id is 'layer-<channel>'."""
    return {
        'id': id or f'layer-{channel}',
        'name': f'Channel {channel}',
        'channel': channel,
        'color': color,
        'visible': visible,
        'contrast': {'mode': mode, 'blackPoint': black, 'whitePoint': white},
        'xy': {'type': 'current', 'value': None},
        'z': {'type': 'current', 'value': None},
        'time': {'type': 'current', 'value': None},
    }
