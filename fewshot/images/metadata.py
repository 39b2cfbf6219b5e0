"""The metadata of a dataset's image: the lengths of its axes."""

from collections.abc import Mapping

from fewshot import messages
from fewshot.geometry import Location
from fewshot.settings import show

MAX_POSITIONS_PER_AXIS = 100_000


def axis_length(metadata: Mapping, axis: str) -> int:
    """Return the number of positions of an axis.

    Parameters
    ----------
    metadata : dict
        The tile metadata of the image, as the server sends them.
    axis : {'XY', 'Z', 'T', 'C'}

    Returns
    -------
    int
        1 for an image of a single plane, which has no axes.

    Raises
    ------
    JobError
        The metadata do not give a number of positions.

    Examples
    --------
    >>> axis_length({'IndexRange': {'IndexZ': 3}}, 'Z')
    3
    >>> axis_length({'IndexRange': {'IndexZ': 3}}, 'T')
    1
    """
    lengths = metadata.get('IndexRange')
    if lengths is None:
        return 1
    length = lengths.get(f'Index{axis}', 1) if isinstance(lengths, Mapping) else None
    # True is an int, too.
    if type(length) is not int or not 1 <= length <= MAX_POSITIONS_PER_AXIS:
        raise messages.BAD_AXES.error(axis=axis, seen=show(lengths), most=MAX_POSITIONS_PER_AXIS)
    return length


def has_location(metadata: Mapping, location: Location) -> bool:
    """Return whether the dataset has a location.

    Parameters
    ----------
    metadata : dict
        The tile metadata of the image.
    location : Location

    Raises
    ------
    JobError
        The metadata do not give a number of positions.

    Examples
    --------
    >>> has_location({'IndexRange': {'IndexXY': 8}}, Location(xy=7, z=0, time=0))
    True
    """
    indices = {'XY': location.xy, 'Z': location.z, 'T': location.time}
    return all(0 <= index < axis_length(metadata, axis) for axis, index in indices.items())
