import hashlib
import os
import shutil
from dataclasses import replace

import pytest

from fewshot.errors import JobError
from fewshot.sam.checkpoints import KNOWN, MODELS, VIT_H, VIT_MINI, check_file, checkpoint_path
from tests.small_model import CHECKPOINT


@pytest.fixture
def path(tmp_path) -> str:
    """Return a copy of the small model's file, in a folder of its own."""
    return shutil.copy(CHECKPOINT, tmp_path)


def test_vit_h_is_always_offered():
    assert MODELS == ['sam_vit_h_4b8939']
    assert KNOWN['sam_vit_h_4b8939'] is VIT_H
    thresholds = VIT_H.pred_iou_thresh, VIT_H.stability_score_thresh, VIT_H.box_nms_thresh
    assert thresholds == (0.88, 0.95, 0.7)


def test_small_model_matches_its_description():
    content = CHECKPOINT.read_bytes()
    assert len(content) == VIT_MINI.size < 20e6
    assert hashlib.sha256(content).hexdigest() == VIT_MINI.sha256


@pytest.mark.parametrize('checkpoint', KNOWN.values(), ids=KNOWN)
def test_checkpoint_path_is_in_the_named_folder(checkpoint, monkeypatch):
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', '/weights')
    assert checkpoint_path(checkpoint) == f'/weights/{checkpoint.name}.pth'


def test_file_that_passed_is_not_read_again(path):
    check_file(VIT_MINI, path)
    status = os.stat(path)
    with open(path, 'r+b') as file:
        file.write(b'damaged')
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    check_file(VIT_MINI, path)  # same size and time of change: the record beside the file counts


def test_wrong_size_is_refused(path):
    with open(path, 'ab') as file:
        file.write(b'1')
    with pytest.raises(JobError, match='7,822,096 bytes instead of 7,822,095') as caught:
        check_file(VIT_MINI, path)
    assert str(path) in caught.value.hint


def test_file_that_changed_after_it_passed_is_refused(path):
    check_file(VIT_MINI, path)
    with open(path, 'r+b') as file:
        file.seek(1000)
        file.write(b'\xff\xfe')
    os.utime(path, ns=(1, 1))
    with pytest.raises(JobError, match='damaged, or another file') as caught:
        check_file(VIT_MINI, path)
    assert str(path) in caught.value.message
    assert f'instead of {VIT_MINI.sha256[:12]}.' in caught.value.hint


def test_record_counts_for_its_own_sum_only(path):
    check_file(VIT_MINI, path)
    with pytest.raises(JobError, match='damaged'):
        check_file(replace(VIT_MINI, sha256='0' * 64), path)


def test_file_passes_where_no_record_can_be_written(path, caplog):
    caplog.set_level('INFO')
    os.symlink(f'{path}.missing-folder/record', f'{path}.checked')  # open() fails, even for root
    check_file(VIT_MINI, path)
    assert 'will check the checkpoint file again' in caplog.text
