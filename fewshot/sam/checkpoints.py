"""The checkpoints that the worker knows, and where their files are.

Loaded by interface requests, which must answer at once: it imports neither torch nor
segment_anything.
"""

import hashlib
import logging
import os
from dataclasses import dataclass

from fewshot import messages

log = logging.getLogger('sam_fewshot')


@dataclass(frozen=True)
class Checkpoint:
    """A file of SAM weights, the sizes of its model and the thresholds for its masks.

    The sizes are the arguments of `segment_anything.modeling`. The three thresholds are arguments
    of `segment_anything.SamAutomaticMaskGenerator`, with the values that suit these weights.
    """

    name: str
    title: str  # the weights in words, for the user
    input_size: int  # side of the square input of the image encoder, pixels
    width: int  # channels of the image encoder's blocks
    depth: int  # number of the image encoder's blocks
    heads: int
    global_blocks: tuple[int, ...]  # blocks with attention over the whole image; others use windows
    window: int  # side of a window, cells of 16 pixels
    channels: int  # length of an embedding vector
    decoder_width: int  # hidden units of the decoder's transformer
    pred_iou_thresh: float
    stability_score_thresh: float
    box_nms_thresh: float
    size: int  # of the file, bytes
    sha256: str  # of the file

    @property
    def file(self) -> str:
        """Name of the file in the checkpoint folder."""
        return f'{self.name}.pth'


VIT_H = Checkpoint(
    name='sam_vit_h_4b8939',
    title='SAM ViT-H, 641 million parameters',
    input_size=1024,
    width=1280,
    depth=32,
    heads=16,
    global_blocks=(7, 15, 23, 31),
    window=14,
    channels=256,
    decoder_width=2048,
    pred_iou_thresh=0.88,
    stability_score_thresh=0.95,
    box_nms_thresh=0.7,
    size=2_564_550_879,
    sha256='a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e',
)

VIT_MINI = Checkpoint(
    name='sam_vit_mini',
    title='a small SAM, 4 million parameters, for trying and testing',
    input_size=256,
    width=192,
    depth=6,
    heads=6,
    global_blocks=(1, 3, 5),
    window=8,
    channels=128,
    decoder_width=512,
    pred_iou_thresh=0.55,
    stability_score_thresh=0.7,
    box_nms_thresh=0.2,
    size=7_822_095,
    sha256='8eec4169e7307911cdf64ce22f7fd6da77c56d99d51fecdb6e7eadca9f3ceb89',
)

KNOWN = {checkpoint.name: checkpoint for checkpoint in (VIT_H, VIT_MINI)}
MODELS = [VIT_H.name]  # always offered, because the image contains this file


def checkpoint_path(checkpoint: Checkpoint) -> str:
    """Return where the checkpoint's file should be.

    Parameters
    ----------
    checkpoint : Checkpoint

    Returns
    -------
    str
        In the folder that the environment variable SAM_CHECKPOINT_DIR names, or in `/`, where the
        Docker image has it.
    """
    return os.path.join(os.environ.get('SAM_CHECKPOINT_DIR', '/'), checkpoint.file)


def check_file(checkpoint: Checkpoint, path: str) -> None:
    """Compare the size and the SHA-256 of a file with the checkpoint's.

    The sum of 2.5 GB takes seconds. So a file that passed is recorded in `path.checked`, by its
    sum, size and time of change, where the folder can be written.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : str

    Raises
    ------
    JobError
        The file is a different one.
    """
    status = os.stat(path)
    if status.st_size != checkpoint.size:
        raise messages.CHECKPOINT_SIZE.error(
            model=checkpoint.name, size=status.st_size, expected=checkpoint.size, path=path
        )

    # A file in a Docker image has a time of change in whole seconds.
    passed = f'{checkpoint.sha256} {status.st_size} {int(status.st_mtime)}\n'
    record = f'{path}.checked'
    if os.path.exists(record):
        with open(record, encoding='ascii', errors='replace') as file:
            if file.read() == passed:
                return

    with open(path, 'rb') as file:
        found = hashlib.file_digest(file, 'sha256').hexdigest()
    if found != checkpoint.sha256:
        raise messages.CHECKPOINT_DAMAGED.error(
            model=checkpoint.name, path=path, seen=found, expected=checkpoint.sha256
        )

    try:
        with open(record, 'w', encoding='ascii') as file:
            file.write(passed)
    except OSError as error:
        log.info('The next job will check the checkpoint file again: %s', error)
