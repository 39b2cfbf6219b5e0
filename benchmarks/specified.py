"""The method as it is specified, on the stock packages alone: what the worker is measured against.

SAM's automatic mask generator gives full-size masks; each costs a crop and a run of SAM's image encoder of its own.
"""
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, automatic_mask_generator

from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.tiles import UPennContrastDataset
from benchmarks.findings import Findings
from fewshot.frames import load_frame, read_layers
from fewshot.geometry import CutMask, bound_mask
from fewshot.parameters import Parameters, read_parameters
from fewshot.polygons import annotation_to_mask, make_annotation, trace_mask
from fewshot.sam.checkpoints import Checkpoint, checkpoint_path
from fewshot.sam.crops import extract_crop_with_context
from fewshot.sam.model import build_sam
from fewshot.tally import Tally


def run(apiUrl: str, token: str, datasetId: str, params: dict, tally: Tally, loaded: Callable[[], None]) -> Findings:
    """One job on the frame where the user stands.

    Parameters
    ----------
    tally : its seconds are filled
    loaded : called once the model is loaded
    """
    parameters = read_parameters(params)
    dataset = UPennContrastDataset(apiUrl, token, datasetId)
    store = UPennContrastAnnotationClient(apiUrl, token)
    layers, _ = read_layers(dataset.client, datasetId, dataset.tiles)
    with tally.time('load'):
        predictor = load_model(parameters.checkpoint, checkpoint_path(parameters.checkpoint))
    loaded()
    with tally.time('prototype'):
        rgb = load_frame(dataset, datasetId, layers, parameters.current).rgb
        examples = store.getAnnotationsByDatasetId(datasetId, shape='polygon', tags=parameters.training_tags)
        vectors = [describe(predictor, rgb, annotation_to_mask(one, rgb.shape), parameters) for one in examples]
        prototype = F.normalize(torch.stack(vectors).mean(dim=0), dim=0)
    with tally.time('download'):
        rgb = load_frame(dataset, datasetId, layers, parameters.current).rgb
    with tally.time('propose'):
        records = propose(predictor.model, rgb, parameters)
    with tally.time('describe'):
        similarities = np.array([
            F.cosine_similarity(describe(predictor, rgb, record['segmentation'], parameters), prototype, dim=0).item()
            for record in records])
    with tally.time('upload'):
        objects = [cut_mask(record['segmentation']) for record in records]
        kept = [one for one, similarity in zip(objects, similarities, strict=True)
                if similarity >= parameters.threshold]
        store.createMultipleAnnotations(
            [make_annotation(trace_mask(*one, parameters.smoothing), parameters.current, parameters.tags,
                             parameters.channel, datasetId)
             for one in kept])
    return Findings(objects, np.array([record['predicted_iou'] for record in records]), similarities)


def load_model(checkpoint: Checkpoint, path: str) -> SamPredictor:
    """Stock SAM with the weights of a checkpoint file, on a GPU where there is one."""
    model = build_sam(checkpoint)
    model.load_state_dict(torch.load(path, map_location='cpu', weights_only=True))
    if not torch.cuda.is_available():
        return SamPredictor(model)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    patch_nms()
    return SamPredictor(model.to('cuda'))


def patch_nms() -> None:
    """Let the generator's non-maximum suppression run on a GPU with many boxes.

    segment-anything 1.0 makes the boxes' categories on the CPU (`torch.zeros(len(boxes))`). With many boxes torchvision
    leaves its coordinate trick, which moves them to the boxes' device, for a path that indexes tensors on the GPU with
    them, and fails. As all boxes are of one category, the trick gives the same boxes; so it is always taken.

    Raises AttributeError when one of the three names is gone, for then the fix must be looked at again.
    """
    for module in (torchvision.ops.boxes, automatic_mask_generator):
        if not hasattr(module, 'batched_nms'):
            raise AttributeError(f'{module.__name__}.batched_nms is gone: this version needs another fix')
        module.batched_nms = torchvision.ops.boxes._batched_nms_coordinate_trick


def make_generator(model: Any, parameters: Parameters) -> SamAutomaticMaskGenerator:
    """The stock generator with the cuts that suit the checkpoint, else at its own settings."""
    checkpoint = parameters.checkpoint
    return SamAutomaticMaskGenerator(
        model, points_per_side=parameters.points_per_side, pred_iou_thresh=checkpoint.pred_iou_thresh,
        stability_score_thresh=checkpoint.stability_score_thresh, box_nms_thresh=checkpoint.box_nms_thresh,
        crop_nms_thresh=checkpoint.box_nms_thresh, min_mask_region_area=parameters.min_area)


def propose(model: Any, rgb: np.ndarray, parameters: Parameters) -> list[dict]:
    """The generator's records for an (H, W, 3) uint8 frame, those within the area limits."""
    records = make_generator(model, parameters).generate(rgb)
    return [record for record in records
            if parameters.min_area <= record['area'] <= (parameters.max_area or record['area'])]


def describe(predictor: SamPredictor, rgb: np.ndarray, mask: np.ndarray, parameters: Parameters) -> torch.Tensor:
    """The vector (C,) of the object under a full-size mask: crop, encode, pool."""
    crop_image, crop_mask = extract_crop_with_context(rgb, mask, parameters.occupancy)
    predictor.set_image(crop_image)
    return pool(predictor.features, crop_mask)


def pool(features: torch.Tensor, mask: np.ndarray) -> torch.Tensor:
    """The mean (C,) of features (1, C, h, w), each cell weighted by how much of it the crop's mask (H, W) covers."""
    height, width = mask.shape
    side = max(height, width)
    square = F.pad(torch.as_tensor(mask).to(features), (0, side - width, 0, side - height))  # as the encoder pads
    weights = F.interpolate(square[None, None], size=features.shape[-2:], mode='area')[0]  # (1, h, w)
    return (features[0] * weights).sum(dim=(1, 2)) / weights.sum()


def cut_mask(mask: np.ndarray) -> CutMask:
    """A full-size mask, not empty, cut to the smallest box around it."""
    box = bound_mask(mask)
    assert box is not None
    return CutMask(box, mask[box.slices])
