"""The worker as `python -m tests.end_to_end.soak apiUrl token datasetId`: a job with a model of no size.

Its weights are random and half of the masks are good enough for it, so that frames have candidates to describe and
objects to upload, in a tenth of a second. Ends with a line of JSON: memory, threads and connections after each frame.
"""
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from segment_anything import SamPredictor

import entrypoint
from fewshot import parameters
from fewshot.sam import model as sam_model
from fewshot.sam.attention import fuse_attention
from fewshot.sam.checkpoints import VIT_MINI
from tests.worker import make_params

TINY = replace(VIT_MINI, input_size=64, width=32, depth=2, heads=2, global_blocks=(1,), window=2, channels=32,
               decoder_width=32, pred_iou_thresh=0.1, stability_score_thresh=-1.0)
SETTINGS = {'Batch XY': 'all', 'Points per side': 16, 'Similarity Threshold': 0, 'Min Mask Area': 0,
            'Duplicates': 'keep'}


def load_tiny(*_: Any) -> SamPredictor:
    """The stand-in for `entrypoint.load_model`."""
    torch.manual_seed(0)
    model = sam_model.build_sam(TINY)
    fuse_attention(model.image_encoder)
    return SamPredictor(model.requires_grad_(False))


def look_at_process() -> dict[str, int]:
    """Resident memory in kB, threads and sockets of this process."""
    status = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines())
    sockets = 0
    for entry in os.listdir('/proc/self/fd'):
        try:
            sockets += os.readlink(f'/proc/self/fd/{entry}').startswith('socket:')
        except FileNotFoundError:  # the handle that listed them
            continue
    return {'memory': int(status['VmRSS'].split()[0]), 'threads': int(status['Threads']), 'sockets': sockets}


def main() -> None:
    """Run the job."""
    apiUrl, token, datasetId = sys.argv[1:]
    samples = []
    find_objects = entrypoint.find_objects

    def look(*arguments: Any) -> Any:
        found = find_objects(*arguments)
        samples.append(look_at_process())
        return found

    params = {**make_params(**SETTINGS), 'tags': ['found']}
    known = {**parameters.KNOWN, VIT_MINI.name: TINY}
    with patch.object(entrypoint, 'load_model', load_tiny), patch.object(entrypoint, 'find_objects', look), \
            patch.object(parameters, 'KNOWN', known):
        entrypoint.compute(datasetId, apiUrl, token, params)
    print(json.dumps(samples))


if __name__ == '__main__':
    main()
