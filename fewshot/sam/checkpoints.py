"""The checkpoints that the worker knows, where their files are, and a command to download them.

    python -m fewshot.sam.checkpoints list
    python -m fewshot.sam.checkpoints fetch sam_vit_h_4b8939 vit_b_lm
    python -m fewshot.sam.checkpoints check

Loaded by interface requests, which must answer at once: it imports neither torch nor
segment_anything, and what the command needs only when the command runs.
"""

import argparse
import hashlib
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import xxhash

from fewshot import messages
from fewshot.errors import JobError

SAM_FILES = 'https://dl.fbaipublicfiles.com/segment_anything/'
MICRO_SAM_FILES = 'https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io/'

log = logging.getLogger('sam_fewshot')


class Costs(NamedTuple):
    """Seconds on two CPU cores. `docs/performance.md` says how they were measured.

    Attributes
    ----------
    encoding : float
        Of a frame, or of a crop around a candidate.
    point : float
        To propose masks for one point of the grid.
    """

    encoding: float
    point: float

    def estimate_frame(self, points_per_side: int, candidates: int) -> float:
        """Return the seconds of a frame of which so many candidates are described by crops."""
        return self.encoding * (1 + candidates) + self.point * points_per_side**2


@dataclass(frozen=True)
class Checkpoint:
    """A file of SAM weights, the sizes of its model and the thresholds for its masks.

    The sizes are the arguments of `segment_anything.modeling`. The three thresholds are arguments
    of `segment_anything.SamAutomaticMaskGenerator`, with the values that suit these weights.
    """

    name: str
    title: str  # the weights in words, for the user
    input_size: int  # side of the square input of the image encoder, pixels
    patch_size: int  # side of a cell of the image embedding, pixels of the input
    width: int  # channels of the image encoder's blocks
    depth: int  # number of the image encoder's blocks
    heads: int
    global_blocks: tuple[int, ...]  # blocks with attention over the whole image; others use windows
    window: int  # side of a window, cells
    channels: int  # length of an embedding vector
    decoder_width: int  # hidden units of the decoder's transformer
    decoder_heads: int
    pred_iou_thresh: float
    stability_score_thresh: float
    box_nms_thresh: float
    size: int | None  # of the file, bytes; None if its publisher does not say
    sha256: str | None = None  # of the file
    xxh128: str | None = None  # of the file, where its publisher gives no SHA-256
    url: str | None = None  # of the file; None for a file of this repository
    suffix: str = '.pth'  # of the file's name
    images: str = ''  # that the model was trained with
    costs: Costs | None = None  # None for a small model, which needs no GPU

    @property
    def file(self) -> str:
        """Name of the file in the checkpoint folder."""
        return f'{self.name}{self.suffix}'


VIT_H = Checkpoint(
    name='sam_vit_h_4b8939',
    title='SAM ViT-H, 641 million parameters',
    input_size=1024,
    patch_size=16,
    width=1280,
    depth=32,
    heads=16,
    global_blocks=(7, 15, 23, 31),
    window=14,
    channels=256,
    decoder_width=2048,
    decoder_heads=8,
    pred_iou_thresh=0.88,
    stability_score_thresh=0.95,
    box_nms_thresh=0.7,
    size=2_564_550_879,
    sha256='a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e',
    url=f'{SAM_FILES}sam_vit_h_4b8939.pth',
    images='photographs',
    costs=Costs(encoding=27, point=0.018),
)

VIT_L = replace(
    VIT_H,
    name='sam_vit_l_0b3195',
    title='SAM ViT-L, 312 million parameters',
    width=1024,
    depth=24,
    heads=16,
    global_blocks=(5, 11, 17, 23),
    size=1_249_524_607,
    sha256='3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622',
    url=f'{SAM_FILES}sam_vit_l_0b3195.pth',
    costs=Costs(encoding=15, point=0.018),
)

VIT_B = replace(
    VIT_H,
    name='sam_vit_b_01ec64',
    title='SAM ViT-B, 94 million parameters',
    width=768,
    depth=12,
    heads=12,
    global_blocks=(2, 5, 8, 11),
    size=375_042_383,
    sha256='ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912',
    url=f'{SAM_FILES}sam_vit_b_01ec64.pth',
    costs=Costs(encoding=6.5, point=0.018),
)

