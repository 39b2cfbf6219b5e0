import sys
import threading
import time
import tracemalloc
import warnings
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from segment_anything import SamPredictor
from segment_anything.build_sam import build_sam_vit_h

from fewshot.errors import JobError
from fewshot.geometry import Box, CutMask, bound_mask
from fewshot.sam import features as encoder
from fewshot.sam.checkpoints import VIT_H, VIT_MINI
from fewshot.sam.crops import extract_crop
from fewshot.sam.features import (
    choose_batch_size,
    describe_objects,
    encode_image_with_sam1,
    pool_features_with_mask,
    pool_objects,
    weigh_cells,
)
from fewshot.sam.model import build_sam, load_predictor
from tests.small_model import CHECKPOINT, small_predictor
from tests.worker import REPOSITORY


def nuclei(height: int, width: int) -> tuple[np.ndarray, list[CutMask]]:
    """The upper left of the demo's image, (height, width, 3) uint8, and the labelled nuclei in it."""
    image = tifffile.imread(REPOSITORY / 'tests' / 'data' / 'nuclei.tif')[:height, :width]
    labels = tifffile.imread(REPOSITORY / 'tests' / 'data' / 'nuclei_labels.tif')[:height, :width]
    objects = []
    for number in np.unique(labels[labels > 0]):
        box = bound_mask(labels == number)
        assert box is not None
        objects.append(CutMask(box, labels[box.slices] == number))
    return np.repeat((image / image.max() * 255).astype(np.uint8)[..., None], 3, axis=2), objects


def fill(thing: CutMask, shape: tuple[int, ...]) -> np.ndarray:
    """An object's mask at the size of its frame."""
    mask = np.zeros(shape[:2], bool)
    mask[thing.box.slices] = thing.mask
    return mask


def describe_one_by_one(rgb: np.ndarray, objects: list[CutMask], occupancy: float) -> torch.Tensor:
    """What `describe_objects` should give, by the plain way."""
    vectors = []
    for thing in objects:
        crop_image, crop_mask = extract_crop(rgb, *thing, occupancy)
        features = encode_image_with_sam1(small_predictor(), crop_image)
        vectors.append(pool_features_with_mask(features, crop_mask, *features.shape[-2:]))
    return torch.stack(vectors)


