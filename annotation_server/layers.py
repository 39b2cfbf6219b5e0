"""How datasets are shown: files NAME.layers.json beside the images."""

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

    layers
        Become `meta.layers`.
    layerContrasts
        Contrasts of the view, by layer id; no contrasts by default.
    name
        The configuration's name; 'NAME collection' by default.
    levels
        {user: level} for those who may do other things with this configuration and its view than
        with the dataset: -1 nothing, 0 read, 1 update, 2 administer. `admin` is not among them.
    """

    layers: list[dict[str, Any]]
    layerContrasts: NotRequired[dict[str, Any]]
    name: NotRequired[str]
    levels: NotRequired[dict[Name, Level]]


@with_config({'strict': True, 'extra': 'forbid'})
class Sidecar(Configuration):
    """The file: the first configuration, and others of the same form under `configurations`."""

    configurations: NotRequired[list[Configuration]]


SIDECAR = TypeAdapter(Sidecar)


def read_configurations(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the configurations in <name>.layers.json, with all keys; [] without the file.

    Raises
    ------
    ValueError
        If the file is not as `Sidecar` describes.
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
    """Return a configuration with its missing keys."""
    defaults = {'layerContrasts': {}, 'name': f'{name} collection', 'levels': {}}
    return {
        **defaults,
        **{key: value for key, value in configuration.items() if key != 'configurations'},
    }


def explain(path: Path, error: ValidationError) -> str:
    """Return what is wrong with the file in one line."""
    first = error.errors()[0]
    if first['type'] == 'json_invalid':
        return f'{path} is not JSON: {first["msg"]}'
    place = '.'.join(map(str, first['loc']))
    needed = 'It must hold a JSON object with a list "layers".'
    return f'{path}: {place or "the file"}: {first["msg"]}. {needed}'
