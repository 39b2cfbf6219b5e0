"""The users and their levels."""

from dataclasses import dataclass

NO_ACCESS, READ, WRITE, ADMINISTER = range(-1, 3)  # the numbers of Girder's levels
# The level of each user with a token, on all datasets.
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

    A user has the same level on all datasets. A configuration may give a user another level, except
    for `admin`, who runs the site.
    """

    id: str
    name: str
    token: str

    @property
    def level(self) -> int:
        """The level on every dataset."""
        return LEVELS.get(self.name, NO_ACCESS)


NOBODY = User('None', 'nobody', '')  # no token, or one that is not valid
