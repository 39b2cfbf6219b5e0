"""Retries, time-outs and errors of the connection."""

import socket

import girder_client
import pytest

from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.connection import RETRY_STATUSES, Connection, Patience, ServerError
from annotation_client.tiles import UPennContrastDataset
from annotation_client.workers import UPennContrastWorkerPreviewClient
from tests.annotation_client.conftest import DROPPED, Answer, FakeServerStarter

TOKEN = 'sEcReT0123456789'
OK = Answer(200, {'name': 'cells'})


@pytest.mark.parametrize('failure', [*map(Answer, RETRY_STATUSES), DROPPED])
def test_read_is_repeated_until_the_server_is_back(
    failure: Answer, fake_server: FakeServerStarter, patience: Patience, pauses: list[float]
) -> None:
    server = fake_server(failure, failure, failure, OK)
    assert Connection(server.apiUrl, TOKEN, patience=patience).get('folder/1') == OK.body
    assert len(server.requests) == 4
    assert pauses == [2, 4]  # the first repetition is immediate


@pytest.mark.parametrize(('asked', 'waited'), [('7', 7), ('7200', 60)])
def test_server_asks_for_a_pause_of_at_most_a_minute(
    asked: str,
    waited: float,
    fake_server: FakeServerStarter,
    patience: Patience,
    pauses: list[float],
) -> None:
    server = fake_server(Answer(503, headers={'Retry-After': asked}), OK)
    Connection(server.apiUrl, TOKEN, patience=patience).get('folder/1')
    assert pauses == [waited]


def test_error_has_the_last_answer(
    fake_server: FakeServerStarter, patience: Patience, pauses: list[float]
) -> None:
    server = fake_server(*[Answer(503, b'<h1>Down for\n maintenance</h1>')] * 11)
    with pytest.raises(ServerError) as caught:
        Connection(server.apiUrl, TOKEN, patience=patience).get('folder/1')
    assert (
        str(caught.value) == 'GET folder/1 failed with status 503: <h1>Down for maintenance</h1>.'
    )
    assert len(server.requests) == 11
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60]


@pytest.mark.parametrize('status', [400, 401, 403, 404, 500])
def test_refusal_is_not_repeated(status: int, fake_server: FakeServerStarter) -> None:
    server = fake_server(Answer(status, {'message': 'No.', 'type': 'rest'}))
    with pytest.raises(ServerError, match=f'GET folder/1 failed with status {status}: No\\.'):
        Connection(server.apiUrl, TOKEN).get('folder/1')
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ('failure', 'status'), [(Answer(503, {'message': 'Busy'}), 503), (DROPPED, None)]
)
def test_write_is_not_repeated(
    failure: Answer, status: int | None, fake_server: FakeServerStarter
) -> None:
    server = fake_server(failure)
    with pytest.raises(ServerError) as caught:
        Connection(server.apiUrl, TOKEN).post('upenn_annotation/multiple', json=[{}])
    assert caught.value.status == status
    assert len(server.requests) == 1


def test_error_keeps_the_answer(fake_server: FakeServerStarter) -> None:
    server = fake_server(Answer(403, {'message': 'Dataset(s) not found', 'type': 'access'}))
    with pytest.raises(girder_client.HttpError) as caught:
        Connection(server.apiUrl, TOKEN).get('dataset_view', {'datasetId': 'd1'})
    assert caught.value.status == 403
    assert caught.value.responseText == '{"message": "Dataset(s) not found", "type": "access"}'
    assert str(caught.value) == (
        'GET dataset_view for dataset d1 failed with status 403: Dataset(s) not found. '
        'The user who started the job needs access to the dataset.'
    )


