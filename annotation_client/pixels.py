"""Arrays of pixels, read from pickles as if a stranger had written them.

A pickle is a program, and `pickle.load` runs it. Pixels come from the network as pickles, so this
module assumes that anything can be in them:

- Code. A pickle may call any function by its name. Here the four names that the pickle of an array
  contains stand for `Piece`, which only keeps its arguments. All other names are refused.
- Memory. Ten bytes can ask for gigabytes: by a false length, or by a large number for an entry in
  the table of values. So the steps of the program are checked first: their kind, their number, and
  the lengths that they announce. A pickle that passes takes about as much memory as its content.
- Time. A few steps can nest a value so that it takes years to hash or to print. No step that hashes
  is allowed, and values are not printed.
- Pointers. An array of objects would hold addresses that a stranger chose. numpy gets only a type
  of numbers, a shape and the bytes, and compares their sizes.

This module cannot notice damage that still gives an array of numbers. `tiles.compare_region`
compares the size and the type of the array with the request.
"""

import io
import pickle
import pickletools
import re
import reprlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # not imported at run time: an interface request must not wait for numpy
    import numpy as np

NAMES = {
    'numpy.ndarray',
    'numpy.dtype',
    'numpy._core.multiarray._reconstruct',
    'numpy._core.numeric._frombuffer',
}
DTYPES = '[<>=|][biuf][1248]'
MAX_STEPS = 100
STEPS = (
    'PROTO|FRAME|STOP|MARK|MEMOIZE|BINPUT|BINGET|STACK_GLOBAL|REDUCE|BUILD|NONE|NEWTRUE|NEWFALSE|'
    'BININT[12]?|(SHORT_)?BINUNICODE|(SHORT_)?BINBYTES|BINBYTES8|BYTEARRAY8|(EMPTY_)?TUPLE[123]?'
)


def unpickle_array(content: bytes) -> 'np.ndarray':
    """Return the array of numbers in a pickle.

    Returns
    -------
    ndarray
        2-D or 3-D, with the same byte order as in the pickle.

    Raises
    ------
    Exception
        Of any type. The content is not a pickle of an array of numbers.
    """
    import numpy as np

    check_steps(content)
    array = ArrayUnpickler(io.BytesIO(content)).load()
    if not isinstance(array, Piece):
        raise pickle.UnpicklingError(f'it is of type {type(array).__name__}')
    order: Any
    if array.state:  # made by _reconstruct
        _, shape, dtype, is_fortran, values = array.state
        order, axes = 'F' if is_fortran else 'C', None
    else:  # made by _frombuffer, which gets axes only with the order K
        values, dtype, shape, order, axes = (*array.arguments, None)[:5]

    number_type = dtype.state[1] + dtype.arguments[0]
    if not re.fullmatch(DTYPES, number_type):
        raise pickle.UnpicklingError(f'its type {reprlib.repr(number_type)} is not one of numbers')
    flat = np.frombuffer(values, number_type)
    pixels = flat.reshape(shape, order='C' if order == 'K' else order)
    if order == 'K':
        pixels = pixels.transpose(axes)
    if pixels.ndim not in (2, 3):
        raise pickle.UnpicklingError(f'it has the shape {pixels.shape}')
    return pixels


def check_steps(content: bytes) -> None:
    """Raise an error for a pickle with steps that the pickle of an array does not have."""
    for number, (step, _, _) in enumerate(pickletools.genops(content)):
        if not re.fullmatch(STEPS, step.name) or number >= MAX_STEPS:
            raise pickle.UnpicklingError(f'step {number} is {step.name}, which no array needs')


class Piece:
    """An object in a pickle. It only keeps the arguments and the state."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: tuple = ()

    def __setstate__(self, state: tuple) -> None:
        """Keep the state that the pickle sets."""
        self.state = state


class ArrayUnpickler(pickle.Unpickler):
    """Returns an array as a `Piece` made of values and of a `Piece` for its type."""

    def find_class(self, module: str, name: str) -> type[Piece]:
        """Return Piece for the names that arrays need. Raises UnpicklingError for others."""
        full_name = f'{module}.{name}'.replace('numpy.core.', 'numpy._core.')  # numpy 1
        if full_name not in NAMES:
            raise pickle.UnpicklingError(f'it asks for {module}.{name}')
        return Piece
