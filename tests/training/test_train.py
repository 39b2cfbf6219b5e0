import numpy as np
import pytest
import torch

from fewshot.sam.checkpoints import VIT_MINI
from fewshot.sam.model import load_model
from training.drawings import SHARD, Drawings, draw_shards
from training.train import SEED, STAGES, Stage, find_stage, save_average, start, train

SHORT = (
    Stage(2, side=128, crops=1, points=0, zoom=(1, 1), rates=(1e-3, 1e-3)),
    Stage(2, side=128, crops=1, points=2, zoom=(0.5, 1.3), rates=(1e-3, 1e-4)),
)


@pytest.fixture(scope='module')
def drawings(tmp_path_factory) -> Drawings:
    folder = tmp_path_factory.mktemp('drawings')
    draw_shards(folder, SEED, range(1))
    return Drawings(folder, 1)


def test_drawings_are_kept_as_they_were_drawn(drawings):
    from training.synthetic import make_image

    assert drawings.count == SHARD
    for kept, drawn in zip(
        drawings[3], make_image(np.random.default_rng([SEED, 0, 3])), strict=True
    ):
        np.testing.assert_array_equal(kept, drawn)


def test_a_training_that_was_interrupted_ends_with_the_same_weights(drawings, tmp_path):
    whole = start()
    train(whole, drawings, SHORT, 0, save=lambda state: None)

    first = start()
    train(first, drawings, SHORT[:1], 0, save=lambda state: state.save(tmp_path / 'state.pth'))
    second = start()
    second.load(tmp_path / 'state.pth')
    assert second.step == 2
    train(second, drawings, SHORT, 0, save=lambda state: None)

    for name, value in whole.average.items():
        assert torch.equal(value, second.average[name]), name


def test_the_saved_model_is_loaded_by_the_worker(tmp_path):
    state = start()
    save_average(state, tmp_path / 'model.pth')
    model = load_model(VIT_MINI, str(tmp_path / 'model.pth'))
    weight = model.image_encoder.blocks[0].mlp.lin1.weight
    expected = state.average['image_encoder.blocks.0.mlp.lin1.weight']
    torch.testing.assert_close(weight, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ('step', 'stage', 'done'), [(1, 0, 0), (2, 0, 0.5), (3, 1, 0), (4, 1, 0.5)]
)
def test_a_step_belongs_to_a_stage(step, stage, done):
    assert find_stage(step, SHORT) == (SHORT[stage], done)


def test_crops_fit_into_the_models_input():
    for stage in STAGES:
        assert stage.side <= VIT_MINI.input_size
        assert stage.side % (VIT_MINI.window * VIT_MINI.patch_size) == 0
