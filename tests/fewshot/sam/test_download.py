import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fewshot.errors import JobError
from fewshot.sam.download import RETRY_PAUSES_SECONDS, download
from tests.file_server import PART_BYTES, FileServer, serving

CONTENT = random.Random(1).randbytes(3 * PART_BYTES + 500_000)


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Serve CONTENT."""
    with serving(CONTENT) as server:
        yield server


@pytest.fixture
def path(tmp_path) -> Path:
    """Return where a test downloads to."""
    return tmp_path / 'file.part'


@pytest.fixture
def pauses() -> list[float]:
    """Return the list of the pauses before retries."""
    return []


def test_whole_file_is_downloaded(server, path, capsys):
    download(server.url('whole'), str(path))
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None]


def test_download_goes_on_where_connections_were_dropped(server, path, pauses):
    download(server.url('drops'), str(path), sleep=pauses.append)
    assert path.read_bytes() == CONTENT
    starts = [int(asked.removeprefix('bytes=').removesuffix('-')) for asked in server.ranges[1:]]
    assert server.ranges[0] is None
    assert starts == [PART_BYTES, 2 * PART_BYTES, 3 * PART_BYTES]
    assert pauses == [RETRY_PAUSES_SECONDS[0]] * 3  # each retry brought bytes


def test_later_call_goes_on_with_the_part(server, path):
    path.write_bytes(CONTENT[:1234])
    download(server.url('whole'), str(path))
    assert path.read_bytes() == CONTENT
    assert server.ranges == ['bytes=1234-']


def test_complete_part_is_not_downloaded_again(server, path):
    path.write_bytes(CONTENT)
    download(server.url('whole'), str(path))
    assert path.read_bytes() == CONTENT
    assert server.ranges == [f'bytes={len(CONTENT)}-']


def test_part_that_is_too_long_is_downloaded_again(server, path):
    path.write_bytes(CONTENT + b'more')
    download(server.url('whole'), str(path))
    assert path.read_bytes() == CONTENT
    assert server.ranges == [f'bytes={len(CONTENT) + 4}-', None]


def test_server_that_ignores_ranges_sends_the_file_from_the_start(server, path):
    path.write_bytes(b'old' * 100)
    download(server.url('no-range'), str(path))
    assert path.read_bytes() == CONTENT


def test_server_that_ignores_ranges_and_drops_connections_ends_the_download(server, path, pauses):
    with pytest.raises(JobError, match='ended early'):
        download(server.url('no-range-drops'), str(path), sleep=pauses.append)
    assert pauses == list(RETRY_PAUSES_SECONDS)


def test_busy_server_is_asked_again(server, path, pauses):
    download(server.url('busy'), str(path), sleep=pauses.append)
    assert path.read_bytes() == CONTENT
    assert pauses == list(RETRY_PAUSES_SECONDS[:2])


def test_dead_server_ends_the_download_and_the_part_stays(server, path, pauses):
    with pytest.raises(JobError, match='ended early') as caught:
        download(server.url('dies'), str(path), sleep=pauses.append)
    assert f'{PART_BYTES:,} bytes' in caught.value.hint
    assert pauses == list(RETRY_PAUSES_SECONDS)
    assert path.read_bytes() == CONTENT[:PART_BYTES]


def test_address_without_a_server_ends_the_download(path, pauses):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        url = f'http://127.0.0.1:{free.getsockname()[1]}/file'
        with pytest.raises(JobError, match='ended early'):
            download(url, str(path), sleep=pauses.append)
    assert not path.exists()


@pytest.mark.parametrize(('fault', 'words'), [('missing', '404 Not Found'), ('shifted', '206')])
def test_refusal_ends_the_download_at_once(server, path, pauses, fault, words):
    path.write_bytes(CONTENT[:10])
    with pytest.raises(JobError, match=words):
        download(server.url(fault), str(path), sleep=pauses.append)
    assert pauses == []
    assert path.read_bytes() == CONTENT[:10]


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs a device that is always full')
def test_full_disk_ends_the_download(server, path, pauses):
    path.symlink_to('/dev/full')
    with pytest.raises(JobError, match='cannot be written: No space left on device'):
        download(server.url('whole'), str(path), sleep=pauses.append)
    assert pauses == []


def test_missing_folder_ends_the_download(server, tmp_path, pauses):
    with pytest.raises(JobError, match='cannot be written: No such file or directory'):
        download(server.url('whole'), str(tmp_path / 'none' / 'file'), sleep=pauses.append)
    assert pauses == []


def test_progress_is_printed_every_50_megabytes(path, capsys):
    with serving(bytes(110_000_000)) as server:
        download(server.url('whole'), str(path))
    assert capsys.readouterr().out.splitlines() == [
        f'{path}: 50 of 110 MB',
        f'{path}: 100 of 110 MB',
    ]