# SAM, trained further by Archit et al., "Segment Anything for Microscopy", Nature Methods 22, 2025.
# The thresholds are SAM's, which are also the defaults of micro-sam's mask generator.

VIT_L_LM = replace(
    VIT_L,
    name='vit_l_lm',
    title='micro-sam ViT-L for light microscopy, 312 million parameters',
    size=None,
    sha256=None,
    xxh128='017f20677997d628426dec80a8018f9d',
    url=f'{MICRO_SAM_FILES}idealistic-rat/1.2/files/vit_l.pt',
    suffix='.pt',
    images='light microscopy',
)

VIT_B_LM = replace(
    VIT_B,
    name='vit_b_lm',
    title='micro-sam ViT-B for light microscopy, 94 million parameters',
    size=None,
    sha256=None,
    xxh128='fe9252a29f3f4ea53c15a06de471e186',
    url=f'{MICRO_SAM_FILES}diplomatic-bug/1.2/files/vit_b.pt',
    suffix='.pt',
    images='light microscopy',
)

VIT_L_EM = replace(
    VIT_L,
    name='vit_l_em_organelles',
    title='micro-sam ViT-L for electron microscopy, 312 million parameters',
    size=None,
    sha256=None,
    xxh128='810b084b6e51acdbf760a993d8619f2d',
    url=f'{MICRO_SAM_FILES}humorous-crab/1.2/files/vit_l.pt',
    suffix='.pt',
    images='electron microscopy',
)

VIT_B_EM = replace(
    VIT_B,
    name='vit_b_em_organelles',
    title='micro-sam ViT-B for electron microscopy, 94 million parameters',
    size=None,
    sha256=None,
    xxh128='f3bf2ed83d691456bae2c3f9a05fb438',
    url=f'{MICRO_SAM_FILES}noisy-ox/1.2/files/vit_b.pt',
    suffix='.pt',
    images='electron microscopy',
)

VIT_MINI = Checkpoint(
    name='sam_vit_mini2',
    title='a small SAM, 4 million parameters, for trying and testing',
    input_size=512,
    patch_size=8,
    width=192,
    depth=6,
    heads=6,
    global_blocks=(5,),
    window=16,
    channels=96,
    decoder_width=384,
    decoder_heads=3,
    pred_iou_thresh=0.2,
    stability_score_thresh=0.3,
    box_nms_thresh=0.2,
    size=8_304_635,
    sha256='bc448ef29458c9bdabc071ce7c8a3099a6f594ceded8ed1a14faf891b1a45f00',
)

KNOWN = {
    checkpoint.name: checkpoint
    for checkpoint in (
        VIT_H,
        VIT_L,
        VIT_B,
        VIT_L_LM,
        VIT_B_LM,
        VIT_L_EM,
        VIT_B_EM,
        VIT_MINI,
    )
}
MODELS = [VIT_H.name]  # always offered, and the default; the others where their file is


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


def list_present() -> list[Checkpoint]:
    """Return the known checkpoints whose files are there."""
    return [one for one in KNOWN.values() if os.path.exists(checkpoint_path(one))]


# The check


def check_file(checkpoint: Checkpoint, path: str) -> None:
    """Compare the size and the checksum of a file with the checkpoint's.

    The checksum of 2.5 GB takes seconds. So a file that passed is recorded in `path.checked`, by
    its checksum, size and time of change, where the folder can be written.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : str

    Raises
    ------
    JobError
        The file is a different one.
    """
    record = f'{path}.checked'
    if os.path.exists(record):
        with open(record, encoding='ascii', errors='replace') as file:
            if file.read() == describe_passed(checkpoint, path):
                return
    compare_file(checkpoint, path)
    record_file(checkpoint, path)


def record_file(checkpoint: Checkpoint, path: str) -> None:
    """Note beside a file that it passed, if the folder can be written."""
    try:
        with open(f'{path}.checked', 'w', encoding='ascii') as file:
            file.write(describe_passed(checkpoint, path))
    except OSError as error:
        log.info('The next job will check the checkpoint file again: %s', error)


def describe_passed(checkpoint: Checkpoint, path: str) -> str:
    """Return the record of a file that passed: its checksum, size and time of change."""
    status = os.stat(path)
    # A file in a Docker image has a time of change in whole seconds.
    return f'{checkpoint.sha256 or checkpoint.xxh128} {status.st_size} {int(status.st_mtime)}\n'


