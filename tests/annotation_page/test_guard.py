"""Only the browser with the link gets anything, from this machine's own address."""

import asyncio
import socket

import numpy as np
import pytest
import requests

from tests.annotation_page.conftest import PageServer, StartPage
from tests.datasets import write_dataset

REFUSED = 'only with the link'


@pytest.fixture(scope='module')
def server(start_module_page: StartPage, tmp_path_factory) -> PageServer:
    folder = tmp_path_factory.mktemp('images')
    write_dataset(folder, 'cells', np.zeros((8, 8), np.uint8))
    return start_module_page(folder)


@pytest.fixture
def session(server: PageServer) -> requests.Session:
    session = requests.Session()
    assert session.get(server.link).status_code == 200
    return session


PATHS = ['/', '/page/images', '/page-files/style.css', '/_nicegui_ws/socket.io/', '/openapi.json']


def test_the_link_sets_a_cookie_and_hides_the_token(server: PageServer):
    answer = requests.get(server.link, allow_redirects=False)
    assert (answer.status_code, answer.headers['Location']) == (303, '/')
    cookie = answer.headers['Set-Cookie']
    assert server.token not in cookie
    assert 'HttpOnly' in cookie
    assert 'samesite=lax' in cookie.lower()


def test_the_link_keeps_the_rest_of_the_address(server: PageServer):
    answer = requests.get(f'{server.link}&dataset=a%26b', allow_redirects=False)
    assert answer.headers['Location'] == '/?dataset=a%26b'


def test_the_link_leads_to_no_other_host(server: PageServer):
    address = f'{server.origin}//example.org/?token={server.token}'
    assert requests.get(address, allow_redirects=False).headers['Location'] == '/example.org/'


@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize('query', ['', '?token=', '?token=wrong', '?token=%C3%A4%FF'])
def test_without_the_token_there_is_nothing(server: PageServer, path: str, query: str):
    answer = requests.get(f'{server.origin}{path}{query}')
    assert answer.status_code == 403
    assert REFUSED in answer.text


def test_a_wrong_cookie_is_refused(server: PageServer):
    for value in ('', 'wrong', server.token, '"'):
        cookies = {'Cookie': f'annotation-page-{server.port}={value}'}
        assert requests.get(f'{server.origin}/', headers=cookies).status_code == 403


@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize(
    'headers',
    [
        {'Origin': 'http://example.org'},
        {'Origin': 'null'},
        {'Origin': 'http://127.0.0.1:1'},
        {'Host': 'example.org'},
        {'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'no-cors'},
        {'Sec-Fetch-Site': 'same-site', 'Sec-Fetch-Mode': 'cors'},
        {
            'Sec-Fetch-Site': 'cross-site',
            'Sec-Fetch-Mode': 'navigate',
            'Sec-Fetch-Dest': 'iframe',
        },
    ],
    ids=str,
)
def test_another_site_gets_nothing(session, server: PageServer, path: str, headers):
    answer = session.get(f'{server.origin}{path}', headers=headers)
    assert answer.status_code == 403
    assert REFUSED in answer.text


def test_another_site_may_link_to_the_page(session, server: PageServer):
    headers = {
        'Sec-Fetch-Site': 'cross-site',
        'Sec-Fetch-Mode': 'navigate',
        'Sec-Fetch-Dest': 'document',
    }
    assert session.get(f'{server.origin}/', headers=headers).status_code == 200
    assert session.post(f'{server.origin}/', headers=headers).status_code == 403


def test_another_site_adds_no_image(session, server: PageServer):
    address = f'{server.origin}/page/images?name=a.png'
    answer = session.post(address, data=b'', headers={'Origin': 'http://example.org'})
    assert answer.status_code == 403


def test_a_web_socket_without_the_cookie_or_from_another_site_is_refused(session, server):
    websockets = pytest.importorskip('websockets')
    address = f'ws://127.0.0.1:{server.port}/_nicegui_ws/socket.io/?EIO=4&transport=websocket'
    cookie = '; '.join(f'{name}={value}' for name, value in session.cookies.items())

    async def connect(**headers: str) -> int:
        try:
            async with websockets.connect(address, additional_headers=headers):
                return 101
        except websockets.exceptions.InvalidStatus as error:
            return error.response.status_code

    assert asyncio.run(connect(Cookie=cookie, Origin=server.origin)) == 101
    assert asyncio.run(connect(Origin=server.origin)) == 403
    assert asyncio.run(connect(Cookie=cookie, Origin='http://example.org')) == 403


def test_every_answer_forbids_frames_and_other_hosts(session, server: PageServer):
    policy = session.get(f'{server.origin}/').headers['Content-Security-Policy']
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy


def test_the_interface_for_programs_has_its_own_tokens(server: PageServer):
    address = f'{server.origin}/api/v1/annotation_property'
    assert requests.get(address, headers={'Girder-Token': server.token}).json() == []
    assert requests.get(f'{server.origin}/api/v1/nothing').status_code == 400


def test_the_page_is_on_loopback_only(server: PageServer):
    address = socket.gethostbyname(socket.gethostname())
    if address.startswith('127.'):
        pytest.skip('This machine has no other address.')
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, server.port), timeout=10)
