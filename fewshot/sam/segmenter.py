"""SAM as the job uses it: it proposes masks for a frame and describes each object by a vector."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from fewshot.geometry import CutMask
from fewshot.sam.batches import Report
from fewshot.sam.candidates import Candidate
from fewshot.sam.checkpoints import Checkpoint, check_file
from fewshot.sam.features import describe_objects, encode_image_with_sam1, pool_objects
from fewshot.sam.model import load_model
from fewshot.sam.proposals import propose_candidates


class Segmenter(Protocol):
    """Proposes objects in a frame and describes objects by vectors.

    Attributes
    ----------
    input_size : int
        Side of the square to which the model resizes a frame, pixels.
    uses_gpu : bool
    """

    input_size: int
    uses_gpu: bool

    def propose(self, rgb: np.ndarray, report: Report) -> list[Candidate]:
        """Propose masks of whatever is in a frame. They are not cleaned.

        Parameters
        ----------
        rgb : (H, W, 3) uint8 ndarray
        report : callable
            Called with the share that is done, 0 to 1.

        Returns
        -------
        list of Candidate
        """

    def describe(
        self, rgb: np.ndarray, objects: Sequence[CutMask | Candidate], report: Report
    ) -> np.ndarray:
        """Compute a vector for each object of a frame.

        Parameters
        ----------
        rgb : (H, W, 3) uint8 ndarray
        objects : sequence of CutMask or Candidate
            Their masks are not empty.
        report : callable
            Called with the share that is done, 0 to 1.

        Returns
        -------
        (n, C) float32 ndarray
        """


class SamSegmenter:
    """SAM as a `Segmenter`.

    Parameters
    ----------
    model : Sam
    checkpoint : Checkpoint
    points_per_side : int
        SAM is prompted with a grid of so many by so many points.
    occupancy : float
        Share of its crop that an object fills when it is described.
    whole_frame : bool
        Describe objects by the features of the whole frame, not of a crop of each.
    """

    def __init__(
        self,
        model: Sam,
        checkpoint: Checkpoint,
        *,
        points_per_side: int,
        occupancy: float,
        whole_frame: bool,
    ) -> None:
        self.input_size = checkpoint.input_size
        self._predictor = SamPredictor(model)
        self.uses_gpu = self._predictor.device.type == 'cuda'
        self._checkpoint = checkpoint
        self._points_per_side = points_per_side
        self._occupancy = occupancy
        self._whole_frame = whole_frame
        self._encoded: tuple[np.ndarray, torch.Tensor] | None = None  # frame, image embedding

    def propose(self, rgb: np.ndarray, report: Report) -> list[Candidate]:
        """Propose masks of whatever is in a frame, see `Segmenter.propose`."""
        return propose_candidates(
            self._predictor.model,
            self._encode(rgb),
            rgb.shape,
            self._checkpoint,
            points_per_side=self._points_per_side,
            report=report,
        )

    def describe(
        self, rgb: np.ndarray, objects: Sequence[CutMask | Candidate], report: Report
    ) -> np.ndarray:
        """Compute a vector for each object of a frame, see `Segmenter.describe`."""
        if self._whole_frame:
            vectors = pool_objects(self._encode(rgb), rgb.shape, objects)
        else:
            model = self._predictor.model
            vectors = describe_objects(model, rgb, objects, self._occupancy, report)
        return vectors.numpy(force=True)

    def _encode(self, rgb: np.ndarray) -> torch.Tensor:
        """Compute the image embedding of a frame, or return it if the last frame was this one."""
        if self._encoded is None or self._encoded[0] is not rgb:
            self._encoded = None  # frees the last frame
            self._encoded = rgb, encode_image_with_sam1(self._predictor, rgb)
        return self._encoded[1]


def load_segmenter(
    checkpoint: Checkpoint,
    path: str,
    precision: str,
    *,
    points_per_side: int,
    occupancy: float,
    whole_frame: bool,
) -> SamSegmenter:
    """Check the checkpoint's file and load SAM from it.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : str
        The checkpoint's file.
    precision : {'float32', 'bfloat16'}
        See `model.load_model`.
    points_per_side, occupancy, whole_frame
        See `SamSegmenter`.

    Returns
    -------
    SamSegmenter

    Raises
    ------
    JobError
        The file is damaged, or a different one.
    """
    check_file(checkpoint, path)
    return SamSegmenter(
        load_model(checkpoint, path, precision),
        checkpoint,
        points_per_side=points_per_side,
        occupancy=occupancy,
        whole_frame=whole_frame,
    )
