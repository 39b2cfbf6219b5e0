"""A job with a tiny model that counts kept objects.

Run it with `python -m tests.end_to_end.soak URL TOKEN ID`.

The weights are random, and half of the masks are good enough, so that frames have candidates to
describe and objects to upload. The last line of the output is JSON: the counts at the start of
each frame.
"""

import gc
import json
import os
import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import entrypoint
from fewshot.geometry import CutMask
from fewshot.sam.attention import fuse_attention
from fewshot.sam.batches import Report
from fewshot.sam.candidates import Candidate
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.model import build_sam
from fewshot.sam.segmenter import SamSegmenter
from fewshot.settings import KEEP
from tests.worker import make_params

TINY = replace(
    VIT_MINI,
    input_size=64,
    patch_size=16,
    width=32,
    depth=2,
    heads=2,
    global_blocks=(1,),
    window=2,
    channels=32,
    decoder_width=32,
    decoder_heads=2,
    pred_iou_thresh=0.1,
    stability_score_thresh=-1.0,
)
SETTINGS = {
    'Batch XY': 'all',
    'Similarity Threshold': 0,
    'Min Mask Area': 0,
    'Existing Outlines': KEEP,
}


def load_tiny() -> SamSegmenter:
    """Return a segmenter with the tiny model."""
    torch.manual_seed(0)
    model = build_sam(TINY)
    fuse_attention(model.image_encoder)
    return SamSegmenter(
        model.requires_grad_(False),
        TINY,
        points_per_side=16,
        occupancy=0.2,
        whole_frame=False,
    )


class CountingSegmenter:
    """A segmenter that counts what is alive whenever a frame begins."""

    def __init__(self, segmenter: SamSegmenter) -> None:
        self.input_size, self.uses_gpu = segmenter.input_size, segmenter.uses_gpu
        self.segmenter = segmenter
        self.frames: list[weakref.ref] = []
        self.candidates: list[weakref.ref] = []  # of frames before the last one
        self.last_candidates: list[weakref.ref] = []
        self.counts: list[dict[str, int]] = []

    def propose(self, rgb: np.ndarray, report: Report) -> list[Candidate]:
        """Propose candidates, and count what is left of earlier frames."""
        gc.collect()
        self.counts.append(
            {
                'frames': count_alive(self.frames),
                'candidates': count_alive(self.candidates),
                'tensors': sum(isinstance(one, torch.Tensor) for one in gc.get_objects()),
                'threads': threading.active_count(),
                'sockets': count_sockets(),
                'resident_kB': read_resident_memory(),
            }
        )
        proposed = self.segmenter.propose(rgb, report)
        self.frames.append(weakref.ref(rgb))
        self.candidates += self.last_candidates
        self.last_candidates = [weakref.ref(candidate) for candidate in proposed]
        return proposed

    def describe(
        self, rgb: np.ndarray, objects: Sequence[CutMask | Candidate], report: Report
    ) -> np.ndarray:
        """Describe objects."""
        return self.segmenter.describe(rgb, objects, report)


def count_alive(references: Sequence[weakref.ref]) -> int:
    """Return how many objects still exist."""
    return sum(reference() is not None for reference in references)


def read_resident_memory() -> int:
    """Return the resident memory of this process in kB. It varies, so that no test has a limit."""
    status = Path('/proc/self/status').read_text()
    return int(status.partition('VmRSS:')[2].split()[0])


def count_sockets() -> int:
    """Return the number of open sockets of this process."""
    count = 0
    for entry in os.listdir('/proc/self/fd'):
        try:
            count += os.readlink(f'/proc/self/fd/{entry}').startswith('socket:')
        except FileNotFoundError:  # the handle of the list itself
            continue
    return count


def main() -> None:
    """Run the job."""
    apiUrl, token, datasetId = sys.argv[1:]
    segmenter = CountingSegmenter(load_tiny())

    def load_segmenter(*_: Any) -> CountingSegmenter:
        return segmenter

    params = {**make_params(**SETTINGS), 'tags': ['found']}
    entrypoint.compute(datasetId, apiUrl, token, params, load_segmenter=load_segmenter)
    print(json.dumps(segmenter.counts))


if __name__ == '__main__':
    main()
