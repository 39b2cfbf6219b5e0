import os
import shutil
from dataclasses import replace

import pytest

from fewshot import checkpoints
from fewshot.checkpoints import check_file
from fewshot.models import VIT_MINI
from tests.small_model import CHECKPOINT


@pytest.fixture
def path(tmp_path) -> str:
    """A copy of the small model's file."""
    return shutil.copy(CHECKPOINT, tmp_path)


def test_the_file_of_the_repository_passes_and_is_remembered(path, monkeypatch):
    check_file(VIT_MINI, path)
    monkeypatch.setattr(checkpoints.hashlib, 'file_digest', lambda *_: pytest.fail('the file was read again'))
    check_file(VIT_MINI, path)


def test_a_file_of_another_size_is_refused_with_both_sizes(path):
    with open(path, 'ab') as file:
        file.write(b'1')
    with pytest.raises(ValueError, match='wrong size') as caught:
        check_file(VIT_MINI, path)
    assert '7,822,096 bytes; expected 7,822,095' in caught.value.__notes__[0]


def test_a_changed_byte_is_noticed_though_the_file_had_passed_before(path):
    check_file(VIT_MINI, path)
    with open(path, 'r+b') as file:
        file.seek(1000)
        file.write(b'\xff\xfe')
    os.utime(path, ns=(1, 1))
    with pytest.raises(ValueError, match='damaged, or another file') as caught:
        check_file(VIT_MINI, path)
    assert VIT_MINI.sha256 in caught.value.__notes__[0]


def test_a_file_that_passed_is_checked_again_for_another_sum(path):
    check_file(VIT_MINI, path)
    with pytest.raises(ValueError, match='damaged'):
        check_file(replace(VIT_MINI, sha256='0' * 64), path)


def test_a_folder_that_cannot_be_written_only_means_that_the_next_job_checks_again(path, monkeypatch, caplog):
    caplog.set_level('INFO')
    real = open

    def refuse_writing(name, mode='r', **options):
        if 'w' in mode:
            raise PermissionError(13, 'read-only', str(name))
        return real(name, mode, **options)

    monkeypatch.setattr('builtins.open', refuse_writing)
    check_file(VIT_MINI, path)
    assert 'will be checked again' in caplog.text and not os.path.exists(f'{path}.checked')
