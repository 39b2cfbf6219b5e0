"""The user of a request, and the checks of the user's rights that the routes share."""

import sqlite3
from typing import Annotated

from fastapi import Depends, Header, Request

from annotation_server.refusals import RefusalError, require_object_id
from annotation_server.store import Store
from annotation_server.users import NOBODY, READ, WRITE, User


def get_store(request: Request) -> Store:
    """Return the store of the running server."""
    return request.app.state.store


CurrentStore = Annotated[Store, Depends(get_store)]


def find_user(
    store: CurrentStore, token: Annotated[str, Header(alias='Girder-Token')] = ''
) -> User:
    """Return the user who sent the request. NOBODY if the token is not valid."""
    return store.user_of_token(token) or NOBODY


Asker = Annotated[User, Depends(find_user)]


def require_login(user: Asker) -> User:
    """Return the user who sent the request. Refuse NOBODY."""
    if user is NOBODY:
        raise RefusalError(401, 'You must be logged in.', 'access')
    return user


LoggedIn = Annotated[User, Depends(require_login)]


def require_read(user: User, level: int, kind: str, object_id: str) -> None:
    """Refuse to show an object if the user's level on it is below READ."""
    if level < READ:
        status = 401 if user is NOBODY else 403
        raise RefusalError(
            status, f'Read access denied for {kind} {object_id} (user {user.id}).', 'access'
        )


def require_write(user: User, level: int, kind: str, object_id: str) -> None:
    """Refuse to change an object if the user's level on it is below WRITE."""
    if level < WRITE:
        raise RefusalError(
            403, f'Write access denied for {kind} {object_id} (user {user.id}).', 'access'
        )


def require_dataset(store: Store, user: User, dataset_id: str) -> sqlite3.Row:
    """Return the dataset that a query parameter names. Refuse if the user may not read it."""
    require_object_id(dataset_id)
    dataset = store.dataset(dataset_id)
    if dataset is None:
        raise RefusalError(400, f'No such folder: {dataset_id}', 'validation')
    require_read(user, user.level, 'folder', dataset_id)
    return dataset


def require_writable(store: Store, user: User, dataset_ids: set[str]) -> None:
    """Refuse if one of the datasets does not exist or the user may not change it."""
    for dataset_id in sorted(dataset_ids):
        require_object_id(dataset_id)
        if store.dataset(dataset_id) is None:
            raise RefusalError(403, f"Dataset(s) not found: [ObjectId('{dataset_id}')]", 'access')
        require_write(user, user.level, 'folder', dataset_id)
