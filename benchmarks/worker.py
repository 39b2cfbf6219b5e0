"""The worker's own job, with a segmenter that records its calls."""

import threading
from collections.abc import Callable, Sequence

import numpy as np

import entrypoint
from annotation_client.utils import sendError, sendProgress, sendWarning
from benchmarks.findings import Findings
from fewshot.geometry import CutMask
from fewshot.job import run_job
from fewshot.matching.prototype import learn_prototype, measure_similarities
from fewshot.reporting.reporter import Reporter
from fewshot.reporting.state import Stopwatch
from fewshot.sam import segmenter as sam  # loaded before time counts
from fewshot.sam.candidates import Candidate
from fewshot.server import Server
from fewshot.settings import read_settings


class WatchedSegmenter:
    """A segmenter that records the objects of each call of `describe`, and their vectors."""

    def __init__(self, segmenter: sam.Segmenter):
        self.segmenter = segmenter
        self.input_size = segmenter.input_size
        self.uses_gpu = getattr(segmenter, 'uses_gpu', False)
        self.described: list[tuple[Sequence[CutMask | Candidate], np.ndarray]] = []

    def propose(self, rgb: np.ndarray, report: Callable[[float], None]) -> list[Candidate]:
        """See `Segmenter.propose`."""
        return self.segmenter.propose(rgb, report)

    def describe(
        self,
        rgb: np.ndarray,
        objects: Sequence[CutMask | Candidate],
        report: Callable[[float], None],
    ) -> np.ndarray:
        """See `Segmenter.describe`."""
        vectors = self.segmenter.describe(rgb, objects, report)
        self.described.append((objects, vectors))
        return vectors


def run(
    apiUrl: str,
    token: str,
    datasetId: str,
    params: dict,
    stopwatch: Stopwatch,
    loaded: Callable[[], None],
) -> Findings:
    """Run one job of one frame, as `entrypoint.compute` does.

    Parameters
    ----------
    apiUrl, token, datasetId : str
    params : dict
        The job's parameters as the server sends them.
    stopwatch : Stopwatch
        Gets the seconds of each step.
    loaded : callable
        Called once the model is loaded.
    """
    settings = read_settings(params)
    reporter = Reporter(sendProgress, sendWarning, sendError)
    watched: list[WatchedSegmenter] = []

    def load() -> WatchedSegmenter:
        watched.append(WatchedSegmenter(entrypoint.load_segmenter(settings, reporter)))
        loaded()
        return watched[0]

    run_job(
        Server(apiUrl, token, datasetId),
        load,
        reporter,
        settings,
        params,
        stopwatch,
        threading.Lock(),
    )
    *examples, (found, vectors) = watched[0].described  # the last call was for the candidates
    example_vectors = np.concatenate([one for _, one in examples])
    prototype = learn_prototype(example_vectors, [False] * len(example_vectors))
    similarities = measure_similarities(vectors, prototype.vector)
    return Findings(
        [CutMask(one.box, one.mask) for one in found],
        np.array([one.predicted_iou for one in found if isinstance(one, Candidate)]),
        similarities.astype(float),
    )
