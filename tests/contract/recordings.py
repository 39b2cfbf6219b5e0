"""The recorded exchanges with a NimbusImage server; README.md describes them."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
# They were recorded one after the other: later answers show what earlier requests did.
CHAPTERS = ('datasets', 'views', 'annotations', 'connections', 'properties', 'jobs', 'files')
MORE = re.compile(r'… (\d+) in all')  # the end of an abbreviated list


@dataclass(frozen=True, eq=False)
class Exchange:
    """A request and its answer; `record` is as the file has it."""

    chapter: str
    number: int
    record: dict[str, Any]

    @property
    def note(self) -> str:
        """The request."""
        return self.record['note']

    @property
    def user(self) -> str:
        """Who asked."""
        return self.record['as']

    def __str__(self) -> str:
        return f'{self.chapter} {self.number}: {self.note}'


def read_exchanges() -> list[Exchange]:
    """Return all exchanges in the order in which they were recorded."""
    return [
        Exchange(chapter, number, record)
        for chapter in CHAPTERS
        for number, record in enumerate(
            json.loads((FOLDER / f'{chapter}.json').read_text())['exchanges']
        )
    ]


def find_exchange(chapter: str, note: str, who: str = 'owner') -> dict[str, Any]:
    """Return the one exchange of a chapter with this note, with real ids."""
    found = [
        one.record
        for one in read_exchanges()
        if (one.chapter, one.note, one.user) == (chapter, note, who)
    ]
    assert len(found) == 1, f'{len(found)} exchanges of {chapter} are noted {note!r}'
    return give_ids(found[0])


def id_of(name: str) -> str:
    """Return the id used for a name in angle brackets: 24 hexadecimal digits that sort as numbered names do."""
    stem, number = re.fullmatch(r'<(.*?)(\d*)>', name).groups()  # type: ignore[union-attr]
    return hashlib.sha256(stem.encode()).hexdigest()[:16] + f'{int(number or 0):08x}'


def give_ids(value: Any) -> Any:
    """Return a recorded value with ids for names, and abbreviated lists at their full length."""
    if isinstance(value, str):
        return re.sub(r'<[^<>]+>', lambda match: id_of(match[0]), value)
    if isinstance(value, dict):
        return {give_ids(key): give_ids(one) for key, one in value.items()}
    if not isinstance(value, list):
        return value
    more = MORE.fullmatch(value[-1]) if value and isinstance(value[-1], str) else None
    if more:
        first = value[0]
        # the recording keeps the first entry only; the others differ by their ids
        return [
            give_ids({**first, '_id': f'<{first["_id"][1:-2]}{number}>'})
            for number in range(1, int(more[1]) + 1)
        ]
    return [give_ids(one) for one in value]
