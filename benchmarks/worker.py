"""The worker's own job, with a segmenter that records its calls."""

import threading
from collections.abc import Callable, Sequence

import numpy as np

import entrypoint
from annotation_client.utils import sendError, sendProgress, sendWarning
from benchmarks.findings import Findings
from fewshot.geometry import CutMask, has_allowed_area
from fewshot.job import run_job
from fewshot.matching.prototype import learn_prototype, measure_similarities
from fewshot.reporting.reporter import Reporter
from fewshot.reporting.state import Stopwatch
from fewshot.sam import segmenter as sam  # loaded before time counts
from fewshot.sam.candidates import Candidate
from fewshot.sam.cleaning import clean_mask, select_cleaned
from fewshot.server import Server
from fewshot.settings import Settings, read_settings


class WatchedSegmenter:
    """A segmenter that records what it proposes, describes and computes."""

    def __init__(self, segmenter: sam.Segmenter):
        self.segmenter = segmenter
        self.input_size = segmenter.input_size
        self.uses_gpu = getattr(segmenter, 'uses_gpu', False)
        self.proposed: list[Candidate] = []  # in the last frame
        self.described: list[np.ndarray] = []  # the vectors of each call

    def propose(self, rgb: np.ndarray, report: Callable[[float], None]) -> list[Candidate]:
        """See `Segmenter.propose`."""
        self.proposed = self.segmenter.propose(rgb, report)
        self.shape = rgb.shape
        return self.proposed

    def describe(
        self,
        rgb: np.ndarray,
        objects: Sequence[CutMask | Candidate],
        report: Callable[[float], None],
    ) -> np.ndarray:
        """See `Segmenter.describe`."""
        self.described.append(self.segmenter.describe(rgb, objects, report))
        return self.described[-1]


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
    *examples, vectors = watched[0].described  # the last call was for the candidates
    example_vectors = np.concatenate(examples)
    prototype = learn_prototype(example_vectors, [False] * len(example_vectors))
    found = select_candidates(watched[0], settings)
    similarities = measure_similarities(vectors[list(found)], prototype.vector)
    candidates = list(found.values())
    return Findings(
        [CutMask(one.box, one.mask) for one in candidates],
        np.array([one.predicted_iou for one in candidates]),
        similarities.astype(float),
    )


def select_candidates(watched: WatchedSegmenter, settings: Settings) -> dict[int, Candidate]:
    """Return the candidates that the worker compared with the examples.

    Returns
    -------
    dict
        Clean candidates in their order, by the number of their vector.
    """
    limits = settings.min_area, settings.max_area
    cleaned = [clean_mask(one, watched.shape, settings.min_area) for one in watched.proposed]
    allowed = [number for number, one in enumerate(cleaned) if has_allowed_area(one.area, *limits)]
    distinct = select_cleaned(watched.proposed, cleaned, settings.checkpoint.box_nms_thresh)
    return {allowed.index(number): cleaned[number] for number in distinct if number in allowed}
