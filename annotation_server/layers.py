"""The layers of datasets: files NAME.layers.json next to the images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic takes typing's own only from Python 3.12 on

from annotation_server.users import ADMINISTER, NO_ACCESS

Name = Literal['owner', 'writer', 'reader', 'stranger']
Level = Annotated[int, Field(ge=NO_ACCESS, le=ADMINISTER)]


@with_config({'strict': True, 'extra': 'forbid'})
class Configuration(TypedDict):
    """A configuration and the view that shows the dataset with it.

    Attributes
    ----------
    layers : list of dict
        Become `meta.layers`.
    layerContrasts : dict, optional
        Contrasts of the view, by layer id. By default there are no contrasts.
    name : str, optional
        Name of the configuration, by default 'NAME collection'.
    levels : dict, optional
        {user: level} for users whose level here differs from their level on the dataset. -1 is
        nothing, 0 read, 1 update, 2 administer. The level of `admin` cannot be changed.
    """

    layers: list[dict[str, Any]]
    layerContrasts: NotRequired[dict[str, Any]]
    name: NotRequired[str]
    levels: NotRequired[dict[Name, Level]]


@with_config({'strict': True, 'extra': 'forbid'})
class Sidecar(Configuration):
    """The content of the file: a configuration, and others of the same form in `configurations`."""

    configurations: NotRequired[list[Configuration]]


SIDECAR = TypeAdapter(Sidecar)


def read_configurations(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the configurations in NAME.layers.json, with all keys. [] if there is no file.

    Raises
    ------
    ValueError
        The file does not have the form of `Sidecar`.
    """
    path = folder / f'{name}.layers.json'
    if not path.exists():
        return []
    try:
        first = SIDECAR.validate_json(path.read_text())
    except ValidationError as error:
        raise ValueError(explain(path, error)) from error
    return [complete(one, name) for one in (first, *first.get('configurations', []))]


def complete(configuration: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a configuration with defaults for missing keys."""
    defaults = {'layerContrasts': {}, 'name': f'{name} collection', 'levels': {}}
    return {
        **defaults,
        **{key: value for key, value in configuration.items() if key != 'configurations'},
    }


def explain(path: Path, error: ValidationError) -> str:
    """Return the first mistake in the file, in one line."""
    first = error.errors()[0]
    if first['type'] == 'json_invalid':
        return f'{path} is not JSON: {first["msg"]}'
    place = '.'.join(map(str, first['loc']))
    needed = 'It must hold a JSON object with a list "layers".'
    return f'{path}: {place or "the file"}: {first["msg"]}. {needed}'
