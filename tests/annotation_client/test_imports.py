"""What importing the client loads."""

import subprocess
import sys

from tests.conftest import REPOSITORY

HEAVY = {
    'numpy',
    'torch',
    'torchvision',
    'skimage',
    'shapely',
    'cv2',
    'scipy',
    'PIL',
    'segment_anything',
}


def test_the_client_loads_nothing_heavy() -> None:
    program = (
        'from annotation_client import annotations, tiles, utils, workers\n'
        'import sys\n'
        'print(*sys.modules, sep="\\n")'
    )
    finished = subprocess.run(
        [sys.executable, '-c', program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    loaded = set(finished.stdout.split())
    assert 'annotation_client.tiles' in loaded
    assert HEAVY & loaded == set()
