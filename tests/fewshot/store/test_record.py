"""Files of the store: every record comes back bit for bit, and nothing else is accepted."""

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.geometry import Box, CutMask
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.store.record import (
    MAX_FILE_BYTES,
    MAX_UNPACKED_BYTES,
    Record,
    UnusableFileError,
    decode,
    digest_object,
    encode,
    make_key,
)
from tests.fewshot.sam.drawing import make_candidate
from tests.fewshot.store.records import CHANNELS, KEY, RGB, SHAPE, assert_equal, make_record


def read(content: bytes) -> Record:
    return decode(content, KEY, SHAPE, CHANNELS)


def read_arrays(record: Record) -> dict[str, np.ndarray]:
    """Return the arrays of the file of a record."""
    with np.load(io.BytesIO(encode(record, KEY))) as file:
        return dict(file)


def write_arrays(arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


@given(candidates=st.integers(0, 6), vectors=st.integers(0, 4), seed=st.integers(0, 2**32))
def test_record_comes_back_as_it_was(candidates, vectors, seed):
    record = make_record(candidates, vectors, seed)
    assert_equal(read(encode(record, KEY)), record)


def test_record_of_examples_has_no_masks():
    record = Record(None, make_record().vectors)
    assert_equal(read(encode(record, KEY)), record)


def test_equal_records_have_equal_files():
    assert encode(make_record(), KEY) == encode(make_record(), KEY)


def test_scores_are_exact():
    candidate = replace(
        make_candidate(np.ones((2, 2), bool)),
        predicted_iou=float(np.float32(0.1)),
        stability_score=7 / 9,
    )
    [found] = read(encode(Record([candidate]), KEY)).candidates or []
    assert (found.predicted_iou, found.stability_score) == (float(np.float32(0.1)), 7 / 9)


# Names


def test_key_depends_on_everything_that_masks_depend_on():
    box, other = Box(0, 0, 20, 30), RGB.copy()
    other[3, 4, 1] ^= 1
    keys = [
        KEY,
        make_key(other, None, VIT_MINI, 16, 'float32'),
        make_key(RGB.reshape(30, 20, 3), None, VIT_MINI, 16, 'float32'),
        make_key(RGB, box, VIT_MINI, 16, 'float32'),
        make_key(RGB, box._replace(top=1), VIT_MINI, 16, 'float32'),
        make_key(RGB, None, VIT_MINI, 17, 'float32'),
        make_key(RGB, None, VIT_MINI, None, 'float32'),
        make_key(RGB, None, VIT_MINI, 16, 'bfloat16 on NVIDIA H100'),
        make_key(RGB, None, replace(VIT_MINI, sha256='0' * 64), 16, 'float32'),
        make_key(RGB, None, replace(VIT_MINI, pred_iou_thresh=0.56), 16, 'float32'),
        make_key(RGB, None, replace(VIT_MINI, stability_score_thresh=0.71), 16, 'float32'),
        make_key(RGB, None, replace(VIT_MINI, box_nms_thresh=0.21), 16, 'float32'),
    ]
    assert len(set(keys)) == len(keys)
    assert make_key(np.asfortranarray(RGB), None, VIT_MINI, 16, 'float32') == KEY


def test_key_of_examples_depends_on_no_threshold():
    keys = {
        make_key(RGB, None, one, None, 'float32')
        for one in (VIT_MINI, replace(VIT_MINI, pred_iou_thresh=0, box_nms_thresh=1))
    }
    assert len(keys) == 1


def test_digest_depends_on_place_mask_and_description():
    mask = np.ones((2, 9), bool)
    one = make_candidate(mask, 3, 4)
    digests = [
        digest_object(one, 'a'),
        digest_object(one, 'b'),
        digest_object(make_candidate(mask, 3, 5), 'a'),
        digest_object(make_candidate(np.ones((2, 10), bool), 3, 4), 'a'),
        digest_object(make_candidate(mask & (np.arange(9) != 4), 3, 4), 'a'),
    ]
    assert len(set(digests)) == len(digests)
    assert digest_object(CutMask(one.box, mask), 'a') == digests[0]


# Damaged and hostile files


def change(name: str, make: Callable[[np.ndarray], Any]) -> Callable[[dict], bytes]:
    """Return a function that writes the arrays of a record with one of them changed."""
    return lambda arrays: write_arrays({**arrays, name: make(arrays[name])})


def put(value: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that replaces the first number of an array."""

    def replace_first(array: np.ndarray) -> np.ndarray:
        changed = array.copy()
        changed.flat[0] = value
        return changed

    return replace_first


def announce(size: int, content: bytes) -> Callable[[dict], bytes]:
    """Return a function that writes an archive in which `key.npy` announces a false size."""

    def write(arrays: dict) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('key.npy', content)
            for name in ('digests', 'vectors'):
                member = io.BytesIO()
                np.lib.format.write_array(member, arrays[name], (1, 0))
                archive.writestr(f'{name}.npy', member.getvalue())
        raw = file.getvalue()
        true, false = len(content).to_bytes(4, 'little'), size.to_bytes(4, 'little')
        assert raw.count(true) == 2  # in the header of the member and in the directory
        return raw.replace(true, false)

    return write


def compress(kind: int) -> Callable[[dict], bytes]:
    """Return a function that writes an archive with another compression."""

    def write(arrays: dict) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, 'w', kind) as archive:
            for name, array in arrays.items():
                member = io.BytesIO()
                np.lib.format.write_array(member, array, (1, 0))
                archive.writestr(f'{name}.npy', member.getvalue())
        return file.getvalue()

    return write


def repeat(arrays: dict) -> bytes:
    """Write an archive with one name twice."""
    file = io.BytesIO(write_arrays(arrays))
    with zipfile.ZipFile(file, 'a') as archive, pytest.warns(UserWarning, match='Duplicate'):
        archive.writestr('key.npy', b'')
    return file.getvalue()


def claim(shape: str) -> Callable[[dict], bytes]:
    """Return a function that writes an array of vectors with a false shape."""

    def write(arrays: dict) -> bytes:
        raw = io.BytesIO()
        np.lib.format.write_array(raw, arrays['vectors'], (1, 0))
        before = str(arrays['vectors'].shape).encode()
        content = raw.getvalue().replace(before, shape.encode(), 1)
        content = content.replace(b' ' * (len(shape) - len(before)) + b'\n', b'\n', 1)
        file = io.BytesIO()
        with zipfile.ZipFile(file, 'w') as archive:
            archive.writestr('vectors.npy', content)
            for name in arrays.keys() - {'vectors'}:
                member = io.BytesIO()
                np.lib.format.write_array(member, arrays[name], (1, 0))
                archive.writestr(f'{name}.npy', member.getvalue())
        return file.getvalue()

    return write


UNUSABLE: dict[str, Callable[[dict], bytes]] = {
    'nothing': lambda arrays: b'',
    'no archive': lambda arrays: b'no archive' * 100,
    'too large': lambda arrays: bytes(MAX_FILE_BYTES + 1),
    'truncated': lambda arrays: write_arrays(arrays)[:-1],
    'another frame': change('key', put(0)),
    'an array too many': lambda arrays: write_arrays({**arrays, 'more': np.zeros(3)}),
    'an array too few': lambda arrays: write_arrays(
        {name: one for name, one in arrays.items() if name != 'boxes'}
    ),
    'a name twice': repeat,
    'pickled objects': change('vectors', lambda one: np.array([{}], object)),
    'another type': change('vectors', lambda one: one.astype('>f4')),
    'integers of another size': change('boxes', lambda one: one.astype(np.int64)),
    'another number of axes': change('bits', lambda one: one[None]),
    'a mirrored array': change('vectors', np.asfortranarray),
    'a false shape': claim('(2000000000, 6)'),
    'a negative shape': claim('(-2, -6)'),
    'vectors of another length': change('vectors', lambda one: one[:, 1:]),
    'fewer vectors': change('vectors', lambda one: one[1:]),
    'shorter digests': change('digests', lambda one: np.ascontiguousarray(one[:, 1:])),
    'a vector of nan': change('vectors', put(np.nan)),
    'a vector of inf': change('vectors', put(np.inf)),
    'a predicted IoU of nan': change('predicted_iou', put(np.nan)),
    'a stability of inf': change('stability_scores', put(-np.inf)),
    'fewer scores': change('predicted_iou', lambda one: one[1:]),
    'boxes of three corners': change('boxes', lambda one: np.ascontiguousarray(one[:, 1:])),
    'a box above the frame': change('boxes', put(-1)),
    'a box below the frame': change('boxes', lambda one: one + np.int32(20)),
    'an empty box': change('boxes', lambda one: np.zeros_like(one)),
    'fewer boxes': change('boxes', lambda one: one[1:]),
    'too few pixels': change('bits', lambda one: one[:-1]),
    'too many pixels': change('bits', lambda one: np.append(one, np.uint8(0))),
    'empty masks': change('bits', np.zeros_like),
    'pixels beside the mask': change('bits', lambda one: np.full_like(one, 255)),
    'a false number of masks': lambda arrays: write_arrays(
        {
            **arrays,
            'boxes': np.tile(np.array([0, 0, 1, 1], '<i4'), (50_000, 1)),
            'bits': np.full(50_000, 128, np.uint8),
            'predicted_iou': np.zeros(50_000),
            'stability_scores': np.zeros(50_000),
        }
    ),
    'a member that announces gigabytes': announce(2**32 - 5, b'x' * 12345),
    'a member that is larger than it announces': announce(100, bytes(MAX_UNPACKED_BYTES)),
    'a member that is smaller than it announces': announce(54321, b'x' * 12345),
    'compressed by bzip2': compress(zipfile.ZIP_BZIP2),
    'compressed by lzma': compress(zipfile.ZIP_LZMA),
}


@pytest.mark.parametrize('name', UNUSABLE)
def test_unusable_file_is_refused(name):
    content = UNUSABLE[name](read_arrays(make_record()))
    with pytest.raises(UnusableFileError):
        read(content)


def test_bomb_is_not_unpacked():
    content = announce(100, bytes(MAX_UNPACKED_BYTES))(read_arrays(make_record()))
    tracemalloc.start()
    with pytest.raises(UnusableFileError):
        read(content)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < MAX_UNPACKED_BYTES / 10


@given(
    changes=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=8),
    end=st.integers(0, 2**20),
)
def test_any_damage_is_refused_or_does_no_harm(changes, end):
    content = bytearray(encode(make_record(), KEY))
    for place, byte in changes:
        content[place % len(content)] = byte
    try:
        record = read(bytes(content[: 1 + end % len(content)]))
    except UnusableFileError:
        return
    for candidate in record.candidates or []:
        assert candidate.mask.shape == (candidate.box.height, candidate.box.width)
        assert candidate.mask.any()
    assert all(vector.shape == (CHANNELS,) for vector in record.vectors.values())


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(content):
    with pytest.raises(UnusableFileError):
        read(content)


def test_large_record_is_not_written():
    large = np.ones(MAX_UNPACKED_BYTES // 4, np.float32)
    with pytest.raises(UnusableFileError, match='unpacked'):
        encode(Record(None, {bytes(16): large}), KEY)
    noise = np.frombuffer(np.random.default_rng(0).bytes(MAX_FILE_BYTES), np.float32)
    with pytest.raises(UnusableFileError, match='bytes'):
        encode(Record(None, {bytes(16): noise}), KEY)
