"""The worker's own job, watched."""
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np

import entrypoint
from annotation_client.utils import sendProgress, sendWarning
from benchmarks.findings import Findings
from fewshot import examples, frames, polygons, prototype  # noqa: F401 - loaded before time counts
from fewshot.geometry import CutMask
from fewshot.job import Job
from fewshot.page import Page
from fewshot.parameters import Parameters
from fewshot.sam import features, proposals  # noqa: F401 - likewise
from fewshot.tally import Tally


class Watched:
    """A function that remembers its last call: the arguments and the result."""

    def __init__(self, function: Callable) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        self.arguments = arguments
        self.result = self.function(*arguments)
        return self.result


def run(apiUrl: str, token: str, datasetId: str, params: dict, tally: Tally, loaded: Callable[[], None]) -> Findings:
    """One job, as `entrypoint.compute` runs it, of one frame.

    Parameters
    ----------
    tally : its seconds are filled
    loaded : called once the model is loaded
    """
    load_model = entrypoint.load_model

    def load_and_tell(parameters: Parameters, page: Page) -> Any:
        predictor = load_model(parameters, page)
        loaded()
        return predictor

    describe, measure = Watched(entrypoint.describe), Watched(prototype.measure_similarities)
    with patch.object(entrypoint, 'load_model', load_and_tell), patch.object(entrypoint, 'describe', describe), \
            patch.object(prototype, 'measure_similarities', measure):
        entrypoint.run(datasetId, apiUrl, token, params, Job(Page(sendProgress, sendWarning), tally))
    found = describe.arguments[1]  # of the last call; the calls before it were for the examples
    return Findings([CutMask(one.box, one.mask) for one in found], np.array([one.predicted_iou for one in found]),
                    measure.result.numpy(force=True).astype(float))
