"""The content of a file of the store: a compressed `.npz` file without pickle.

Every writer of a dataset can put a file into the store, so this module assumes that anything can be
in it:

- Code. There is no pickle: each array is read as numbers of the one type that its name has.
- Memory. Ten bytes can announce gigabytes. So the sizes in the file are compared with a limit and
  with each other before anything is unpacked, and no more is unpacked than was announced.
- Wrong values. Boxes outside the frame, masks that do not fill their boxes, and numbers that are
  not finite are refused.

A file that passes can still hold masks and vectors that no model computed. A writer who wants to
do harm could as well draw wrong outlines.
"""

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fewshot.geometry import Box, CutMask
from fewshot.sam.candidates import Candidate, pack_mask, unpack_mask
from fewshot.sam.checkpoints import Checkpoint

FORMAT = 1  # of the file; raise it with every change
ALGORITHM = 1  # raise it with every change of the masks that SAM proposes, or of their vectors
MAX_FILE_BYTES = 16 * 10**6
MAX_UNPACKED_BYTES = 64 * 10**6
MAX_CANDIDATES = 3 * 128**2  # three masks for each of the most points
DIGEST_BYTES = 16
# The arrays of a file, with type and number of axes. The second group is absent if the masks of the
# frame are not known.
VECTOR_ARRAYS = {'key': ('|u1', 1), 'digests': ('|u1', 2), 'vectors': ('<f4', 2)}
MASK_ARRAYS = {
    'boxes': ('<i4', 2),
    'bits': ('|u1', 1),
    'predicted_iou': ('<f8', 1),
    'stability_scores': ('<f8', 1),
}
ARRAYS = VECTOR_ARRAYS | MASK_ARRAYS


class UnusableFileError(ValueError):
    """A file of the store cannot be used. The text is the reason, as a phrase."""


@dataclass
class Record:
    """The masks and vectors of a frame or tile, as far as they are known.

    Attributes
    ----------
    candidates : list of Candidate or None
        As SAM proposed them, not cleaned. None if they are not known.
    vectors : dict
        Vectors of objects, (C,) float32 ndarrays, by the object's digest.
    """

    candidates: list[Candidate] | None = None
    vectors: dict[bytes, np.ndarray] = field(default_factory=dict)


# Names


def name_precision(precision: str, hardware: str) -> str:
    """Return the name of the type in which the model multiplies.

    Parameters
    ----------
    precision : {'float32', 'bfloat16'}
    hardware : str
        From `hardware.name_hardware`. It decides how products in bfloat16 are rounded, so masks and
        vectors from different hardware are never mixed.

    Examples
    --------
    >>> name_precision('float32', 'NVIDIA H100')
    'float32'
    >>> name_precision('bfloat16', 'NVIDIA H100')
    'bfloat16 on NVIDIA H100'
    """
    return precision if precision == 'float32' else f'{precision} on {hardware}'


def name_description(whole_frame: bool, occupancy: float) -> str:
    """Return the name of a way in which objects are described.

    Parameters
    ----------
    whole_frame : bool
        Whether the features are those of the whole frame.
    occupancy : float
        Share of its crop that an object fills. It has no effect on features of the whole frame.

    Examples
    --------
    >>> name_description(False, 0.2)
    'object crops, 0.2'
    >>> name_description(True, 0.2)
    'whole frame'
    """
    return 'whole frame' if whole_frame else f'object crops, {occupancy}'


