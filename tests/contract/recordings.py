"""The recorded exchanges with a NimbusImage server; README.md describes them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
# They were recorded one after the other: later answers show what earlier requests did.
CHAPTERS = ('datasets', 'views', 'annotations', 'connections', 'properties', 'jobs', 'files')


@dataclass(frozen=True, eq=False)
class Exchange:
    """A request and its answer; `record` is as the file has it."""

    chapter: str
    number: int
    record: dict[str, Any]

    @property
    def note(self) -> str:
        """What was asked."""
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
        for number, record in enumerate(json.loads((FOLDER / f'{chapter}.json').read_text())['exchanges'])
    ]
