"""The drawings of a training, made once and kept in a folder."""

import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training.shapes import SIDE
from training.synthetic import Drawing, make_image

SHARD = 50  # drawings per file
NAMES = ('rgb', 'labels', 'parts')


def draw_shards(folder: Path, seed: int, shards: range) -> None:
    """Draw the shards that are not in the folder yet.

    Parameters
    ----------
    folder : Path
    seed : int
    shards : range
        Numbers of the shards. A shard has SHARD drawings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for shard in tqdm(shards, desc='drawing', unit='shard'):
        if all(shard_path(folder, shard, name).exists() for name in NAMES):
            continue
        drawings = [
            make_image(np.random.default_rng([seed, shard, number])) for number in range(SHARD)
        ]
        for name, arrays in zip(NAMES, zip(*drawings, strict=True), strict=True):
            dtype = np.uint8 if name == 'rgb' else np.int16
            path = shard_path(folder, shard, name)
            part = path.with_suffix(f'.{os.getpid()}.npy')
            np.save(part, np.array(arrays, dtype))
            part.replace(path)


def shard_path(folder: Path, shard: int, name: str) -> Path:
    """Return the file of the pictures, labels or parts of a shard."""
    return folder / f'{shard:04}-{name}.npy'


class Drawings:
    """Drawings in a folder. Their files are mapped, so processes share the memory.

    Parameters
    ----------
    folder : Path
    shards : int
    """

    def __init__(self, folder: Path, shards: int) -> None:
        self._arrays = {
            name: [
                np.load(shard_path(folder, shard, name), mmap_mode='r') for shard in range(shards)
            ]
            for name in NAMES
        }
        self.count = shards * SHARD

    def __getitem__(self, number: int) -> Drawing:
        """Return a drawing."""
        shard, place = divmod(number, SHARD)
        rgb, labels, parts = (self._arrays[name][shard][place] for name in NAMES)
        assert rgb.shape == (SIDE, SIDE, 3)
        return Drawing(np.array(rgb), labels.astype(np.int32), parts.astype(np.int32))
