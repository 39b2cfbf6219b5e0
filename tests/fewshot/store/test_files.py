"""The store on a real annotation server, with faults, other users and other jobs."""

import hashlib
import logging
from typing import Any

import pytest

from fewshot.server import Server
from fewshot.store.files import (
    ITEM,
    MAX_FILE_BYTES,
    MAX_STORED_FRAMES,
    SWITCH,
    FileStore,
    open_store,
)
from tests.fewshot.conftest import Lab, make_server

KEYS = [f'{number:064x}' for number in range(9)]
CONTENT = b'a record'
ADD = {'method': 'POST', 'path': 'file'}
DOWNLOAD = {'method': 'GET', 'path': '/download'}
LIST = {'method': 'GET', 'path': '/files'}


def open_files(server: Server, **options: Any) -> FileStore:
    """Return the store of a server, as a job opens it."""
    store = FileStore(server, **options)
    store.list_files()
    return store


def list_names(lab: Lab) -> list[str]:
    """Return the names of the files on the server, oldest first."""
    item_id = lab.server().find_item(ITEM)
    return [one['name'] for one in lab.server().list_files(item_id)] if item_id else []


def name_file(key: str, content: bytes) -> str:
    return f'{key}-{hashlib.sha256(content).hexdigest()}.npz'


def add_foreign(lab: Lab, name: str, content: bytes = CONTENT, user: str = 'owner') -> str:
    """Put a file into the store by hand."""
    server = lab.server(user)
    return server.add_file(server.create_item(ITEM), name, content)


@pytest.fixture
def lines(caplog) -> pytest.LogCaptureFixture:
    """Return the log, from warnings on."""
    caplog.set_level(logging.WARNING, 'sam_fewshot')
    return caplog


def test_file_of_one_job_is_read_by_the_next(lab, lines):
    first = open_files(lab.server())
    assert first.fetch(KEYS[0]) is None
    first.save(KEYS[0], CONTENT)
    first.save(KEYS[0], CONTENT)  # another frame with the same pixels
    assert first.fetch(KEYS[0]) is None
    assert list_names(lab) == [name_file(KEYS[0], CONTENT)]
    second = open_files(lab.server())
    assert second.fetch(KEYS[0]) == CONTENT
    assert second.fetch(KEYS[1]) is None
    assert not lines.records


def test_what_a_writer_stored_is_read_by_a_reader(lab, lines):
    open_files(lab.server('writer')).save(KEYS[0], CONTENT)
    reader = open_files(lab.server('reader'))
    assert reader.fetch(KEYS[0]) == CONTENT
    assert not lines.records
    for key in KEYS[1:3]:
        reader.save(key, CONTENT)
    assert list_names(lab) == [name_file(KEYS[0], CONTENT)]
    assert len(lines.records) == 1
    assert 'Write access denied' in lines.text


def test_user_without_rights_works_without_the_store(lab, lines):
    open_files(lab.server()).save(KEYS[0], CONTENT)
    stranger = open_files(lab.server('stranger'))
    assert stranger.fetch(KEYS[0]) is None
    stranger.save(KEYS[1], CONTENT)
    assert list_names(lab) == [name_file(KEYS[0], CONTENT)]
    assert len(lines.records) == 1


def test_newer_file_of_a_key_replaces_the_older_one(lab):
    open_files(lab.server()).save(KEYS[0], CONTENT)
    store = open_files(lab.server())
    store.save(KEYS[0], b'more')
    assert list_names(lab) == [name_file(KEYS[0], b'more')]
    assert open_files(lab.server()).fetch(KEYS[0]) == b'more'


def test_two_jobs_at_once_disturb_neither(lab, lines):
    open_files(lab.server()).save(KEYS[0], CONTENT)
    one, other = open_files(lab.server()), open_files(lab.server())
    one.save(KEYS[0], b'from one')
    assert other.fetch(KEYS[0]) is None  # gone, because the first job replaced it
    other.save(KEYS[0], b'from the other')
    other.save(KEYS[1], b'from the other')
    one.save(KEYS[2], b'from one')
    assert open_files(lab.server()).fetch(KEYS[0]) == b'from the other'
    assert open_files(lab.server()).fetch(KEYS[1]) == b'from the other'
    open_files(lab.server()).save(KEYS[0], b'later')
    expected = [(1, b'from the other'), (2, b'from one'), (0, b'later')]
    assert list_names(lab) == [name_file(KEYS[number], content) for number, content in expected]
    assert len(lines.records) == 1
    assert 'cannot be read' in lines.text


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        pytest.param(name_file(KEYS[0], CONTENT), CONTENT + b'!', id='longer'),
        pytest.param(name_file(KEYS[0], CONTENT), CONTENT[:-1], id='truncated'),
        pytest.param(name_file(KEYS[0], CONTENT), b'', id='empty'),
        pytest.param(name_file(KEYS[0], CONTENT), bytes(MAX_FILE_BYTES + 1), id='too large'),
    ],
)
def test_damaged_file_is_not_used(lab, lines, name, content):
    add_foreign(lab, name, content)
    store = open_files(lab.server())
    assert store.fetch(KEYS[0]) is None
    assert len(lines.records) == 1
    store.save(KEYS[0], CONTENT)
    assert list_names(lab) == [name_file(KEYS[0], CONTENT)]


