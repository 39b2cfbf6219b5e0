"""Pickles of arrays, honest and hostile."""

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from annotation_client.pixels import MAX_STEPS, check_steps, unpickle_array

NUMBERS = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(endianness='?'),
    arrays.unsigned_integer_dtypes(endianness='?'),
    arrays.floating_dtypes(endianness='?'),
)
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    'contiguous': np.ascontiguousarray,
    'Fortran': np.asfortranarray,
    'strided': lambda pixels: pixels[::-1, ::2],
    'transposed': lambda pixels: pixels.swapaxes(0, 1),
}


@given(
    arrays.arrays(NUMBERS, arrays.array_shapes(min_dims=2, max_dims=3)),
    st.sampled_from(sorted(LAYOUTS)),
)
def test_arrays_of_numbers_are_read_exactly(pixels: np.ndarray, layout: str) -> None:
    pixels = LAYOUTS[layout](pixels)
    read = unpickle_array(pickle.dumps(pixels, protocol=5))
    native = pixels.dtype.newbyteorder('=')  # numpy swaps the bytes of some arrays when it reads
    assert (read.dtype.newbyteorder('='), read.shape) == (native, pixels.shape)
    # compare bits: a NaN differs from itself
    assert read.astype(native).tobytes() == pixels.astype(native).tobytes()


@pytest.mark.parametrize('layout', ['contiguous', 'strided'])
@pytest.mark.parametrize('package', ['core', '_core'])
def test_arrays_of_numpy_1_and_2_are_read(package: str, layout: str) -> None:
    pixels = LAYOUTS[layout](np.arange(12, dtype=np.uint16).reshape(3, 4))
    pickled = pickle.dumps(pixels, protocol=5)
    pickled = pickled[:2] + pickled[11:]  # without the frame step, which has a length
    names = rb'(.)numpy\._?core\.(numeric|multiarray)'

    def rename(found: re.Match[bytes]) -> bytes:
        name = f'numpy.{package}.'.encode() + found[2]
        return bytes([len(name)]) + name

    renamed, count = re.subn(names, rename, pickled, flags=re.DOTALL)
    assert count == 1
    np.testing.assert_array_equal(unpickle_array(renamed), pixels)


class Call:
    """Pickles as the call of a function. Hostile pickles are made of calls."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None):
        self.reduced = (function, arguments, state)

    def __reduce__(self) -> tuple:
        return self.reduced


REBUILD, FROM_BUFFER = np.empty(0).__reduce__()[0], np.empty(0).__reduce_ex__(5)[0]
# A type of objects that says it has none.
POINTERS = Call(np.dtype, 'O', False, True, state=(3, '|', None, None, None, -1, -1, 0))
BYTE = np.dtype('u1')


@pytest.mark.parametrize(
    ('value', 'reason'),
    [
        (Call(os.system, 'touch touched'), 'it asks for posix.system'),
        (Call(eval, "open('touched', 'w')"), 'it asks for builtins.eval'),
        (Call(getattr, np.ndarray, 'tofile'), 'it asks for builtins.getattr'),
        (Call(np.save, 'touched.npy', 1), 'it asks for numpy.save'),
        (np.ndarray.tofile, 'it asks for builtins.getattr'),
        (Path('touched'), 'it asks for pathlib.'),
        (np.array([[Call(os.system, 'touch touched')]]), r'step \d+ is \w+, which no array needs'),
        (Call(FROM_BUFFER, b'A' * 8, POINTERS, (1, 1), 'C'), r"type '\|O' is not one of numbers"),
        (Call(FROM_BUFFER, b'A' * 8, BYTE, (2**30, 2**30), 'C'), 'cannot reshape'),
        (Call(FROM_BUFFER, np.zeros((2, 4), np.uint8), BYTE, (2, 4), 'C'), "bytes-like.*'Piece'"),
        (Call(FROM_BUFFER, b'A' * 8, 'O', (1, 1), 'C'), "'str' object has no attribute"),
        (Call(REBUILD, np.ndarray, (2**20, 2**20), b'b'), 'not enough values to unpack'),
        (np.array([['text']]), "type '<U4' is not one of numbers"),
        (np.zeros((1, 1), [('x', 'f4')]), 'which no array needs'),
        (np.zeros((1, 1), complex), "type '<c16' is not one of numbers"),
        (np.zeros((1, 1), 'M8[s]'), "type '<M8' is not one of numbers"),
        (np.float32(1), 'it asks for numpy._core.multiarray.scalar'),
        (np.zeros(5), r'it has the shape \(5,\)'),
        (np.zeros((1, 1, 1, 1)), r'it has the shape \(1, 1, 1, 1\)'),
        (np.ndarray, 'it is of type type'),
        ({'pixels': [1, 2]}, 'step 2 is EMPTY_DICT'),
        ((1, 2), 'it is of type tuple'),
    ],
)
def test_other_pickles_are_refused_and_run_nothing(
    value: object, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=reason):
        unpickle_array(pickle.dumps(value, protocol=5))
    assert list(tmp_path.iterdir()) == []


def test_names_of_methods_are_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match=r'it asks for numpy\.ndarray\.tofile'):
        unpickle_array(b'\x80\x05\x8c\x05numpy\x8c\x0endarray.tofile\x93.')


def test_truncated_pickles_are_refused() -> None:
    whole = pickle.dumps(np.zeros((2, 3), np.uint8), protocol=5)
    for length in range(len(whole)):
        with pytest.raises((pickle.UnpicklingError, EOFError, ValueError)):
            unpickle_array(whole[:length])


TERABYTE = (2**40).to_bytes(8, 'little')


@pytest.mark.parametrize(
    ('steps', 'reason'),
    [
        (b'N\x72\xff\xff\xff\x7f.', 'step 2 is LONG_BINPUT'),  # a memo of 2 ** 31 entries
        (b'p99999999999\n.', 'step 1 is PUT'),
        (b']' * 1_000_000 + b'a' * 999_999 + b'.', 'step 1 is EMPTY_LIST'),
        (b')' + b'\x85' * 1_000_000 + b'.', f'step {MAX_STEPS} is TUPLE1'),
        (b')' + b'2\x86' * 40 + b'.', 'step 2 is DUP'),  # doubles itself forty times
        (b'\x8e' + TERABYTE + b'abc.', 'expected 1099511627776 bytes'),
        (b'\x96' + TERABYTE + b'abc.', 'expected 1099511627776 bytes'),
        (b'\x8d' + TERABYTE + b'abc.', 'expected 1099511627776 bytes'),
    ],
    ids=['memo', 'memo as text', 'lists', 'tuples', 'doubling', 'bytes', 'bytearray', 'text'],
)
def test_memory_bombs_are_refused_before_they_run(steps: bytes, reason: str) -> None:
    with pytest.raises((pickle.UnpicklingError, ValueError), match=reason):
        check_steps(b'\x80\x05' + steps)


def test_frame_longer_than_the_content_is_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match=r'truncated|exhausted'):
        unpickle_array(b'\x80\x05\x95' + TERABYTE + b'N.')
