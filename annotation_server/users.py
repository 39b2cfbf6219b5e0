"""Who asks, and what they may do."""

from dataclasses import dataclass

NO_ACCESS, READ, WRITE, ADMINISTER = range(-1, 3)  # as Girder counts
# Of everybody who has a token, on all datasets.
LEVELS = {
    'owner': ADMINISTER,
    'writer': WRITE,
    'reader': READ,
    'stranger': NO_ACCESS,
    'admin': ADMINISTER,
}


@dataclass(frozen=True)
class User:
    """A user of the server.

    Every user has one level on all datasets. A configuration may give a user another one, except to
    `admin`, who runs the site.
    """

    id: str
    name: str
    token: str

    @property
    def level(self) -> int:
        """The level on every dataset."""
        return LEVELS.get(self.name, NO_ACCESS)


NOBODY = User('None', 'nobody', '')  # asks without a token, or with one that is not valid
