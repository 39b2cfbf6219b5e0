"""Missing masks and vectors are computed. The others come from the store."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
import pytest

from fewshot.geometry import Box, CutMask, Location, Tile
from fewshot.sam.candidates import Candidate
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.segmenter import Segmenter
from fewshot.store.files import FileStore
from fewshot.store.record import MAX_FILE_BYTES
from fewshot.store.segmenter import StoringSegmenter
from tests.fewshot.conftest import make_server
from tests.fewshot.sam.drawing import make_candidate
from tests.fewshot.store.records import RGB

FRAME = Tile(Location(0, 0, 0))
OTHER = np.flipud(RGB).copy()
MASKS = [np.ones((2, 3), bool), np.ones((4, 4), bool), np.ones((5, 2), bool)]
OBJECTS = [make_candidate(mask, 1, number) for number, mask in enumerate(MASKS)]
CUT = [CutMask(one.box, one.mask) for one in OBJECTS]


class Computing:
    """A segmenter whose vectors tell the pixels, the object and the options, and that counts."""

    input_size = VIT_MINI.input_size
    uses_gpu = True

    def __init__(self) -> None:
        self.proposed = 0
        self.described: list[int] = []  # numbers of objects

    def propose(self, rgb: np.ndarray, report: Callable[[float], None]) -> list[Candidate]:
        """Return the candidates."""
        self.proposed += 1
        report(1.0)
        return list(OBJECTS)

    def describe(
        self,
        rgb: np.ndarray,
        objects: Sequence[CutMask | Candidate],
        report: Callable[[float], None],
    ) -> np.ndarray:
        """Return the vectors."""
        self.described.append(len(objects))
        report(1.0)
        seeds = [[int(one.mask.sum()), int(rgb[0, 0, 0])] for one in objects]
        rows = [np.random.default_rng(seed).random(VIT_MINI.channels) for seed in seeds]
        return np.array(rows, np.float32)


class AtOnce(Executor):
    """Runs everything when it is submitted."""

    def submit(self, call: Callable, /, *args: Any, **options: Any) -> Future:
        """Run it."""
        future: Future = Future()
        future.set_result(call(*args, **options))
        return future


class KeptFiles(FileStore):
    """A store that keeps its files in a dict."""

    def __init__(self, **options: Any) -> None:
        super().__init__(make_server(), **options)
        self.contents: dict[str, bytes] = {}

    def fetch(self, key: str) -> bytes | None:
        """Return a file."""
        return self.contents.get(key)

    def save(self, key: str, content: bytes) -> None:
        """Keep a file."""
        self.contents[key] = content


def ignore(share: float) -> None:
    """Ignore a progress report."""


class Lab:
    """A store, and runs with it."""

    def __init__(self) -> None:
        self.store = KeptFiles()
        self.loaded: list[Computing] = []

    def load(self) -> Computing:
        """Load the segmenter that computes."""
        self.loaded.append(Computing())
        return self.loaded[-1]

    def segmenter(
        self,
        points_per_side: int | None = 16,
        precision: str = 'float32',
        description: str = 'object crops, 0.2',
        max_file_bytes: int = MAX_FILE_BYTES,
    ) -> StoringSegmenter:
        """Return the segmenter of another run."""
        self.loaded = []
        computing: list[Computing] = []

        def load() -> Computing:
            if not computing:
                computing.append(self.load())
            return computing[0]

        return StoringSegmenter(
            self.store,
            load,
            VIT_MINI,
            points_per_side,
            precision,
            description,
            AtOnce(),
            max_file_bytes,
        )

    def run(
        self,
        objects: Sequence[CutMask | Candidate] = OBJECTS,
        rgb: np.ndarray = RGB,
        **options: Any,
    ) -> tuple[list[Candidate], np.ndarray]:
        """Propose and describe in another run."""
        segmenter = self.segmenter(**options)
        segmenter.fetch(FRAME, rgb)
        return segmenter.propose(rgb, ignore), segmenter.describe(rgb, objects, ignore)

    @property
    def costs(self) -> tuple[int, list[int]]:
        """What the last run computed: proposals, and objects per call of describe."""
        if not self.loaded:
            return 0, []
        return self.loaded[0].proposed, self.loaded[0].described


@pytest.fixture
def lab() -> Lab:
    return Lab()


EXPECTED = Computing().describe(RGB, OBJECTS, ignore)


def test_first_run_computes_everything(lab):
    candidates, vectors = lab.run()
    assert [one.box for one in candidates] == [one.box for one in OBJECTS]
    np.testing.assert_array_equal(vectors, EXPECTED)
    assert lab.costs == (1, [3])


def test_second_run_computes_nothing(lab):
    lab.run()
    candidates, vectors = lab.run()
    assert [one.box for one in candidates] == [one.box for one in OBJECTS]
    assert vectors.tobytes() == EXPECTED.tobytes()
    assert vectors.dtype == np.float32
    assert lab.loaded == []


def test_objects_may_come_in_any_order_and_number(lab):
    lab.run()
    _, vectors = lab.run([OBJECTS[2], OBJECTS[0]])
    np.testing.assert_array_equal(vectors, EXPECTED[[2, 0]])
    _, vectors = lab.run([])
    assert vectors.shape == (0, VIT_MINI.channels)
    assert lab.loaded == []


def test_only_missing_objects_are_described(lab):
    lab.run(OBJECTS[:1])
    _, vectors = lab.run()
    np.testing.assert_array_equal(vectors, EXPECTED)
    assert lab.costs == (0, [2])
    lab.run()
    assert lab.loaded == []


def test_one_more_example_is_one_encoding(lab):
    for count, costs in ((2, [2]), (3, [1]), (3, [])):
        segmenter = lab.segmenter(points_per_side=None)
        segmenter.fetch(FRAME, RGB)
        vectors = segmenter.describe(RGB, CUT[:count], ignore)
        np.testing.assert_array_equal(vectors, EXPECTED[:count])
        assert lab.costs == (0, costs)


def test_other_occupancy_or_source_needs_no_proposing(lab):
    lab.run()
    for description in ('object crops, 0.3', 'whole frame'):
        lab.run(description=description)
        assert lab.costs == (0, [3])
    for description in ('object crops, 0.2', 'object crops, 0.3', 'whole frame'):
        lab.run(description=description)
        assert lab.loaded == []


def test_more_points_other_precision_or_other_pixels_are_proposed_anew(lab):
    lab.run()
    for changes in ({'points_per_side': 32}, {'precision': 'bfloat16 on NVIDIA H100'}):
        lab.run(**changes)
        assert lab.costs == (1, [3])
    lab.run(rgb=OTHER)
    assert lab.costs == (1, [3])
    lab.run()
    assert lab.loaded == []


def test_tiles_of_equal_pixels_are_apart(lab):
    segmenter = lab.segmenter()
    for box in (None, Box(0, 0, 20, 30), Box(0, 30, 20, 60)):
        segmenter.fetch(Tile(FRAME.location, box), RGB)
        assert not segmenter.has_proposals(RGB)
        segmenter.propose(RGB, ignore)
        segmenter.describe(RGB, OBJECTS, ignore)
    assert lab.costs == (3, [3, 3, 3])
    assert len(lab.store.contents) == 3


def test_next_frame_is_fetched_during_the_search(lab):
    segmenter: Segmenter
    segmenter = lab.segmenter()
    segmenter.fetch(FRAME, RGB)
    segmenter.fetch(FRAME, OTHER)
    for rgb in (RGB, OTHER):
        segmenter.propose(rgb, ignore)
        segmenter.describe(rgb, OBJECTS, ignore)
    lab.run(rgb=OTHER)
    assert lab.loaded == []


def test_damaged_file_is_replaced(lab, caplog):
    lab.run()
    [key] = lab.store.contents
    good = lab.store.contents[key]
    lab.store.contents[key] = good[:100]
    with caplog.at_level(logging.WARNING, 'sam_fewshot'):
        _, vectors = lab.run()
    np.testing.assert_array_equal(vectors, EXPECTED)
    assert lab.costs == (1, [3])
    assert len(caplog.records) == 1
    assert lab.store.contents[key] == good


def test_nothing_is_stored_again_without_a_change(lab):
    lab.run()
    lab.store.contents = dict(lab.store.contents)
    saved: list[str] = []
    lab.store.save = lambda key, content: saved.append(key)  # type: ignore[method-assign]
    lab.run(OBJECTS[:2])
    assert saved == []
    lab.run(description='another')
    assert len(saved) == 1


def test_file_that_grows_too_large_keeps_the_vectors_of_this_run(lab):
    lab.run()
    [content] = lab.store.contents.values()
    lab.run(description='another', max_file_bytes=len(content) + 20)
    lab.run(description='another')
    assert lab.loaded == []
    lab.run()
    assert lab.costs == (0, [3])


def test_frame_that_is_too_large_is_not_stored(lab, caplog):
    with caplog.at_level(logging.WARNING, 'sam_fewshot'):
        _, vectors = lab.run(max_file_bytes=100)
    np.testing.assert_array_equal(vectors, EXPECTED)
    assert lab.store.contents == {}
    assert len(caplog.records) == 1


def test_nothing_is_encoded_when_nothing_is_written(lab):
    lab.store.is_written = False
    lab.run()
    assert lab.store.contents == {}
