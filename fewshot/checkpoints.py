"""Whether a checkpoint file is the one that it should be."""
import hashlib
import logging
import os

from fewshot.models import Checkpoint
from fewshot.parameters import explain

log = logging.getLogger('sam_fewshot')


def check_file(checkpoint: Checkpoint, path: str) -> None:
    """Compare a file's size and SHA-256 with the checkpoint's.

    The sum takes seconds for 2.5 GB, so that a file that passed is remembered in a small one beside it, by size and
    time of change, where that can be written.

    Raises ValueError, with a note for the user, when the file is another.
    """
    status = os.stat(path)
    if status.st_size != checkpoint.size:
        raise explain(ValueError(f'The checkpoint file of {checkpoint.name} has the wrong size'),
                      f'Read: {path}, {status.st_size:,} bytes; expected {checkpoint.size:,}. Download it again.')
    passed = f'{checkpoint.sha256} {status.st_size} {int(status.st_mtime)}\n'  # an image keeps whole seconds
    memory = f'{path}.checked'
    if os.path.exists(memory):
        with open(memory, encoding='ascii', errors='replace') as file:
            if file.read() == passed:
                return
    with open(path, 'rb') as file:
        seen = hashlib.file_digest(file, 'sha256').hexdigest()
    if seen != checkpoint.sha256:
        raise explain(ValueError(f'The checkpoint file of {checkpoint.name} is damaged, or another file'),
                      f'Read: {path}, SHA-256 {seen}; expected {checkpoint.sha256}. Download it again.')
    try:
        with open(memory, 'w', encoding='ascii') as file:
            file.write(passed)
    except OSError as error:
        log.info('the checkpoint will be checked again by the next job: %s', error)
