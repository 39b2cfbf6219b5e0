"""The store: one item beside the images of a dataset, with a file per frame.

Nothing in this module raises. Whatever goes wrong, the job computes anew, and the log says why in
one line.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from typing import Any, NamedTuple

from girder_client import HttpError

from fewshot.server import Server
from fewshot.store.record import MAX_FILE_BYTES

ITEM = 'SAM few-shot proposals'
# An environment variable. With 0, nothing is stored or read.
SWITCH = 'SAM_FEWSHOT_KEEP_PROPOSALS'
MAX_STORED_BYTES = 256 * 10**6  # per dataset
MAX_STORED_FRAMES = 200  # of a batch whose proposals are stored
NAME = re.compile(r'([0-9a-f]{64})-([0-9a-f]{64})\.npz')
GONE_STATUSES = (400, 404)  # another job has replaced the file

log = logging.getLogger('sam_fewshot')


class StoredFile(NamedTuple):
    """A file of the store."""

    id: str
    key: str
    checksum: str  # SHA-256 of the content
    size: int  # bytes
    is_own: bool = False  # stored by this job


class FileStore:
    """The files of the store of one dataset. All calls come from one thread at a time.

    Parameters
    ----------
    server : Server
    is_read, is_written : bool
        Whether files are read and added. The first failure ends it.
    max_bytes : int
        Of all files. When they are reached, the oldest files are removed.
    """

    def __init__(
        self,
        server: Server,
        *,
        is_read: bool = True,
        is_written: bool = True,
        max_bytes: int = MAX_STORED_BYTES,
    ):
        self.server = server
        self.is_read, self.is_written = is_read, is_written
        self.max_bytes = max_bytes
        self.item_id: str | None = None
        self.files: list[StoredFile] = []  # oldest first

    def list_files(self) -> None:
        """Ask the server once which files it has."""
        try:
            self.item_id = self.server.find_item(ITEM)
            records = self.server.list_files(self.item_id) if self.item_id else []
            files = [read_file_record(one) for one in sort_by_age(records)]
        except Exception as error:  # the job does without the store
            self.is_read = self.is_written = False
            log.warning('proposals are neither read nor stored: %s', error)
            return
        self.files = [one for one in files if one is not None]

    def fetch(self, key: str) -> bytes | None:
        """Return the newest file of a key that an earlier job stored. None if it is damaged."""
        earlier = [one for one in self.files if one.key == key and not one.is_own]
        if not self.is_read or not earlier:
            return None
        found = earlier[-1]
        if found.size > MAX_FILE_BYTES:
            log.warning('a stored file is not used: it has %d bytes', found.size)
            return None
        try:
            content = self.server.download_file(found.id)
        except Exception as error:
            self.is_read = isinstance(error, HttpError) and error.status in GONE_STATUSES
            log.warning('a stored file cannot be read: %s', error)
            return None
        if hashlib.sha256(content).hexdigest() != found.checksum:
            log.warning('a stored file is not used: its name and its content do not agree')
            return None
        return content

    def save(self, key: str, content: bytes) -> None:
        """Add a file, and then remove the older ones of this key."""
        if not self.is_written:
            return
        checksum = hashlib.sha256(content).hexdigest()
        older = [one for one in self.files if one.key == key]
        if any(one.is_own and one.checksum == checksum for one in older):
            return  # two frames of this job have the same pixels
        try:
            if not self.make_room(len(content), older):
                self.is_written = False
                log.warning('no more proposals are stored: %d bytes are full', self.max_bytes)
                return
            self.item_id = self.item_id or self.server.create_item(ITEM)
            file_id = self.server.add_file(self.item_id, f'{key}-{checksum}.npz', content)
            self.files.append(StoredFile(file_id, key, checksum, len(content), is_own=True))
            for one in older:
                self.remove(one)
        except Exception as error:
            self.is_written = False
            log.warning('no more proposals are stored: %s', error)

    def make_room(self, size: int, older: list[StoredFile]) -> bool:
        """Remove the oldest files, but none of this job, until a file fits. Return whether it does.

        Parameters
        ----------
        size : int
            Of the file, bytes.
        older : list of StoredFile
            Files that the new one will replace.
        """
        excess = sum(one.size for one in self.files if one not in older) + size - self.max_bytes
        for one in [one for one in self.files if not one.is_own and one not in older]:
            if excess <= 0:
                break
            self.remove(one)
            excess -= one.size
        return excess <= 0

    def remove(self, file: StoredFile) -> None:
        """Remove a file. It may be gone already, because another job removed it."""
        try:
            self.server.remove_file(file.id)
        except HttpError as error:
            if error.status not in GONE_STATUSES:
                raise
        self.files.remove(file)


def open_store(server: Server, frames: int) -> FileStore:
    """Return the store of a dataset, with the list of its files.

    Parameters
    ----------
    server : Server
    frames : int
        Of the batch. The proposals of more than MAX_STORED_FRAMES are not stored.
    """
    is_on = os.environ.get(SWITCH) != '0'
    store = FileStore(server, is_read=is_on, is_written=is_on and frames <= MAX_STORED_FRAMES)
    if is_on:
        store.list_files()
    return store


def sort_by_age(records: list[Any]) -> list[Any]:
    """Return the server's records of files, oldest first. Files of equal age keep their order."""
    return sorted(records, key=lambda record: str(record.get('created', '')))


def read_file_record(record: Any) -> StoredFile | None:
    """Return a file from the server's record of it. None if it has another name."""
    named = NAME.fullmatch(record['name'])
    if not named:
        return None
    key, checksum = named.groups()
    return StoredFile(record['_id'], key, checksum, int(record['size']))
