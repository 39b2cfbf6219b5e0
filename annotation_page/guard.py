"""Who may see the page: only the browser that opened the link, and only from this machine."""

import hashlib
import hmac
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

API = '/api/v1/'
REFUSED = 'This page opens only with the link that the server printed when it started.'
HEADERS = {
    # Everything comes from this server. NiceGUI compiles its templates in the browser.
    'Content-Security-Policy': "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    "frame-ancestors 'none'; form-action 'self'",
    'Referrer-Policy': 'same-origin',
    'X-Content-Type-Options': 'nosniff',
}


class Guard:
    """An ASGI application in front of the page and the REST interface.

    The link has a token. The answer to it sets a cookie, and all later requests need the cookie.
    Requests that another site starts, or that name another host, are refused. The REST interface
    checks its own tokens.

    Parameters
    ----------
    app : ASGIApp
        The page.
    api : ASGIApp
        The REST interface.
    token : str
    port : int
        The server's port on this machine.
    """

    def __init__(self, app: ASGIApp, api: ASGIApp, token: str, port: int) -> None:
        self.app = app
        self.api = api
        self._token = token
        # Browsers send a cookie to all ports of a host, so its name has the port, and the token
        # cannot be computed from its value.
        self._cookie = f'annotation-page-{port}'
        self._session = hmac.digest(token.encode(), b'page', hashlib.sha256).hex()
        self._hosts = {f'127.0.0.1:{port}', f'localhost:{port}'}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope['type'] == 'lifespan':
            await self.app(scope, receive, send)
            return
        if scope['path'].startswith(API):
            await self.api(scope, receive, send)
            return
        headers = read_headers(scope)
        answer = self._check(scope, headers)
        if answer is None:
            await self.app(scope, receive, add_headers(send))
        elif scope['type'] == 'websocket':
            await send({'type': 'websocket.close', 'code': 1008})  # before it is accepted: 403
        else:
            await answer(scope, receive, add_headers(send))

    def _check(self, scope: Scope, headers: Mapping[str, str]) -> Response | None:
        """Return the answer to a request that does not reach the page, else None."""
        if headers.get('host') not in self._hosts or is_foreign(scope, headers):
            return PlainTextResponse(REFUSED, 403)
        if scope['type'] == 'http' and scope['method'] == 'GET':
            query = dict(parse_qsl(scope['query_string'].decode('latin-1')))
            token = query.pop('token', None)
            if token is not None and is_same(token, self._token):
                return self._open(scope['path'], query)
        if not is_same(read_cookie(headers, self._cookie), self._session):
            return PlainTextResponse(REFUSED, 403)
        return None

    def _open(self, path: str, query: Mapping[str, str]) -> Response:
        """Set the cookie and go to the same address without the token."""
        # Two slashes at the start would name another host.
        target = '/' + path.lstrip('/')
        answer = RedirectResponse(target + ('?' + urlencode(query) if query else ''), 303)
        answer.set_cookie(self._cookie, self._session, httponly=True, samesite='lax')
        answer.headers['Cache-Control'] = 'no-store'
        return answer


def make_link(token: str, port: int) -> str:
    """Return the address that opens the page."""
    return f'http://127.0.0.1:{port}/?token={token}'


def is_same(given: str, expected: str) -> bool:
    """Compare two secrets in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode('utf-8', 'surrogateescape'), expected.encode())


def read_headers(scope: Scope) -> dict[str, str]:
    """Return the headers of a request, with names in lower case."""
    return {name.decode('latin-1'): value.decode('latin-1') for name, value in scope['headers']}


def read_cookie(headers: Mapping[str, str], name: str) -> str:
    """Return the value of a cookie. '' without one."""
    try:
        cookies = SimpleCookie(headers.get('cookie', ''))
    except CookieError:
        return ''
    return cookies[name].value if name in cookies else ''


def is_foreign(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Return whether another site started a request. A link to the page from there is allowed."""
    origin = headers.get('origin')
    if origin is not None and origin != f'http://{headers.get("host")}':
        return True
    if headers.get('sec-fetch-site', 'none') in ('same-origin', 'none'):
        return False
    is_link = headers.get('sec-fetch-mode') == 'navigate' and headers.get('sec-fetch-dest') == (
        'document'
    )
    return not (is_link and scope['type'] == 'http' and scope['method'] == 'GET')


def add_headers(send: Send) -> Send:
    """Return a `send` that adds HEADERS to every answer."""

    async def send_with_headers(message: Message) -> None:
        if message['type'] == 'http.response.start':
            extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, 'headers': [*message['headers'], *extra]}
        await send(message)

    return send_with_headers