def make_key(
    rgb: np.ndarray,
    tile: Box | None,
    checkpoint: Checkpoint,
    points_per_side: int | None,
    precision: str,
) -> str:
    """Return the name of everything on which the record of a frame depends.

    Parameters
    ----------
    rgb : (H, W, 3) uint8 ndarray
        The frame or the tile, with all channels merged.
    tile : Box or None
        The place of the tile in its frame.
    checkpoint : Checkpoint
    points_per_side : int or None
        None for the record of examples, which has no masks.
    precision : str
        From `name_precision`.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    parameters: list = [FORMAT, ALGORITHM, checkpoint.sha256, precision, tile, rgb.shape]
    if points_per_side is not None:
        parameters += [
            points_per_side,
            checkpoint.pred_iou_thresh,
            checkpoint.stability_score_thresh,
            checkpoint.box_nms_thresh,
        ]
    digest = hashlib.sha256(json.dumps(parameters).encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


def digest_object(thing: CutMask | Candidate, description: str) -> bytes:
    """Return the name of an object of a frame and of the way in which it is described.

    Parameters
    ----------
    thing : CutMask or Candidate
    description : str
        Feature source and occupancy, from `name_description`.
    """
    bits = thing.bits if isinstance(thing, Candidate) else pack_mask(thing.mask)
    digest = hashlib.sha256(json.dumps([description, thing.box]).encode())
    digest.update(np.ascontiguousarray(bits).data)
    return digest.digest()[:DIGEST_BYTES]


# To bytes


def encode(record: Record, key: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Return the file of a record.

    Parameters
    ----------
    record : Record
    key : str
        From `make_key`.
    max_bytes : int
        Of the file.

    Raises
    ------
    UnusableFileError
        The file would be too large.
    """
    digests = np.frombuffer(b''.join(record.vectors), np.uint8).reshape(-1, DIGEST_BYTES)
    vectors = np.array(list(record.vectors.values()), '<f4')
    arrays = {
        'key': np.frombuffer(bytes.fromhex(key), np.uint8),
        'digests': digests,
        'vectors': vectors if len(vectors) else np.empty((0, 0), '<f4'),
    }
    if record.candidates is not None:
        ones = record.candidates
        bits = [one.bits.ravel() for one in ones]
        arrays |= {
            'boxes': np.array([one.box for one in ones], '<i4').reshape(-1, 4),
            'bits': np.concatenate(bits) if bits else np.empty(0, np.uint8),
            'predicted_iou': np.array([one.predicted_iou for one in ones], '<f8'),
            'stability_scores': np.array([one.stability_score for one in ones], '<f8'),
        }
    unpacked = sum(array.nbytes for array in arrays.values())
    if unpacked > MAX_UNPACKED_BYTES:
        raise UnusableFileError(f'{unpacked:,} bytes unpacked')
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    content = file.getvalue()
    if len(content) > max_bytes:
        raise UnusableFileError(f'{len(content):,} bytes')
    return content


# From bytes


def decode(content: bytes, key: str, shape: Sequence[int], channels: int) -> Record:
    """Return the record in a file, after every check.

    Parameters
    ----------
    content : bytes
        Anything.
    key : str
        Of the frame, from `make_key`.
    shape : sequence of int
        Of the frame, (H, W, ...).
    channels : int
        Length of a vector.

    Raises
    ------
    UnusableFileError
        The content is not the record of this frame.
    """
    arrays = read_arrays(content)
    if arrays['key'].tobytes() != bytes.fromhex(key):
        raise UnusableFileError('it belongs to another frame')
    digests, vectors = arrays['digests'], arrays['vectors']
    expected = (len(vectors), DIGEST_BYTES), (len(vectors), channels if len(vectors) else 0)
    if (digests.shape, vectors.shape) != expected:
        raise UnusableFileError(f'digests {digests.shape} and vectors {vectors.shape}')
    if not np.isfinite(vectors).all():
        raise UnusableFileError('vectors that are not finite')
    known = {bytes(digest): vector for digest, vector in zip(digests, vectors, strict=True)}
    candidates = None
    if 'boxes' in arrays:
        candidates = read_candidates(arrays, shape)
    return Record(candidates, known)


