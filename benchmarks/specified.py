"""The method of the specification, written plainly, to measure the worker against.

It is written on segment-anything, scikit-image and shapely. Frames, example masks, crops, pooling,
outlines and the upload are code of this file. Three things are shared with the worker:

- `build_sam` and the table of checkpoints, because SAM's own registry lacks the small model;
- `annotation_client`, which sends the requests;
- `Box`, `CutMask` and `Stopwatch`, which hold the findings of a run and its seconds.

The specification leaves some details open. The worker decides them in the same way, so the results
can be compared exactly:

- The centre of pixel (row, column) lies at x = column + 0.5, y = row + 0.5.
- Channels are stretched between black and white point, coloured, and merged by maximum.
- A crop is a square around the middle of the object's box. At the image's border it is moved.
- The outline is that of the largest part of a mask, without its holes.
- Min Mask Area is also the area below which SAM's generator removes holes and islands.

The specification has no rule against duplicates. The comparison turns it off in the worker.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import shapely
import torch
import torch.nn.functional as F
import torchvision
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, automatic_mask_generator
from skimage.draw import polygon2mask
from skimage.measure import find_contours

from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.tiles import UPennContrastDataset
from benchmarks.findings import Findings
from fewshot.geometry import Box, CutMask
from fewshot.reporting.state import Stopwatch
from fewshot.sam.checkpoints import KNOWN, Checkpoint
from fewshot.sam.model import build_sam


def run(
    apiUrl: str,
    token: str,
    datasetId: str,
    params: Mapping,
    stopwatch: Stopwatch,
    loaded: Callable[[], None],
) -> Findings:
    """Run one job on the frame where the user stands.

    Parameters
    ----------
    apiUrl, token, datasetId : str
    params : mapping
        The job's parameters as the server sends them.
    stopwatch : Stopwatch
        Gets the seconds of each step.
    loaded : callable
        Called once the model is loaded.
    """
    form = params['workerInterface']
    occupancy = form['Target Occupancy']
    dataset = UPennContrastDataset(apiUrl, token, datasetId)
    store = UPennContrastAnnotationClient(apiUrl, token)
    layers = read_layers(dataset)
    with stopwatch.time('load'):
        checkpoint = KNOWN[form['Model']]
        file = os.path.join(os.environ['SAM_CHECKPOINT_DIR'], checkpoint.file)
        predictor = load_model(checkpoint, file)
    loaded()

    # Phase 1: training feature extraction
    with stopwatch.time('prototype'):
        examples = store.getAnnotationsByDatasetId(
            datasetId, shape='polygon', tags=form['Training Tag']
        )
        frames: dict[tuple, np.ndarray] = {}
        vectors = []
        for example in examples:
            place = place_of(example['location'])
            if place not in frames:
                frames[place] = load_frame(dataset, layers, place)
            mask = draw_mask(example['coordinates'], frames[place].shape[:2])
            vectors.append(describe(predictor, frames[place], mask, occupancy))
        prototype = F.normalize(torch.stack(vectors).mean(dim=0), dim=0)

    # Phase 2: inference
    with stopwatch.time('download'):
        rgb = load_frame(dataset, layers, place_of(params['tile']))
    with stopwatch.time('propose'):
        records = propose(
            predictor.model,
            rgb,
            checkpoint,
            form['Points per side'],
            form['Min Mask Area'],
            form['Max Mask Area'],
        )
    masks = [record['segmentation'] for record in records]
    with stopwatch.time('describe'):
        vectors = [describe(predictor, rgb, mask, occupancy) for mask in masks]
        similarities = [F.cosine_similarity(vector, prototype, dim=0).item() for vector in vectors]
    with stopwatch.time('upload'):
        kept = [
            mask
            for mask, similarity in zip(masks, similarities, strict=True)
            if similarity >= form['Similarity Threshold']
        ]
        outlines = [outline_mask(mask, form['Smoothing']) for mask in kept]
        store.createMultipleAnnotations(
            [
                {
                    'datasetId': datasetId,
                    'shape': 'polygon',
                    'tags': params['tags'],
                    'channel': params['channel'],
                    'location': params['tile'],
                    'coordinates': [{'x': x, 'y': y} for x, y in outline.tolist()],
                }
                for outline in outlines
            ]
        )
    predicted_iou = [record['predicted_iou'] for record in records]
    objects = [cut_mask(mask) for mask in masks]
    return Findings(objects, np.array(predicted_iou), np.array(similarities))


def place_of(location: Mapping[str, int]) -> tuple[int, int, int]:
    """Return XY, Z and Time of a location as the server writes it."""
    return location['XY'], location['Z'], location['Time']


def read_layers(dataset: UPennContrastDataset) -> list[dict]:
    """Return the visible layers of the dataset, with the contrast of the latest view."""
    views = dataset.client.get('dataset_view', parameters={'datasetId': dataset.datasetId})
    view = max(views, key=lambda one: one.get('lastViewed', 0))
    collection = dataset.client.get(f'upenn_collection/{view["configurationId"]}')
    contrasts = view['layerContrasts']
    return [
        {**layer, 'contrast': contrasts.get(layer['id'], layer['contrast'])}
        for layer in collection['meta']['layers']
        if layer['visible']
    ]


def load_frame(
    dataset: UPennContrastDataset, layers: Sequence[Mapping], place: tuple[int, int, int]
) -> np.ndarray:
    """Return the merged channels at (XY, Z, Time) as the user sees them: (H, W, 3) uint8."""
    merged = np.zeros(3)
    for layer in layers:
        number = dataset.coordinatesToFrameIndex(*place, layer['channel'])
        image = dataset.getRegion(dataset.datasetId, frame=number).astype(float)  # (H, W, 1 or 3)
        contrast = layer['contrast']
        black, white = contrast['blackPoint'], contrast['whitePoint']
        if contrast['mode'] == 'percentile':
            black, white = np.percentile(image, [black, white])
        stretched = np.clip((image - black) / (white - black), 0, 1)
        color = [int(layer['color'][start : start + 2], 16) for start in (1, 3, 5)]  # #RRGGBB
        merged = np.maximum(merged, stretched * color)
    return np.rint(merged).astype(np.uint8)


def draw_mask(coordinates: Sequence[Mapping[str, float]], shape: tuple[int, ...]) -> np.ndarray:
    """Return the mask (H, W) of the pixels whose centres lie in a polygon."""
    corners = [(point['y'] - 0.5, point['x'] - 0.5) for point in coordinates]  # row, column
    return polygon2mask(shape, np.array(corners))


def load_model(checkpoint: Checkpoint, path: str) -> SamPredictor:
    """Return stock SAM with the weights of a checkpoint file, on a GPU where there is one."""
    model = build_sam(checkpoint)
    model.load_state_dict(torch.load(path, map_location='cpu', weights_only=True))
    if not torch.cuda.is_available():
        return SamPredictor(model)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    patch_nms()
    return SamPredictor(model.to('cuda'))


def patch_nms() -> None:
    """Let the generator's non-maximum suppression run on a GPU with many boxes.

    segment-anything 1.0 makes the boxes' categories on the CPU (`torch.zeros(len(boxes))`). With
    many boxes torchvision does not take its coordinate trick, which moves them to the boxes'
    device, but a path that indexes tensors on the GPU with them, and fails. All boxes are of one
    category, so the trick gives the same boxes. After this call it is always taken.

    Raises
    ------
    AttributeError
        One of the three names is gone. Then this fix must be looked at again.
    """
    for module in (torchvision.ops.boxes, automatic_mask_generator):
        if not hasattr(module, 'batched_nms'):
            raise AttributeError(
                f'{module.__name__} has no batched_nms. This version needs another fix.'
            )
        module.batched_nms = torchvision.ops.boxes._batched_nms_coordinate_trick


def propose(
    model: Any,
    rgb: np.ndarray,
    checkpoint: Checkpoint,
    points_per_side: int,
    min_area: int,
    max_area: int,
) -> list[dict]:
    """Run SAM's generator on a frame, and return its records within the area limits.

    Parameters
    ----------
    model : Sam
    rgb : (H, W, 3) ndarray of uint8
    checkpoint : Checkpoint
        Its thresholds suit the weights. Those of ViT-H are the generator's defaults.
    points_per_side : int
    min_area, max_area : int
        Pixels. A `max_area` of 0 means no limit.
    """
    generator = SamAutomaticMaskGenerator(
        model,
        points_per_side=points_per_side,
        pred_iou_thresh=checkpoint.pred_iou_thresh,
        stability_score_thresh=checkpoint.stability_score_thresh,
        box_nms_thresh=checkpoint.box_nms_thresh,
        crop_nms_thresh=checkpoint.box_nms_thresh,
        min_mask_region_area=min_area,
    )
    records = generator.generate(rgb)
    return [one for one in records if min_area <= one['area'] <= (max_area or math.inf)]


def describe(
    predictor: SamPredictor, rgb: np.ndarray, mask: np.ndarray, occupancy: float
) -> torch.Tensor:
    """Compute the feature vector (C,) of the object under a mask (H, W): crop, encode, pool."""
    crop, crop_mask = crop_with_context(rgb, mask, occupancy)
    predictor.set_image(crop)
    return pool(predictor.features, crop_mask)


def crop_with_context(
    rgb: np.ndarray, mask: np.ndarray, occupancy: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cut frame and mask to a square of which the object fills the share `occupancy`.

    A long object fills less, because its square is as wide as the object is long.
    """
    rows, columns = np.nonzero(mask)
    height, width = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    side = max(round(math.sqrt(len(rows) / occupancy)), height, width)
    window = (place_window(rows, side, mask.shape[0]), place_window(columns, side, mask.shape[1]))
    return rgb[window], mask[window]