@pytest.mark.parametrize(
    'body', [{'message': f'Bad token {TOKEN}!'}, f'Bad token {TOKEN}!'.encode(), {}, [], 'no']
)
def test_errors_hide_the_token(body: object, fake_server: FakeServerStarter) -> None:
    server = fake_server(Answer(400, body))
    with pytest.raises(ServerError) as caught:
        Connection(server.apiUrl, TOKEN).get('folder/1', {'token': TOKEN})
    assert 'GET folder/1 failed with status 400: ' in str(caught.value)
    assert TOKEN not in str(caught.value) + repr(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize('token', ['two\nlines', 'tökén'])
def test_impossible_token_is_refused_and_hidden(token: str) -> None:
    with pytest.raises(ValueError, match='token') as caught:
        Connection('http://127.0.0.1:1/api/v1', token)
    assert token not in str(caught.value)


def test_answer_that_is_not_json_is_refused(fake_server: FakeServerStarter) -> None:
    server = fake_server(Answer(200, b'<html>Welcome</html>'))
    with pytest.raises(
        ServerError, match=rf'the answer is not JSON\. Is {server.apiUrl}/ the address of the API\?'
    ):
        Connection(server.apiUrl, TOKEN).get('folder/1')


@pytest.mark.parametrize('method', ['GET', 'POST'])
def test_absent_server_is_tried_for_five_minutes(
    method: str, patience: Patience, pauses: list[float]
) -> None:
    with socket.create_server(('127.0.0.1', 0)) as closed:
        port = closed.getsockname()[1]
    sentence = f'{method} folder did not get through to .*{port}.*Connection refused'
    with pytest.raises(ServerError, match=sentence) as caught:
        Connection(f'http://127.0.0.1:{port}/api/v1', TOKEN, patience=patience).sendRestRequest(
            method, 'folder'
        )
    assert (caught.value.status, caught.value.responseText) == (None, '')
    assert sum(pauses) == 302


def test_silent_server_is_given_up(fake_server: FakeServerStarter) -> None:
    server = fake_server(Answer(is_late=True))
    hasty = Patience(read_seconds=0.1)
    with pytest.raises(ServerError, match=r'POST folder/1 did not get through .* Read timed out'):
        Connection(server.apiUrl, TOKEN, patience=hasty).post('folder/1')


BROKEN_OFF = Answer(200, b'[1, 2]', headers={'Content-Length': '100'})


def test_read_is_repeated_when_its_answer_breaks_off(
    fake_server: FakeServerStarter, patience: Patience, pauses: list[float]
) -> None:
    server = fake_server(BROKEN_OFF, BROKEN_OFF, OK)
    assert Connection(server.apiUrl, TOKEN, patience=patience).get('item/1') == OK.body
    assert len(server.requests) == 3
    assert pauses == [2]


def test_answer_that_always_breaks_off_is_an_error(
    fake_server: FakeServerStarter, patience: Patience, pauses: list[float]
) -> None:
    server = fake_server(*[BROKEN_OFF] * 11)
    with pytest.raises(
        ServerError, match=r'GET item/1 did not get through .*6 bytes read, 94 more expected'
    ):
        Connection(server.apiUrl, TOKEN, patience=patience).get('item/1')
    assert sum(pauses) == 302


def test_write_is_not_repeated_when_its_answer_breaks_off(fake_server: FakeServerStarter) -> None:
    server = fake_server(BROKEN_OFF)
    with pytest.raises(ServerError, match='POST upenn_annotation/multiple did not get through'):
        Connection(server.apiUrl, TOKEN).post('upenn_annotation/multiple', json=[{}])
    assert len(server.requests) == 1


def test_patience_ends_after_five_minutes_of_waiting_for_answers(
    fake_server: FakeServerStarter, pauses: list[float]
) -> None:
    clock = iter(range(0, 10_000, 70))  # each attempt takes 70 s
    patience = Patience(read_seconds=0.1, clock=lambda: next(clock), sleep=pauses.append)
    server = fake_server(*[Answer(is_late=True)] * 8)
    with pytest.raises(ServerError, match=r'GET folder/1 did not get through .* Read timed out'):
        Connection(server.apiUrl, TOKEN, patience=patience).get('folder/1')
    assert len(server.requests) == 6  # failures at 0, 70, ... 350 s


def test_address_without_a_scheme_is_refused() -> None:
    with pytest.raises(
        ServerError, match=r'GET folder/1 did not get through to example/api/: .*No scheme supplied'
    ):
        Connection('example/api', TOKEN).get('folder/1')


def test_nan_is_not_sent(fake_server: FakeServerStarter) -> None:
    server = fake_server()
    with pytest.raises(ServerError, match='not JSON compliant'):
        Connection(server.apiUrl, TOKEN).post('worker_interface', json={'default': float('nan')})
    assert server.requests == []


def test_clients_share_a_connection(fake_server: FakeServerStarter) -> None:
    server = fake_server(Answer(200, []), Answer(200, {}), Answer(200, []))
    UPennContrastAnnotationClient(server.apiUrl, TOKEN).getAnnotationsByDatasetId('d1')
    UPennContrastWorkerPreviewClient(server.apiUrl, TOKEN).setWorkerImageInterface('image', {})
    UPennContrastAnnotationClient(server.apiUrl, TOKEN).getAnnotationsByDatasetId('d1')
    assert len(server.requests) == 3
    assert len({request.peer for request in server.requests}) == 1


def test_every_client_takes_a_patience(fake_server: FakeServerStarter, patience: Patience) -> None:
    item, metadata = {'_id': 'i1', 'largeImage': {'fileId': 'f1'}}, {'sizeX': 1, 'sizeY': 1}
    server = fake_server(Answer(200, {}), Answer(200, [item]), Answer(200, metadata))
    clients = [
        UPennContrastAnnotationClient(server.apiUrl, TOKEN, patience=patience).client,
        UPennContrastDataset(server.apiUrl, TOKEN, 'd1', patience=patience).client,
        UPennContrastWorkerPreviewClient(server.apiUrl, TOKEN, patience=patience).client,
    ]
    assert [client.patience for client in clients] == [patience] * 3
