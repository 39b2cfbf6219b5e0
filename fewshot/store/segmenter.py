"""A segmenter that computes only what no earlier run has stored."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fewshot.geometry import CutMask, Tile
from fewshot.sam.candidates import Candidate
from fewshot.sam.checkpoints import Checkpoint
from fewshot.store.files import FileStore
from fewshot.store.record import (
    MAX_FILE_BYTES,
    Record,
    UnusableFileError,
    decode,
    digest_object,
    encode,
    make_key,
)

if TYPE_CHECKING:  # imports torch
    from fewshot.sam.segmenter import Segmenter

Report = Callable[[float], None]  # called with the share of the work that is done, 0 to 1

log = logging.getLogger('sam_fewshot')


@dataclass(eq=False)
class Entry:
    """A frame or tile that was loaded, and what is known of it."""

    rgb: np.ndarray
    key: str
    record: Record
    is_changed: bool = False  # since it was fetched


class StoringSegmenter:
    """A `Segmenter` that looks for proposals and vectors in the store first.

    The frame or tile must have been given to `fetch` before.

    Parameters
    ----------
    store : FileStore
    load : callable
        Returns the segmenter that computes. Called only when something is missing.
    checkpoint : Checkpoint
    points_per_side : int or None
        None if the segmenter only describes examples.
    precision : str
        From `record.name_precision`.
    description : str
        How objects are described, from `record.name_description`.
    background : Executor
        Has one thread, in which files are stored.
    max_file_bytes : int
        A file that would be larger is not stored.
    """

    def __init__(
        self,
        store: FileStore,
        load: Callable[[], Segmenter],
        checkpoint: Checkpoint,
        points_per_side: int | None,
        precision: str,
        description: str,
        background: Executor,
        max_file_bytes: int = MAX_FILE_BYTES,
    ):
        self.input_size = checkpoint.input_size
        self._store = store
        self._load = load
        self._checkpoint = checkpoint
        self._points_per_side = points_per_side
        self._precision = precision
        self._description = description
        self._background = background
        self._max_file_bytes = max_file_bytes
        self._entries: deque[Entry] = deque(maxlen=2)  # the frame that is searched, and the next

    def fetch(self, tile: Tile, rgb: np.ndarray) -> None:
        """Look in the store for what is known of a frame or tile. Runs in the background.

        Parameters
        ----------
        tile : Tile
        rgb : (H, W, 3) uint8 ndarray
            Its pixels.
        """
        key = make_key(rgb, tile.box, self._checkpoint, self._points_per_side, self._precision)
        record = Record()
        content = self._store.fetch(key)
        if content is not None:
            try:
                record = decode(content, key, rgb.shape, self._checkpoint.channels)
            except UnusableFileError as error:
                log.warning('a stored file is not used: %s', error)
        self._entries.append(Entry(rgb, key, record))

    def has_proposals(self, rgb: np.ndarray) -> bool:
        """Return whether the store has the proposals of a frame."""
        return self._entry(rgb).record.candidates is not None

    def propose(self, rgb: np.ndarray, report: Report) -> list[Candidate]:
        """Return the masks of a frame, see `Segmenter.propose`."""
        entry = self._entry(rgb)
        if entry.record.candidates is None:
            entry.record.candidates = self._load().propose(rgb, report)
            entry.is_changed = True
        return entry.record.candidates

    def describe(
        self, rgb: np.ndarray, objects: Sequence[CutMask | Candidate], report: Report
    ) -> np.ndarray:
        """Return a vector for each object of a frame, see `Segmenter.describe`.

        The record of the frame is then stored in the background.
        """
        entry = self._entry(rgb)
        vectors = entry.record.vectors
        digests = [digest_object(one, self._description) for one in objects]
        missing = [number for number, digest in enumerate(digests) if digest not in vectors]
        if missing:
            computed = self._load().describe(rgb, [objects[number] for number in missing], report)
            for number, vector in zip(missing, computed, strict=True):
                vectors[digests[number]] = vector
            entry.is_changed = True
        self._entries.remove(entry)  # frees the frame
        used = {digest: vectors[digest] for digest in digests}
        if entry.is_changed:
            self._background.submit(self._save, entry.key, entry.record, used)
        if not digests:
            return np.empty((0, self._checkpoint.channels), np.float32)
        return np.stack([used[digest] for digest in digests])

    def _entry(self, rgb: np.ndarray) -> Entry:
        """Return the entry of a frame that was fetched."""
        return next(entry for entry in list(self._entries) if entry.rgb is rgb)

    def _save(self, key: str, record: Record, used: dict[bytes, np.ndarray]) -> None:
        """Store the record of a frame. If it is too large, without vectors that were not used."""
        if not self._store.is_written:
            return
        try:
            try:
                content = encode(record, key, self._max_file_bytes)
            except UnusableFileError:
                content = encode(Record(record.candidates, used), key, self._max_file_bytes)
        except UnusableFileError as error:
            log.warning('the proposals of a frame are not stored: the file is too large, %s', error)
            return
        self._store.save(key, content)