def place_window(indices: np.ndarray, side: int, length: int) -> slice:
    """Return the `side` of `length` pixels with the indices in the middle, or all if fewer."""
    side = min(side, length)
    centred = (int(indices.min()) + int(indices.max()) + 1 - side) // 2
    start = min(max(centred, 0), length - side)
    return slice(start, start + side)


def pool(features: torch.Tensor, mask: np.ndarray) -> torch.Tensor:
    """Average features (1, C, h, w) to (C,), weighted by the share of each cell under the mask.

    The mask (H, W) is that of the crop. It is padded to a square as the encoder pads the crop.
    """
    height, width = mask.shape
    side = max(height, width)
    square = F.pad(torch.as_tensor(mask).to(features), (0, side - width, 0, side - height))
    weights = F.interpolate(square[None, None], size=features.shape[-2:], mode='area')[0]
    return (features[0] * weights).sum(dim=(1, 2)) / weights.sum()


def outline_mask(mask: np.ndarray, smoothing: float) -> np.ndarray:
    """Trace a mask (H, W): its outline (N, 2) as x and y, simplified by `smoothing` pixels."""
    contours = find_contours(np.pad(mask, 1).astype(float), 0.5)  # padding closes all contours
    # minus the pixel of padding, plus half a pixel
    polygons = [shapely.Polygon(contour[:, ::-1] - 0.5) for contour in contours]
    largest = max(polygons, key=lambda polygon: polygon.area)
    closed = shapely.get_coordinates(largest.simplify(smoothing))
    return closed[:-1]  # the last point repeats the first


def cut_mask(mask: np.ndarray) -> CutMask:
    """Cut a mask (H, W), not empty, to the smallest box around it."""
    rows, columns = np.nonzero(mask)
    box = Box(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
    return CutMask(box, mask[box.slices])
