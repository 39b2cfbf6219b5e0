import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import xxhash

from fewshot.errors import JobError
from fewshot.sam.checkpoints import (
    KNOWN,
    MODELS,
    VIT_B,
    VIT_B_EM,
    VIT_B_LM,
    VIT_H,
    VIT_L,
    VIT_L_EM,
    VIT_L_LM,
    VIT_MINI,
    Costs,
    check_file,
    checkpoint_path,
    fetch_file,
    main,
)
from tests.file_server import PART_BYTES, FileServer, serving
from tests.small_model import CHECKPOINT
from tests.worker import REPOSITORY


@pytest.fixture
def path(tmp_path) -> str:
    """Return a copy of the small model's file, in a folder of its own."""
    return shutil.copy(CHECKPOINT, tmp_path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return an empty folder for checkpoints."""
    folder = tmp_path / 'checkpoints'
    folder.mkdir()
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(folder))
    return folder


@pytest.fixture
def server():
    """Serve the file of the small model."""
    with serving(CHECKPOINT.read_bytes()) as server:
        yield server


def xxh128(content: bytes) -> str:
    """Return the XXH128 of some bytes."""
    return xxhash.xxh128(content).hexdigest()


def test_known_checkpoints_are_these_in_this_order():
    assert list(KNOWN) == [
        'sam_vit_h_4b8939',
        'sam_vit_l_0b3195',
        'sam_vit_b_01ec64',
        'vit_l_lm',
        'vit_b_lm',
        'vit_l_em_organelles',
        'vit_b_em_organelles',
        'sam_vit_mini2',
    ]


def test_vit_h_is_always_offered():
    assert MODELS == ['sam_vit_h_4b8939']
    assert KNOWN['sam_vit_h_4b8939'] is VIT_H
    thresholds = VIT_H.pred_iou_thresh, VIT_H.stability_score_thresh, VIT_H.box_nms_thresh
    assert thresholds == (0.88, 0.95, 0.7)


def test_time_of_a_frame_is_an_encoding_of_it_and_of_each_candidate_and_every_point():
    costs = Costs(encoding=2, point=0.01)
    assert costs.estimate_frame(points_per_side=10, candidates=5) == 2 + 5 * 2 + 100 * 0.01
    assert costs.estimate_frame(points_per_side=10, candidates=0) == 2 + 100 * 0.01


def test_models_of_one_size_take_the_same_time_and_larger_ones_longer():
    for small, large in ((VIT_B, VIT_L), (VIT_L, VIT_H)):
        assert small.costs.encoding < large.costs.encoding
    for base, *others in ((VIT_L, VIT_L_LM, VIT_L_EM), (VIT_B, VIT_B_LM, VIT_B_EM)):
        assert all(one.costs == base.costs for one in others)


def test_small_model_matches_its_description():
    content = CHECKPOINT.read_bytes()
    assert len(content) == VIT_MINI.size < 20e6
    assert hashlib.sha256(content).hexdigest() == VIT_MINI.sha256


@pytest.mark.parametrize('checkpoint', KNOWN.values(), ids=KNOWN)
def test_checkpoint_path_is_in_the_named_folder(checkpoint, monkeypatch):
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', '/weights')
    suffix = '.pt' if checkpoint.name.startswith('vit_') else '.pth'
    assert checkpoint_path(checkpoint) == f'/weights/{checkpoint.name}{suffix}'


@pytest.mark.parametrize('checkpoint', KNOWN.values(), ids=KNOWN)
def test_every_file_has_one_checksum_and_an_address(checkpoint):
    digest = checkpoint.sha256 or checkpoint.xxh128
    assert len(digest) == (64 if checkpoint.sha256 else 32)
    assert int(digest, 16)
    assert not (checkpoint.sha256 and checkpoint.xxh128)
    if checkpoint is not VIT_MINI:
        assert checkpoint.url.startswith('https://')


def test_every_file_and_address_is_used_once():
    for one in ('url', 'file', 'title'):
        assert len({getattr(checkpoint, one) for checkpoint in KNOWN.values()}) == len(KNOWN)
    digests = {checkpoint.sha256 or checkpoint.xxh128 for checkpoint in KNOWN.values()}
    assert len(digests) == len(KNOWN)


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
    assert VIT_MINI.size
    sizes = f'{VIT_MINI.size + 1:,} bytes instead of {VIT_MINI.size:,}'
    with pytest.raises(JobError, match=sizes) as caught:
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


# A file whose publisher gives an XXH128 and no size


def test_file_with_xxh128_passes_and_is_recorded(path):
    checkpoint = replace(VIT_MINI, size=None, sha256=None, xxh128=xxh128(CHECKPOINT.read_bytes()))
    check_file(checkpoint, path)
    with open(f'{path}.checked') as file:
        assert file.read().split()[:2] == [checkpoint.xxh128, str(VIT_MINI.size)]


def test_other_file_with_xxh128_is_refused(path):
    with pytest.raises(JobError, match='damaged, or another file') as caught:
        check_file(replace(VIT_MINI, size=None, sha256=None, xxh128='0' * 32), path)
    seen = xxh128(CHECKPOINT.read_bytes())[:12]
    assert f'XXH128 begins with {seen} instead of 000000000000.' in caught.value.hint


# Fetching


def list_files(folder) -> list[str]:
    """Return the names of the files in a folder, sorted."""
    return sorted(os.listdir(folder))


@pytest.mark.parametrize('kind', ['sha256', 'xxh128'])
def test_fetched_file_is_checked_and_recorded(server, folder, kind, capsys):
    checkpoint = replace(VIT_MINI, url=server.url('whole'))
    if kind == 'xxh128':
        digest = xxh128(server.content)
        checkpoint = replace(checkpoint, size=None, sha256=None, xxh128=digest, suffix='.pt')
    fetch_file(checkpoint)
    assert list_files(folder) == [checkpoint.file, f'{checkpoint.file}.checked']
    assert (folder / checkpoint.file).read_bytes() == server.content
    check_file(checkpoint, checkpoint_path(checkpoint))
    assert capsys.readouterr().out.endswith(f'{checkpoint_path(checkpoint)}: good\n')


def test_file_that_is_there_is_not_fetched_again(server, folder, capsys):
    checkpoint = replace(VIT_MINI, url=server.url('whole'))
    fetch_file(checkpoint)
    fetch_file(checkpoint)
    assert len(server.ranges) == 1
    assert 'there already' in capsys.readouterr().out


def test_damaged_file_is_replaced(server, folder, capsys):
    checkpoint = replace(VIT_MINI, url=server.url('whole'))
    (folder / checkpoint.file).write_bytes(b'damaged')
    fetch_file(checkpoint)
    assert (folder / checkpoint.file).read_bytes() == server.content
    assert f'7 bytes instead of {VIT_MINI.size:,}' in capsys.readouterr().out


def test_fetch_goes_on_with_the_part_of_an_earlier_one(server, folder):
    checkpoint = replace(VIT_MINI, url=server.url('whole'))
    (folder / f'{checkpoint.file}.part').write_bytes(server.content[:PART_BYTES])
    fetch_file(checkpoint)
    assert server.ranges == [f'bytes={PART_BYTES}-']
    assert (folder / checkpoint.file).read_bytes() == server.content


@pytest.mark.parametrize('start', [b'', b'the start of another version'])
def test_wrong_bytes_are_refused_and_removed(server, folder, start):
    checkpoint = replace(VIT_MINI, url=server.url('whole' if start else 'other'))
    part = folder / f'{checkpoint.file}.part'
    if start:
        part.write_bytes(start)
    with pytest.raises(JobError, match='damaged, or another file'):
        fetch_file(checkpoint)
    assert list_files(folder) == []


def test_damaged_file_stays_where_the_download_fails(server, folder):
    checkpoint = replace(VIT_MINI, url=server.url('missing'))
    (folder / checkpoint.file).write_bytes(b'damaged')
    with pytest.raises(JobError, match='404 Not Found'):
        fetch_file(checkpoint)
    assert list_files(folder) == [checkpoint.file]


# The command


def address(server: FileServer, fault: str) -> str:
    """Return the address of a folder of the server."""
    return server.url(fault, '').rstrip('/')


def test_fetch_of_a_wrong_file_ends_with_status_1(server, folder, capsys):
    arguments = ['fetch', '--sam-files', address(server, 'whole'), VIT_B.name]
    assert main(arguments) == 1
    assert f'{VIT_MINI.size:,} bytes instead of 375,042,383' in capsys.readouterr().err
    assert list_files(folder) == []


def test_fetch_of_a_missing_file_names_its_address(server, folder, capsys):
    assert main(['fetch', '--sam-files', f'{address(server, "missing")}/', VIT_B.name]) == 1
    assert server.url('missing', VIT_B.file) in capsys.readouterr().err


@pytest.mark.parametrize('names', [[], ['sam_vit_mini2'], ['sam2_large']])
def test_fetch_needs_names_of_files_that_can_be_fetched(names, capsys):
    with pytest.raises(SystemExit) as caught:
        main(['fetch', *names])
    assert caught.value.code == 2
    assert 'NAME' in capsys.readouterr().err


def test_list_says_which_files_are_there(folder, capsys):
    (folder / VIT_B.file).touch()
    assert main(['list']) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(rows) == list(KNOWN)
    assert '375 MB' in rows[VIT_B.name]
    assert rows[VIT_B.name].endswith(str(folder / VIT_B.file))
    assert 'unknown' in rows['vit_b_lm']
    assert rows['vit_b_lm'].endswith('not there')


def test_check_reads_every_file_that_is_there(folder, capsys):
    path = folder / VIT_MINI.file
    shutil.copy(CHECKPOINT, path)
    assert main(['check']) == 0
    assert capsys.readouterr().out == f'{path}: good\n'
    assert list_files(folder) == [VIT_MINI.file, f'{VIT_MINI.file}.checked']


def test_check_passes_where_no_record_can_be_written(folder, capsys):
    path = folder / VIT_MINI.file
    shutil.copy(CHECKPOINT, path)
    (folder / f'{VIT_MINI.file}.checked').symlink_to(folder / 'missing' / 'record')
    assert main(['check']) == 0


def test_check_finds_damage_behind_a_record(folder, capsys):
    path = folder / VIT_MINI.file
    shutil.copy(CHECKPOINT, path)
    main(['check'])
    status = path.stat()
    with open(path, 'r+b') as file:
        file.write(b'damaged')
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert main(['check']) == 1
    assert 'damaged, or another file' in capsys.readouterr().out
    assert list_files(folder) == [VIT_MINI.file]


def test_check_fails_where_no_file_is(folder, capsys):
    assert main(['check']) == 1
    assert str(folder) in capsys.readouterr().out


def test_command_runs_as_documented(folder):
    command = [sys.executable, '-m', 'fewshot.sam.checkpoints', 'list']
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert ended.stderr == ''
    assert ended.stdout.count('not there') == len(KNOWN)