def read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a `.npz` file. Refuse other names, types and numbers of axes.

    Parameters
    ----------
    content : bytes
        Anything.

    Raises
    ------
    UnusableFileError
    """
    if len(content) > MAX_FILE_BYTES:
        raise UnusableFileError(f'{len(content):,} bytes')
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        members = archive.infolist()
        names = sorted(member.filename for member in members)
        if names not in (name_members(VECTOR_ARRAYS), name_members(ARRAYS)):
            raise UnusableFileError('other arrays than those of a record')
        if sum(member.file_size for member in members) > MAX_UNPACKED_BYTES:
            raise UnusableFileError('too many bytes unpacked')
        arrays = {}
        for member in members:
            name = member.filename.removesuffix('.npy')
            arrays[name] = read_array(read_member(archive, member), *ARRAYS[name])
    except UnusableFileError:
        raise
    except Exception as error:  # a damaged archive may raise any error
        raise UnusableFileError(f'no archive of arrays: {error}') from error
    return arrays


def name_members(arrays: dict[str, tuple[str, int]]) -> list[str]:
    """Return the sorted names of the members of an archive with these arrays."""
    return sorted(f'{name}.npy' for name in arrays)


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Unpack a member, but no more bytes than it announces."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnusableFileError('another compression')
    with archive.open(member) as file:
        # Without a number, `read` would unpack everything before it compares the size.
        content = file.read(member.file_size)
        if len(content) != member.file_size or file.read(1):
            raise UnusableFileError('a member of another size')
    return content


def read_array(content: bytes, dtype: str, axes: int) -> np.ndarray:
    """Return the array of a `.npy` file.

    Parameters
    ----------
    content : bytes
    dtype : str
        The type that it must have.
    axes : int
        The number of axes that it must have.
    """
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise UnusableFileError('another version of the array format')
    shape, is_fortran, found = np.lib.format.read_array_header_1_0(file)
    if found.str != dtype or len(shape) != axes or is_fortran:
        raise UnusableFileError(f'{len(shape)} axes of {found}, expected {axes} of {dtype}')
    numbers = file.read()
    # Python's integers do not overflow.
    if min(shape) < 0 or math.prod(shape) * found.itemsize != len(numbers):
        raise UnusableFileError('an array of another size')
    return np.frombuffer(numbers, found).reshape(shape)


def read_candidates(arrays: Mapping[str, np.ndarray], shape: Sequence[int]) -> list[Candidate]:
    """Return candidates from their arrays.

    Parameters
    ----------
    arrays : dict of ndarray
        `boxes` (n, 4); `bits` (m,), the packed masks one after the other; `predicted_iou` (n,) and
        `stability_scores` (n,).
    shape : sequence of int
        Of the frame, (H, W, ...).

    Raises
    ------
    UnusableFileError
    """
    boxes, bits, predicted_iou, stability_scores = (arrays[name] for name in MASK_ARRAYS)
    if boxes.shape[1:] != (4,) or not len(boxes) == len(predicted_iou) == len(stability_scores):
        raise UnusableFileError('arrays of different lengths')
    if len(boxes) > MAX_CANDIDATES:
        raise UnusableFileError(f'{len(boxes):,} masks')
    if not (np.isfinite(predicted_iou).all() and np.isfinite(stability_scores).all()):
        raise UnusableFileError('scores that are not finite')
    height, width = shape[:2]
    candidates = []
    start = 0
    scores = zip(predicted_iou.tolist(), stability_scores.tolist(), strict=True)
    for corners, (predicted, stability) in zip(boxes.tolist(), scores, strict=True):
        box = Box(*corners)
        if not (0 <= box.top < box.bottom <= height and 0 <= box.left < box.right <= width):
            raise UnusableFileError(f'{box} is outside the frame')
        row_bytes = -(-box.width // 8)
        packed = bits[start : start + box.height * row_bytes]
        start += box.height * row_bytes
        if start > len(bits):
            raise UnusableFileError('too few pixels')
        packed = packed.reshape(box.height, row_bytes)
        mask = unpack_mask(packed, box.width)
        fills_box = mask[[0, -1]].any(axis=1).all() and mask[:, [0, -1]].any(axis=0).all()
        if not fills_box or not np.array_equal(pack_mask(mask), packed):
            raise UnusableFileError('a mask that does not fill its box')
        candidates.append(Candidate(box, packed, int(np.count_nonzero(mask)), predicted, stability))
    if start != len(bits):
        raise UnusableFileError('too many pixels')
    return candidates
