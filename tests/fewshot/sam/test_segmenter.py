import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from fewshot.errors import JobError
from fewshot.geometry import CutMask, bound_mask
from fewshot.images.layers import ensure_rgb
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.features import describe_objects, encode_image_with_sam1, pool_objects
from fewshot.sam.proposals import propose_candidates
from fewshot.sam.segmenter import SamSegmenter, Segmenter, load_segmenter
from tests.small_model import CENTRES, CHECKPOINT, draw_discs, small_predictor

Frame = tuple[np.ndarray, list[CutMask]]


@pytest.fixture
def frame() -> Frame:
    """Three discs, (256, 256, 3) uint8, and their masks."""
    image, labels = draw_discs(CENTRES, radius=14)
    objects = []
    for number in (1, 2, 3):
        box = bound_mask(labels == number)
        assert box is not None
        objects.append(CutMask(box, labels[box.slices] == number))
    return ensure_rgb(image / image.max()), objects


@pytest.fixture
def encoded() -> Iterator[list[int]]:
    """Yield the number of images in each run of the small model's encoder."""
    counts: list[int] = []
    encoder = small_predictor().model.image_encoder
    hook = encoder.register_forward_hook(lambda _, images, __: counts.append(len(images[0])))
    yield counts
    hook.remove()


def make_segmenter(whole_frame: bool = False) -> SamSegmenter:
    """Make a segmenter of the small model."""
    return SamSegmenter(
        small_predictor().model,
        VIT_MINI,
        points_per_side=16,
        occupancy=0.2,
        whole_frame=whole_frame,
    )


def ignore(share: float) -> None:
    """Ignore a progress report."""


def test_proposals_are_those_of_the_model(frame):
    rgb, _ = frame
    segmenter: Segmenter = make_segmenter()
    shares: list[float] = []
    candidates = segmenter.propose(rgb, shares.append)
    expected = propose_candidates(
        small_predictor().model,
        encode_image_with_sam1(small_predictor(), rgb),
        rgb.shape,
        VIT_MINI,
        points_per_side=16,
        report=ignore,
    )
    assert [one.box for one in candidates] == [one.box for one in expected] != []
    assert shares[-1] == 1
    assert segmenter.input_size == VIT_MINI.input_size


def test_objects_are_described_by_crops(frame):
    rgb, objects = frame
    shares: list[float] = []
    vectors = make_segmenter().describe(rgb, objects, shares.append)
    expected = describe_objects(small_predictor().model, rgb, objects, 0.2, ignore)
    np.testing.assert_array_equal(vectors, expected.numpy())
    assert vectors.dtype == np.float32
    assert shares[-1] == 1


def test_objects_are_described_by_the_whole_frame(frame):
    rgb, objects = frame
    vectors = make_segmenter(whole_frame=True).describe(rgb, objects, ignore)
    features = encode_image_with_sam1(small_predictor(), rgb)
    np.testing.assert_array_equal(vectors, pool_objects(features, rgb.shape, objects).numpy())


@pytest.mark.parametrize('whole_frame', [False, True])
def test_no_objects_have_no_vectors(frame, whole_frame):
    vectors = make_segmenter(whole_frame).describe(frame[0], [], ignore)
    assert vectors.shape == (0, VIT_MINI.channels)
    assert vectors.dtype == np.float32


def test_frame_is_encoded_once(frame, encoded):
    rgb, objects = frame
    segmenter = make_segmenter(whole_frame=True)
    segmenter.describe(rgb, objects, ignore)
    segmenter.propose(rgb, ignore)
    segmenter.describe(rgb, objects, ignore)
    assert encoded == [1]


def test_next_frame_is_encoded_anew(frame, encoded):
    rgb, objects = frame
    segmenter = make_segmenter(whole_frame=True)
    before = segmenter.describe(rgb, objects, ignore)
    other = segmenter.describe(255 - rgb, objects, ignore)
    again = segmenter.describe(rgb, objects, ignore)
    assert encoded == [1, 1, 1]
    np.testing.assert_array_equal(before, again)
    assert not np.array_equal(before, other)


def test_segmenter_is_loaded_from_its_file(frame):
    segmenter = load_segmenter(
        VIT_MINI,
        str(CHECKPOINT),
        'float32',
        points_per_side=16,
        occupancy=0.2,
        whole_frame=False,
    )
    rgb, objects = frame
    expected = make_segmenter().describe(rgb, objects, ignore)
    np.testing.assert_array_equal(segmenter.describe(rgb, objects, ignore), expected)
    assert not segmenter.uses_gpu


def test_damaged_file_is_refused(tmp_path):
    path = shutil.copy(CHECKPOINT, tmp_path)
    with open(path, 'r+b') as file:
        file.write(b'damaged')
    with pytest.raises(JobError, match='damaged'):
        load_segmenter(
            VIT_MINI,
            path,
            'float32',
            points_per_side=16,
            occupancy=0.2,
            whole_frame=False,
        )
