"""Compare an answer with the recorded one."""

import re
from collections.abc import Iterator, Set
from typing import Any

PLACEHOLDER = re.compile('<[^<>]+>')
ABBREVIATION = re.compile(r'… (\d+) in all')
# Nothing is known of what these stand for: each occurrence may be another one.
ANONYMOUS = {'<id>', '<time>', '<uuid>', '<path>', '<token>'}

# Keys that the annotation server may leave out, {path: keys}: nothing in the repository reads them.
OWNERSHIP = {
    'access',
    'baseParentId',
    'baseParentType',
    'created',
    'creatorId',
    'description',
    'updated',
}
LEFT_OUT = {
    '/folder': {*OWNERSHIP, 'dimensionLabels', 'parentCollection', 'parentId', 'public', 'size'},
    '/item': {*OWNERSHIP, 'exts', 'sourceName'},
    '/file': {*OWNERSHIP - {'created'}, 'exts'},
    '/dataset_view': {*OWNERSHIP, 'lastLocation', 'lastViewed', 'scales'},
    '/upenn_collection': {
        *OWNERSHIP,
        *('_modelType', 'folderId', 'size'),
        *('compatibility', 'layerGroup', 'pipelines', 'scales', 'snapshots', 'tools'),  # of meta
    },
    '/upenn_annotation/compute': {
        *OWNERSHIP,
        *(
            'args',
            'asynchronous',
            'celeryTaskId',
            'handler',
            'interval',
            'jobInfoSpec',
            'kwargs',
            'log',
            'meta',
        ),
        *('parentId', 'progress', 'public', 'timestamps', 'type', 'userId', 'when'),
    },
    '/annotation_connection': {'label', 'tags'},
    '/annotation_property_values': {'_id'},
    '/annotation_property': {'access'},
    '/worker_interface': {'_id', 'access'},
}
LEFT_OUT_OF_ERRORS = {'field', 'uid'}
# A library's words for a body that is not as it should be.
VALIDATOR = ('data.', 'data must ')
# The library that reads a TIFF file chooses these.
FREE_VALUES = {'tileHeight', 'tileWidth'}


class Names:
    """What the placeholders of the recordings stand for on the server that is asked."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}

    def bind(self, placeholder: str, id: str) -> bool:
        """Remember an id where it occurs first; return whether it is the same one everywhere."""
        if placeholder not in self.ids and id in self.ids.values():
            return False
        return self.ids.setdefault(placeholder, id) == id

    def fill_in(self, value: Any) -> Any:
        """Return a recorded request with the ids in place of the placeholders."""
        if isinstance(value, dict):
            return {key: self.fill_in(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.fill_in(one) for one in value]
        return (
            PLACEHOLDER.sub(lambda match: self.ids[match[0]], value)
            if isinstance(value, str)
            else value
        )


def kind_of(value: Any) -> str:
    """Return the JSON kind of a value."""
    if isinstance(value, bool):
        return 'boolean'
    names = {
        type(None): 'null',
        int: 'number',
        float: 'number',
        str: 'string',
        list: 'list',
        dict: 'object',
    }
    return names[type(value)]


def optional_keys(path: str, status: int) -> set[str]:
    """Return the keys that an answer to this path may lack."""
    if status != 200:
        return LEFT_OUT_OF_ERRORS
    return next((keys for prefix, keys in LEFT_OUT.items() if path.startswith(prefix)), set())


class Comparison:
    """Compares an answer with the recorded one.

    Parameters
    ----------
    names
        What the placeholders stand for; those that occur for the first time are added.
    optional
        The keys that the answer may lack.
    """

    def __init__(self, names: Names, optional: Set[str] = frozenset()):
        self.names = names
        self.optional = optional

    def find(self, recorded: Any, answered: Any, place: str = 'answer') -> Iterator[str]:
        """Yield the differences of two JSON values, in words."""
        if kind_of(recorded) != kind_of(answered):
            kinds = kind_of(answered), kind_of(recorded)
            yield f'{place} is {kinds[0]} {answered!r}, recorded was {kinds[1]} {recorded!r}'
        elif isinstance(recorded, dict):
            yield from self.find_in_objects(recorded, answered, place)
        elif isinstance(recorded, list):
            yield from self.find_in_lists(recorded, answered, place)
        elif isinstance(recorded, str):
            yield from self.find_in_texts(recorded, answered, place)
        elif recorded != answered:
            yield f'{place} is {answered!r}, recorded was {recorded!r}'

    def find_in_objects(
        self, recorded: dict[str, Any], answered: dict[str, Any], place: str
    ) -> Iterator[str]:
        """Yield the differences of two objects."""
        for key in sorted(answered.keys() - recorded.keys()):
            yield f'{place}.{key} was not recorded'
        for key in sorted(recorded.keys() - answered.keys() - self.optional):
            yield f'{place}.{key} is missing'
        for key in sorted(recorded.keys() & answered.keys() - FREE_VALUES):
            yield from self.find(recorded[key], answered[key], f'{place}.{key}')

    def find_in_lists(self, recorded: list[Any], answered: list[Any], place: str) -> Iterator[str]:
        """Yield the differences of two lists; of a long one, the first entries were recorded."""
        shown, length = recorded, len(recorded)
        if (
            recorded
            and isinstance(recorded[-1], str)
            and (match := ABBREVIATION.fullmatch(recorded[-1]))
        ):
            shown, length = recorded[:-1], int(match[1])
        if len(answered) != length:
            yield f'{place} has {len(answered)} entries, recorded were {length}'
        for number, (one, other) in enumerate(zip(shown, answered, strict=False)):
            yield from self.find(one, other, f'{place}[{number}]')

    def find_in_texts(self, recorded: str, answered: str, place: str) -> Iterator[str]:
        """Yield the differences of two texts; a placeholder stands for one id everywhere."""
        if recorded.startswith(VALIDATOR):
            return
        pattern = '(.+)'.join(map(re.escape, PLACEHOLDER.split(recorded)))
        match = re.fullmatch(pattern, answered)
        if match is None:
            yield f'{place} is {answered!r}, recorded was {recorded!r}'
            return
        for placeholder, id in zip(PLACEHOLDER.findall(recorded), match.groups(), strict=True):
            if placeholder not in ANONYMOUS and not self.names.bind(placeholder, id):
                yield f'{place} has {id}, which is not {placeholder}'