def shapes(model: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def test_vit_h_is_built_as_segment_anything_builds_it():
    with torch.device('meta'):  # shapes alone, for the weights would fill 2.5 GB
        ours, theirs = build_sam(VIT_H), build_sam_vit_h()
        assert shapes(ours) == shapes(theirs)
        assert str(ours) == str(theirs)  # kinds and settings of all layers
    blocks = [(block.window_size, block.attn.num_heads) for block in ours.image_encoder.blocks]
    assert blocks == [(block.window_size, block.attn.num_heads) for block in theirs.image_encoder.blocks]
    assert ours.image_encoder.img_size == theirs.image_encoder.img_size == 1024


def test_vit_h_has_641_million_parameters():
    with torch.device('meta'):
        assert round(sum(value.numel() for value in build_sam(VIT_H).parameters()) / 1e6) == 641


def test_the_small_model_is_no_larger_than_20_megabytes():
    assert CHECKPOINT.stat().st_size < 20e6


@pytest.mark.parametrize('shape', [(128, 128), (300, 200), (90, 256)])
def test_encoding_gives_what_sam_predictor_gives(shape):
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    predictor = small_predictor()
    stock = SamPredictor(predictor.model)
    stock.set_image(image)
    features = encode_image_with_sam1(predictor, image)
    assert features.shape == (1, 128, 16, 16)
    torch.testing.assert_close(features, stock.features, rtol=0, atol=0)


def test_pooling_weights_each_cell_by_how_much_of_it_the_mask_covers():
    features = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    mask = np.zeros((8, 8), bool)
    mask[0:2, 0:2] = True  # all of cell (0, 0)
    mask[2:3, 0:2] = True  # half of cell (1, 0)
    expected = (features[0, :, 0, 0] + 0.5 * features[0, :, 1, 0]) / 1.5
    torch.testing.assert_close(pool_features_with_mask(features, mask, 4, 4), expected)


@pytest.mark.parametrize(('shape', 'cells'), [((4, 8), (2, 4)), ((8, 4), (4, 2)), ((8, 8), (4, 4))])
def test_pooling_leaves_out_what_the_encoder_padded(shape, cells):
    features = torch.full((1, 1, 4, 4), 100.0)
    features[..., :cells[0], :cells[1]] = 1  # the image; the rest is padding
    assert pool_features_with_mask(features, np.ones(shape, bool), 4, 4).item() == pytest.approx(1)


def test_an_empty_mask_averages_over_everything():
    features = torch.rand(1, 5, 4, 4)
    pooled = pool_features_with_mask(features, np.zeros((9, 9), bool), 4, 4)
    torch.testing.assert_close(pooled, features[0].mean(dim=(1, 2)))


def test_the_smallest_object_in_a_large_crop_is_pooled_where_it_lies():
    features = torch.zeros(1, 1, 4, 4)
    features[..., 3, 2] = 7
    mask = np.zeros((400, 400), bool)
    mask[399, 250] = True
    assert pool_features_with_mask(features, mask, 4, 4).item() == pytest.approx(7)


def test_like_objects_are_more_alike_than_a_bright_and_a_dark_one():
    rows, columns = np.mgrid[:64, :64]
    disc = np.hypot(rows - 32, columns - 32) < 14
    noise = np.random.default_rng(1).integers(0, 20, (64, 64, 3))
    bright, fainter, dark = (
        (np.where(disc, inside, outside)[..., None] + noise).astype(np.uint8)
        for inside, outside in ((200, 20), (180, 25), (20, 200)))
    features = [encode_image_with_sam1(small_predictor(), image) for image in (bright, fainter, dark)]
    vectors = [pool_features_with_mask(each, disc, 16, 16) for each in features]
    alike, unlike = (torch.cosine_similarity(vectors[0], other, dim=0) for other in vectors[1:])
    assert alike > 0.95 and alike > unlike + 0.05


@st.composite
def objects_in_squares(draw):
    side = draw(st.integers(1, 90))
    top, left = draw(st.integers(0, side - 1)), draw(st.integers(0, side - 1))
    box = Box(top, left, draw(st.integers(top + 1, side)), draw(st.integers(left + 1, side)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    mask = rng.random((box.bottom - box.top, box.right - box.left)) < draw(st.floats(0.1, 1))
    return box, mask, side, (draw(st.integers(1, 20)), draw(st.integers(1, 20)))


@given(objects_in_squares())
def test_cells_weigh_what_area_interpolation_of_the_whole_square_gives_them(cut):
    box, mask, side, grid = cut
    whole = torch.as_tensor(fill(CutMask(box, mask), (side, side)), dtype=torch.float32)
    expected = F.interpolate(whole[None, None], size=grid, mode='area')[0, 0].numpy()
    weights = weigh_cells(*cut)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_weighing_a_huge_mask_needs_a_small_share_of_its_memory():
    mask = np.ones((4096, 4096), bool)
    tracemalloc.start()
    weights = weigh_cells(Box(0, 0, 4096, 4096), mask, 4096, (64, 64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (weights == 1).all()
    assert peak < mask.nbytes / 2


@pytest.mark.parametrize('size', [1, 3])
@pytest.mark.parametrize(('shape', 'occupancy'), [
    ((128, 128), 0.2),
    ((128, 60), 0.05),  # crops of several shapes: the frame is narrower than most of them,
    ((60, 128), 0.05),  # or lower
])
def test_objects_are_described_in_batches_as_one_by_one(monkeypatch, size, shape, occupancy):
    monkeypatch.setattr(encoder, 'choose_batch_size', lambda model: size)
    rgb, objects = nuclei(*shape)
    vectors = describe_objects(small_predictor(), rgb, objects, occupancy, Mock())
    assert vectors.shape == (len(objects), 128) and vectors.dtype == torch.float32
    torch.testing.assert_close(vectors, describe_one_by_one(rgb, objects, occupancy), rtol=0, atol=1e-4)


def test_the_number_of_objects_done_is_told_after_each_batch(monkeypatch):
    monkeypatch.setattr(encoder, 'choose_batch_size', lambda model: 3)
    rgb, objects = nuclei(128, 128)
    report = Mock()
    describe_objects(small_predictor(), rgb, objects[:7], 0.2, report)
    assert [call.args for call in report.call_args_list] == [(3,), (6,), (7,)]


def test_no_objects_give_no_vectors():
    rgb, report = np.zeros((64, 64, 3), np.uint8), Mock()
    assert describe_objects(small_predictor(), rgb, [], 0.2, report).shape == (0, 128)
    assert pool_objects(torch.zeros(1, 128, 16, 16), rgb.shape, []).shape == (0, 128)
    report.assert_not_called()


def test_describing_objects_leaves_the_predictors_image_set():
    rgb, objects = nuclei(128, 128)
    features = encode_image_with_sam1(small_predictor(), rgb)
    describe_objects(small_predictor(), rgb, objects[:2], 0.2, Mock())
    assert small_predictor().features is features


class Counted:
    """An object that counts how often a mask is asked for; preparing a crop asks once."""

    asked = 0
    changed = threading.Condition()

    def __init__(self, thing: CutMask):
        self.box, self._mask = thing

    @property
    def mask(self) -> np.ndarray:
        with self.changed:
            Counted.asked += 1
            self.changed.notify_all()
        return self._mask


def test_crops_are_prepared_while_the_model_encodes_but_only_the_next_few(monkeypatch):
    rgb, objects = nuclei(128, 128)
    describe, asked = encoder._describe_crops, []

    def describe_late(model, crops):
        with Counted.changed:
            wanted = min(len(asked) + 2 + encoder.THREADS, 7)  # this crop and the next 1 + THREADS
            assert Counted.changed.wait_for(lambda: Counted.asked >= wanted, timeout=60)
        time.sleep(0.05)  # for more, if the threads went on
        asked.append(Counted.asked)
        return describe(model, crops)

    Counted.asked = 0
    monkeypatch.setattr(encoder, '_describe_crops', describe_late)
    describe_objects(small_predictor(), rgb, [Counted(thing) for thing in objects[:7]], 0.2, Mock())
    assert asked == [4, 5, 6, 7, 7, 7, 7]


def overflow(monkeypatch, size: int, room: int) -> None:
    """Let batches start with `size` crops where there is memory for `room`."""
    describe = encoder._describe_crops

    def describe_few(model, crops):
        if len(crops) > room:
            raise torch.OutOfMemoryError('CUDA out of memory.')
        return describe(model, crops)

    monkeypatch.setattr(encoder, 'choose_batch_size', lambda model: size)
    monkeypatch.setattr(encoder, '_describe_crops', describe_few)


def test_batches_are_halved_until_they_fit_and_no_object_is_lost(monkeypatch):
    rgb, objects = nuclei(128, 128)
    expected, report = describe_one_by_one(rgb, objects[:7], 0.2), Mock()
    overflow(monkeypatch, size=8, room=2)
    with pytest.warns(RuntimeWarning, match='memory') as caught:
        vectors = describe_objects(small_predictor(), rgb, objects[:7], 0.2, report)
    assert [str(warning.message)[-8:] for warning in caught] == ['trying 3', 'trying 1']
    assert all(warning.filename == __file__ for warning in caught)
    assert report.call_args.args == (7,)
    torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-4)


def test_no_memory_for_a_single_crop_is_an_error_that_says_what_to_do(monkeypatch):
    rgb, objects = nuclei(128, 128)
    overflow(monkeypatch, size=2, room=0)
    with warnings.catch_warnings(action='ignore'), pytest.raises(torch.OutOfMemoryError) as caught:
        describe_objects(small_predictor(), rgb, objects, 0.2, Mock())
    assert 'memory does not hold one crop' in caught.value.__notes__[0]


@pytest.mark.parametrize(('gigabytes', 'size'), [
    (0.1, 1),  # hardly anything: it is tried
    (4, 4),  # half of it for crops of 0.40 GB
    (70, 8),  # no more than help
])
def test_a_batch_on_a_gpu_takes_what_half_of_the_free_memory_holds(monkeypatch, gigabytes, size):
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (int(gigabytes * 0.75e9), 80e9))
    monkeypatch.setattr(torch.cuda, 'memory_reserved', lambda device: 9e9)
    monkeypatch.setattr(torch.cuda, 'memory_allocated', lambda device: 9e9 - gigabytes * 0.25e9)
    vit_h = SimpleNamespace(device=torch.device('cuda'),
                            image_encoder=SimpleNamespace(pos_embed=torch.empty(1, 64, 64, 1280)))
    assert choose_batch_size(vit_h) == size
    assert choose_batch_size(small_predictor().model) == 1  # on a CPU


@pytest.mark.parametrize('shape', [(128, 128), (128, 60), (50, 128)])
def test_objects_pooled_from_the_whole_frame_are_pooled_as_by_their_full_size_masks(monkeypatch, shape):
    monkeypatch.setattr(encoder, 'OBJECTS_AT_A_TIME', 3)
    rgb, objects = nuclei(*shape)
    assert len(objects) > 3
    features = encode_image_with_sam1(small_predictor(), rgb)
    expected = torch.stack([pool_features_with_mask(features, fill(thing, shape), 16, 16) for thing in objects])
    torch.testing.assert_close(pool_objects(features, rgb.shape, objects), expected, rtol=0, atol=1e-4)


def test_bfloat16_gives_float32_vectors_that_point_the_same_way():
    rgb, objects = nuclei(128, 128)
    narrow = load_predictor(VIT_MINI, str(CHECKPOINT), 'bfloat16')
    features = encode_image_with_sam1(narrow, rgb)
    assert features.dtype == torch.float32
    wide = describe_objects(small_predictor(), rgb, objects, 0.2, Mock())
    vectors = describe_objects(narrow, rgb, objects, 0.2, Mock())
    assert vectors.dtype == torch.float32 and not torch.equal(vectors, wide)
    assert torch.cosine_similarity(vectors, wide).min() > 0.99
    assert torch.cosine_similarity(
        pool_objects(features, rgb.shape, objects),
        pool_objects(encode_image_with_sam1(small_predictor(), rgb), rgb.shape, objects)).min() > 0.99


def test_a_float16_file_gives_the_same_weights_in_float32():
    stored = torch.load(CHECKPOINT, weights_only=True)
    assert {value.dtype for value in stored.values()} == {torch.float16}
    loaded = load_predictor(VIT_MINI, str(CHECKPOINT)).model
    assert loaded.state_dict().keys() == stored.keys()
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, stored[name].float(), rtol=0, atol=0)
    assert {value.device.type for value in [*loaded.parameters(), *loaded.buffers()]} == {'cpu'}


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_weights_in_float32_are_mapped_from_the_file_and_not_copied(tmp_path):
    path = tmp_path / 'sam_vit_mini.pth'
    torch.save(build_sam(VIT_MINI).state_dict(), path)
    loaded = load_predictor(VIT_MINI, str(path)).model
    maps = Path('/proc/self/maps').read_text().splitlines()
    ranges = [line.split()[0].split('-') for line in maps if line.endswith(str(path))]
    spans = [(int(first, 16), int(last, 16)) for first, last in ranges]
    assert spans
    for name, value in loaded.named_parameters():
        assert any(first <= value.data_ptr() < last for first, last in spans), name


@pytest.mark.parametrize('content', [b'', b'<html>404</html>', None])
def test_a_file_without_the_models_weights_is_refused_by_name(tmp_path, content):
    path = tmp_path / 'sam_vit_mini.pth'
    if content is None:
        torch.save({'some.other.weight': torch.zeros(3)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(JobError, match='does not hold the weights of sam_vit_mini') as caught:
        load_predictor(VIT_MINI, str(path))
    assert str(path) in caught.value.hint
