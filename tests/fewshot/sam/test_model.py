import inspect
import sys
from pathlib import Path

import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.build_sam import build_sam_vit_b, build_sam_vit_h, build_sam_vit_l

from fewshot.errors import JobError
from fewshot.sam.checkpoints import (
    KNOWN,
    VIT_B,
    VIT_B_EM,
    VIT_B_LM,
    VIT_H,
    VIT_L,
    VIT_L_EM,
    VIT_L_LM,
    VIT_MINI,
)
from fewshot.sam.model import build_sam, load_model
from tests.small_model import CHECKPOINT


def list_shapes(model: torch.nn.Module) -> dict[str, torch.Size]:
    """List the shapes of a model's parameters and buffers, by name."""
    return {name: value.shape for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ('checkpoint', 'build', 'millions'),
    [
        (VIT_H, build_sam_vit_h, 641),
        *((one, build_sam_vit_l, 312) for one in (VIT_L, VIT_L_LM, VIT_L_EM)),
        *((one, build_sam_vit_b, 94) for one in (VIT_B, VIT_B_LM, VIT_B_EM)),
    ],
    ids=lambda value: getattr(value, 'name', ''),
)
def test_model_is_that_of_segment_anything(checkpoint, build, millions):
    with torch.device('meta'):  # shapes only: the weights need up to 2.5 GB
        ours, theirs = build_sam(checkpoint), build()
        assert list_shapes(ours) == list_shapes(theirs)
        assert str(ours) == str(theirs)  # types and arguments of all layers
    for our_block, their_block in zip(
        ours.image_encoder.blocks, theirs.image_encoder.blocks, strict=True
    ):
        assert our_block.window_size == their_block.window_size
        assert our_block.attn.num_heads == their_block.attn.num_heads
    our_decoder, their_decoder = (one.mask_decoder.transformer for one in (ours, theirs))
    assert our_decoder.num_heads == their_decoder.num_heads
    assert ours.image_encoder.img_size == theirs.image_encoder.img_size == 1024
    assert round(sum(value.numel() for value in ours.parameters()) / 1e6) == millions
    assert f'{millions} million parameters' in checkpoint.title
    thresholds = (
        checkpoint.pred_iou_thresh,
        checkpoint.stability_score_thresh,
        checkpoint.box_nms_thresh,
    )
    defaults = inspect.signature(SamAutomaticMaskGenerator).parameters
    assert thresholds == tuple(
        defaults[name].default
        for name in ('pred_iou_thresh', 'stability_score_thresh', 'box_nms_thresh')
    )


def test_float16_file_gives_float32_weights():
    stored = torch.load(CHECKPOINT, weights_only=True)
    assert {value.dtype for value in stored.values()} == {torch.float16}
    model = load_model(VIT_MINI, str(CHECKPOINT))
    assert model.state_dict().keys() == stored.keys()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, stored[name].float(), rtol=0, atol=0)
    assert {value.device.type for value in [*model.parameters(), *model.buffers()]} == {'cpu'}


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_float32_weights_are_mapped_from_the_file(tmp_path):
    path = tmp_path / 'sam_vit_mini2.pth'
    torch.save(build_sam(VIT_MINI).state_dict(), path)
    model = load_model(VIT_MINI, str(path))
    maps = Path('/proc/self/maps').read_text().splitlines()
    spans = [line.split()[0].split('-') for line in maps if line.endswith(str(path))]
    assert spans
    for name, value in model.named_parameters():
        address = value.data_ptr()
        assert any(int(first, 16) <= address < int(end, 16) for first, end in spans), name


def test_weights_beside_another_decoder_are_found(tmp_path):
    stored = torch.load(CHECKPOINT, weights_only=True)
    path = tmp_path / 'vit_mini_lm.pt'
    training = {f'sam.{name}': values for name, values in stored.items()}
    torch.save({'model_state': training, 'decoder_state': {'other': torch.zeros(3)}}, path)
    model = load_model(VIT_MINI, str(path))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, stored[name].float(), rtol=0, atol=0)


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'<html>404</html>',
        {'other.weight': torch.zeros(3)},
        {'model_state': {'other.weight': torch.zeros(3)}},
        {'model_state': 5},
        [torch.zeros(3)],
    ],
    ids=['empty', 'page', 'other', 'other training', 'number', 'list'],
)
def test_file_without_the_weights_is_refused(tmp_path, content):
    path = tmp_path / 'sam_vit_mini2.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(JobError, match='not hold the weights of sam_vit_mini2') as caught:
        load_model(VIT_MINI, str(path))
    assert str(path) in caught.value.message


@pytest.mark.parametrize('stored', [VIT_B, VIT_H], ids=['vit_b', 'vit_h'])
def test_weights_of_another_size_are_refused(tmp_path, stored):
    with torch.device('meta'):
        shapes = list_shapes(build_sam(stored))
    # One number each: a tensor of stride 0 has any shape.
    weights = {name: torch.zeros(1).expand(shape or (1,)) for name, shape in shapes.items()}
    path = tmp_path / 'vit_l_lm.pt'
    torch.save(weights, path)
    with pytest.raises(JobError, match='not hold the weights of vit_l_lm') as caught:
        load_model(VIT_L_LM, str(path))
    assert 'begins with 017f20677997.' in caught.value.hint


@pytest.mark.parametrize('checkpoint', KNOWN.values(), ids=KNOWN)
def test_weights_of_the_right_size_are_loaded(tmp_path, checkpoint):
    with torch.device('meta'):
        shapes = list_shapes(build_sam(checkpoint))
    weights = {name: torch.zeros(1).expand(shape or (1,)) for name, shape in shapes.items()}
    path = tmp_path / checkpoint.file
    torch.save(weights, path)
    assert path.stat().st_size < 5e6
    assert list_shapes(load_model(checkpoint, str(path))) == shapes


@pytest.mark.parametrize(
    ('flags', 'dtype'),
    [
        ('avx2 avx512f', torch.float32),
        ('avx2 avx512_bf16', torch.bfloat16),
        ('amx_bf16', torch.bfloat16),
        (None, torch.float32),  # another system than Linux
    ],
)
def test_bfloat16_is_used_where_the_processor_has_it(tmp_path, caplog, flags, dtype):
    cpu_info = tmp_path / 'cpuinfo'
    if flags is not None:
        cpu_info.write_text(f'processor : 0\nflags : {flags}\n')
    with caplog.at_level('INFO', 'sam_fewshot'):
        model = load_model(VIT_MINI, str(CHECKPOINT), 'bfloat16', cpu_info)
    assert model.image_encoder.blocks[0].attn.qkv.weight.dtype == dtype
    expected = ['the hardware has no bfloat16: the image encoder uses float32']
    assert caplog.messages == (expected if dtype == torch.float32 else [])


def test_float32_is_used_without_a_word(caplog):
    with caplog.at_level('INFO', 'sam_fewshot'):
        model = load_model(VIT_MINI, str(CHECKPOINT))
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert not caplog.messages