def test_foreign_files_stay_and_are_not_used(lab, lines):
    names = ['notes.txt', f'{KEYS[0]}.npz', f'{KEYS[0]}-{KEYS[1]}.npz.part', KEYS[0]]
    for name in names:
        add_foreign(lab, name)
    store = open_files(lab.server(), max_bytes=len(CONTENT))
    assert store.fetch(KEYS[0]) is None
    store.save(KEYS[0], CONTENT)
    assert list_names(lab) == [*names, name_file(KEYS[0], CONTENT)]
    assert not lines.records


def test_oldest_files_go_when_the_store_is_full(lab, lines):
    first = open_files(lab.server())
    for key in KEYS[:4]:
        first.save(key, b'12345678')
    second = open_files(lab.server(), max_bytes=32)
    second.save(KEYS[2], b'87654321')  # replaces its older one
    assert second.fetch(KEYS[0]) == b'12345678'
    second.save(KEYS[4], b'123456789')
    names = [name_file(KEYS[3], b'12345678'), name_file(KEYS[2], b'87654321')]
    assert list_names(lab) == [*names, name_file(KEYS[4], b'123456789')]
    assert not lines.records


def test_job_removes_none_of_its_own_files(lab, lines):
    store = open_files(lab.server(), max_bytes=16)
    for key in KEYS[:4]:
        store.save(key, b'12345678')
    assert list_names(lab) == [name_file(key, b'12345678') for key in KEYS[:2]]
    assert len(lines.records) == 1
    assert '16 bytes are full' in lines.text


def test_age_is_the_time_of_creation():
    records = [
        {'_id': id, 'name': name_file(key, CONTENT), 'size': 8, 'created': created}
        for id, key, created in [
            ('b', KEYS[1], '2026-02-01T00:00:00+00:00'),
            ('a', KEYS[0], '2026-01-01T00:00:00+00:00'),
            ('c', KEYS[0], '2026-03-01T00:00:00+00:00'),
        ]
    ]
    store = open_files(make_server([{'_id': 'item'}], records))
    assert [one.id for one in store.files] == ['a', 'b', 'c']


@pytest.mark.parametrize(
    'answers',
    [
        pytest.param([None], id='no list of items'),
        pytest.param([[{}]], id='an item without an id'),
        pytest.param([[{'_id': 'i'}], {'message': 'none'}], id='no list of files'),
        pytest.param([[{'_id': 'i'}], [{'_id': 'f'}]], id='a file without a name'),
        pytest.param([[{'_id': 'i'}], [{'name': name_file(KEYS[0], b'')}]], id='without an id'),
    ],
)
def test_odd_answers_end_the_use_of_the_store(lines, answers):
    store = open_files(make_server(*answers))
    assert store.fetch(KEYS[0]) is None
    store.save(KEYS[0], CONTENT)
    assert len(lines.records) <= 1


@pytest.mark.parametrize('kind', ['lose', 'refuse', 'cut', 'unavailable', 'too large'])
def test_failed_upload_ends_storing_with_one_line(start_lab, lines, kind):
    lab = start_lab({'kind': kind, **ADD, 'times': None})
    store = open_files(lab.server())
    for key in KEYS[:3]:
        store.save(key, CONTENT)
    assert len(list_names(lab)) <= 1
    assert len(lines.records) == 1
    assert 'no more proposals are stored' in lines.text


def test_interrupted_upload_is_not_used(start_lab, lines):
    lab = start_lab({'kind': 'lose', **ADD})
    open_files(lab.server()).save(KEYS[0], CONTENT)
    add_foreign(lab, name_file(KEYS[1], CONTENT), CONTENT[:3])
    store = open_files(lab.server())
    assert store.fetch(KEYS[0]) == CONTENT  # it had arrived
    assert store.fetch(KEYS[1]) is None
    assert len(lines.records) == 2


@pytest.mark.parametrize('kind', ['truncate', 'expire'])
def test_failed_download_is_not_used(start_lab, lines, kind):
    lab = start_lab({'kind': kind, **DOWNLOAD})
    open_files(lab.server()).save(KEYS[0], CONTENT)
    assert open_files(lab.server()).fetch(KEYS[0]) is None
    assert len(lines.records) == 1


def test_failed_listing_ends_the_use_of_the_store(start_lab, lines):
    lab = start_lab({'kind': 'expire', **LIST})
    open_files(lab.server()).save(KEYS[0], CONTENT)
    store = open_files(lab.server())
    assert store.fetch(KEYS[0]) is None
    store.save(KEYS[0], CONTENT)
    assert len(lines.records) == 1


# When it is used


@pytest.mark.parametrize(
    ('switch', 'frames', 'is_read', 'is_written'),
    [
        (None, 1, True, True),
        ('1', MAX_STORED_FRAMES, True, True),
        (None, MAX_STORED_FRAMES + 1, True, False),
        ('0', 1, False, False),
    ],
)
def test_store_is_used_unless_it_is_switched_off(
    lab, monkeypatch, switch, frames, is_read, is_written
):
    open_files(lab.server()).save(KEYS[0], CONTENT)
    monkeypatch.delenv(SWITCH, raising=False)
    if switch is not None:
        monkeypatch.setenv(SWITCH, switch)
    store = open_store(lab.server(), frames)
    assert (store.fetch(KEYS[0]) == CONTENT) is is_read
    store.save(KEYS[1], CONTENT)
    assert len(list_names(lab)) == 1 + is_written


def test_switched_off_store_asks_nothing(monkeypatch):
    monkeypatch.setenv(SWITCH, '0')
    server = make_server()
    store = open_store(server, 1)
    store.save(KEYS[0], CONTENT)
    assert store.fetch(KEYS[0]) is None
    assert server.client.requests == []  # type: ignore[attr-defined]
