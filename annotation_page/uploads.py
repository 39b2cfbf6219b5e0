"""Images that the user drops onto the page."""

import os
import re
import secrets
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import large_image

from annotation_page.tiles import axis_lengths, draw_tile
from fewshot.geometry import Location
from fewshot.images.layers import make_default_layers

SUFFIXES = ('.ome.tif', '.ome.tiff', '.tif', '.tiff', '.png')
MAX_BYTES = 2 * 2**30
MAX_NAME_CHARACTERS = 120
FOLDER = 'uploads'  # for files that are not complete yet; the server does not look there


class UploadError(Exception):
    """An image cannot be added. The text is the reason and what to do, for the user."""


def split_name(name: str) -> tuple[str, str]:
    """Return the stem and the suffix of an image's name, without characters that are not safe.

    Raises
    ------
    UploadError
        It is not the name of an image.

    Examples
    --------
    >>> split_name('../cells 1.OME.TIF')
    ('cells 1', '.ome.tif')
    """
    base = re.split(r'[/\\]', name)[-1]
    suffix = next((suffix for suffix in SUFFIXES if base.lower().endswith(suffix)), None)
    stem = base[: -len(suffix)] if suffix else ''
    stem = re.sub(r'[\x00-\x1f\x7f<>:"|?*]', '_', stem).strip(' .')[:MAX_NAME_CHARACTERS]
    if suffix is None or not stem:
        raise UploadError(f'"{base}" is not a TIFF or PNG image. Save it as one of these.')
    return stem, suffix


def choose_name(name: str, taken: Iterable[str]) -> tuple[str, str]:
    """Return (dataset's name, file name) for a new image.

    Parameters
    ----------
    name : str
        As the browser sends it.
    taken : iterable of str
        The names of the datasets that exist. A number is added to a name that is taken.
    """
    stem, suffix = split_name(name)
    used = {one.lower() for one in taken}
    number, unique = 1, stem
    while Path(f'{unique}{suffix}').stem.lower() in used:
        number += 1
        unique = f'{stem} {number}'
    file_name = f'{unique}{suffix}'
    return Path(file_name).stem, file_name


async def receive_image(
    folder: Path,
    name: str,
    body: AsyncIterator[bytes],
    taken: Iterable[str],
    limit: int = MAX_BYTES,
) -> tuple[str, Path]:
    """Save an image in the served folder.

    Parameters
    ----------
    folder : Path
    name : str
        As the browser sends it.
    body : async iterator of bytes
        The content of the file.
    taken : iterable of str
        The names of the datasets that exist.
    limit : int
        Bytes that an image may have.

    Returns
    -------
    name : str
        Of the new dataset.
    path : Path
        Of the new file.

    Raises
    ------
    UploadError
        The file is too large, or it is not an image.
    """
    dataset, file_name = choose_name(name, taken)
    partial = folder / FOLDER / f'{secrets.token_hex(8)}{split_name(file_name)[1]}'
    partial.parent.mkdir(exist_ok=True)
    try:
        size = 0
        with partial.open('wb') as file:
            async for part in body:
                size += len(part)
                if size > limit:
                    raise UploadError(f'"{file_name}" {describe_limit(limit)}')
                file.write(part)
        check_image(partial, file_name)
        target = folder / file_name
        os.link(partial, target)  # unlike a rename, it never replaces a file
    except FileExistsError:
        raise UploadError(f'There is a file "{file_name}" already. Rename yours.') from None
    finally:
        partial.unlink(missing_ok=True)
    return dataset, target


def describe_limit(limit: int) -> str:
    """Return why a file of more bytes is refused, after its name."""
    return (
        f'is larger than {show_bytes(limit)}. Put large images into the folder of the server '
        'and start it again.'
    )


def show_bytes(size: int) -> str:
    """Return a size as text for the user.

    Examples
    --------
    >>> show_bytes(2 * 2**30)
    '2 GB'
    """
    for unit, factor in (('GB', 2**30), ('MB', 2**20)):
        if size >= factor:
            return f'{size / factor:.3g} {unit}'
    return f'{size} bytes'


def check_image(path: Path, name: str) -> None:
    """Draw the first tile of an image. Raise an UploadError if that fails."""
    try:
        metadata = large_image.open(path).getMetadata()
        layers = make_default_layers(axis_lengths(metadata)['Channel'])
        draw_tile(path, Location(0, 0, 0), layers, 0, 0, 0)
    except Exception as error:
        # A damaged file can fail in any of the libraries that read it.
        raise UploadError(
            f'"{name}" cannot be read as an image. Open it in ImageJ and save it as TIFF.'
        ) from error