def compare_file(checkpoint: Checkpoint, path: str) -> None:
    """Read a file, and raise a JobError if it is not the checkpoint's."""
    size = os.path.getsize(path)
    if checkpoint.size not in (None, size):
        raise messages.CHECKPOINT_SIZE.error(
            model=checkpoint.name, size=size, expected=checkpoint.size, path=path
        )
    with open(path, 'rb') as file:
        found = hashlib.file_digest(file, 'sha256' if checkpoint.sha256 else xxhash.xxh128)
    expected = checkpoint.sha256 or checkpoint.xxh128
    if found.hexdigest() != expected:
        raise messages.CHECKPOINT_DAMAGED.error(
            model=checkpoint.name,
            path=path,
            algorithm='SHA-256' if checkpoint.sha256 else 'XXH128',
            seen=found.hexdigest(),
            expected=expected,
        )


# The command


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and do what they ask for. Return the exit status."""
    parser = argparse.ArgumentParser(
        prog='python -m fewshot.sam.checkpoints',
        description='List, download and check the checkpoint files in the folder that '
        'SAM_CHECKPOINT_DIR names (default: /).',
    )
    commands = parser.add_subparsers(dest='command', required=True)
    commands.add_parser('list', help='show the known checkpoints and which are there')
    commands.add_parser('check', help='read every file that is there and compare its checksum')
    fetch = commands.add_parser('fetch', help='download files, and check them')
    names = [checkpoint.name for checkpoint in KNOWN.values() if checkpoint.url]
    fetch.add_argument('names', nargs='+', choices=names, metavar='NAME', help=', '.join(names))
    fetch.add_argument(
        '--sam-files',
        default=SAM_FILES,
        metavar='ADDRESS',
        help="folder of SAM's own files, sam_vit_....pth (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.command == 'list':
        list_files()
        return 0
    if options.command == 'check':
        return 0 if check_files() else 1
    try:
        for name in options.names:
            fetch_file(KNOWN[name], f'{options.sam_files.rstrip("/")}/')
    except JobError as error:
        print(error.message, error.hint, file=sys.stderr)
        return 1
    return 0


def list_files() -> None:
    """Print every known checkpoint, with the size of its file and whether it is there."""
    for checkpoint in KNOWN.values():
        path = checkpoint_path(checkpoint)
        size = f'{checkpoint.size / 1e6:,.0f} MB' if checkpoint.size else 'unknown'
        state = path if os.path.exists(path) else 'not there'
        print(f'{checkpoint.name:<20} {size:>8}  {checkpoint.title}: {state}')


def check_files() -> bool:
    """Read every file that is there. Return whether there is one, and none is bad."""
    found = list_present()
    good = bool(found)
    if not found:
        print(f'No checkpoint file is in {os.path.dirname(checkpoint_path(VIT_H))}.')
    for checkpoint in found:
        path = checkpoint_path(checkpoint)
        try:
            compare_file(checkpoint, path)
        except JobError as error:
            print(error.message, error.hint)
            good = False
            if os.path.exists(f'{path}.checked'):
                os.remove(f'{path}.checked')
        else:
            record_file(checkpoint, path)
            print(f'{path}: good')
    return good


def fetch_file(checkpoint: Checkpoint, sam_files: str = SAM_FILES) -> None:
    """Download the file of a checkpoint, unless it is there.

    It has the suffix `.part` until it is complete and checked. A later call goes on with a part.

    Parameters
    ----------
    checkpoint : Checkpoint
        It has a URL.
    sam_files : str
        Address of a folder with SAM's own files.

    Raises
    ------
    JobError
        The server refuses, the connection fails again and again, the disk is full, or the file is
        another one.
    """
    from fewshot.sam.download import download  # imports requests

    assert checkpoint.url
    path = checkpoint_path(checkpoint)
    if os.path.exists(path):
        try:
            check_file(checkpoint, path)
            print(f'{path}: there already')
            return
        except JobError as error:
            print(error.message)
    part = f'{path}.part'
    download(checkpoint.url.replace(SAM_FILES, sam_files), part)
    try:
        compare_file(checkpoint, part)
    except JobError:
        os.remove(part)  # going on with it would not help
        raise
    os.replace(part, path)
    record_file(checkpoint, path)
    print(f'{path}: good')


if __name__ == '__main__':
    sys.exit(main())
