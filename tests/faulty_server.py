"""An annotation server that harms some requests.

`python -m tests.faulty_server FOLDER --faults JSON` starts it. The other options are those of
`annotation_server`. The JSON is a list of rules. This one lets two uploads pass
and loses the answers to the third and the fourth:

    [{"kind": "lose", "method": "POST", "path": "upenn_annotation/multiple",
      "occurrence": 3, "times": 2}]
"""

import argparse
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal, NoReturn, cast

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from annotation_server.__main__ import main as serve
from annotation_server.store import Store

API = '/api/v1/'
RESET_ON_CLOSE = struct.pack('ii', 1, 0)  # SO_LINGER: on, for 0 seconds
REQUESTS_BEFORE_LATE_ONE = 1  # that are answered before a late request is carried out


class Rule(BaseModel):
    """Which requests are harmed, and how.

    Requests with the rule's method, path, query and size are counted. Those from number
    `occurrence` on are harmed, `times` of them.

    Attributes
    ----------
    kind : str
        refuse: the connection is reset before the request is read.
        cut: the request is carried out. Half of the answer is sent, then the connection is closed.
        lose: the request is carried out. The connection is reset without an answer.
        late: like lose, but the request is carried out later: after the next request.
        hang: nothing happens until the client closes the connection.
        unavailable: 503.
        busy: 429, with `retry_after` seconds as Retry-After.
        expire: no token is valid from this request on, on any path.
        truncate: half of the answer is sent, with a Content-Length that says it is complete.
        restart: the server starts again in the same process, on the same port, without faults.
        too large: 413 for every body of more than `bytes` bytes.
    path : str
        Text in the path after /api/v1/.
    method : str or None
        None means any.
    query : str
        Text in the query as it was sent, with percent signs.
    occurrence : int
        Number of the first request to harm, from 1.
    times : int or None
        None means all requests from there on.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra='forbid')

    kind: Literal[
        'refuse',
        'cut',
        'lose',
        'late',
        'hang',
        'unavailable',
        'busy',
        'expire',
        'truncate',
        'restart',
        'too large',
    ]
    path: Annotated[str, Field(min_length=1)]
    method: Literal['GET', 'POST', 'PUT', 'DELETE'] | None = None
    query: str = ''
    occurrence: Annotated[int, Field(ge=1)] = 1
    times: Annotated[int, Field(ge=1)] | None = 1
    retry_after: Annotated[int, Field(ge=0)] = 0
    bytes: Annotated[int, Field(ge=0)] = 0

    def matches(self, scope: Scope) -> bool:
        """Return whether this rule counts a request."""
        length = int(Headers(scope=scope).get('content-length', '0'))
        return (
            self.method in (None, scope['method'])
            and self.path in scope['path'].removeprefix(API)
            and self.query in scope['query_string'].decode('latin-1')
            and (self.kind != 'too large' or length > self.bytes)
        )

    def harms(self, number: int) -> bool:
        """Return whether this rule harms a request, by its number from 1."""
        if self.kind == 'too large':
            return True
        last = float('inf') if self.times is None else self.occurrence + self.times - 1
        return self.occurrence <= number <= last


RULES = TypeAdapter(list[Rule])


class Faults:
    """An ASGI application that harms requests, and passes the others to the server's own.

    If several rules harm a request, the first does. All of them count it. It must be the outermost
    application, see `find_transport`.
    """

    def __init__(self, app: FastAPI, rules: Sequence[Rule]):
        self.app = app
        self.rules = rules
        self.counts = [0] * len(rules)
        self.late: list[tuple[int, Callable[[], Awaitable[None]]]] = []  # requests to wait for
        self.requests = 0
        self.has_expired = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or harm it."""
        if scope['type'] != 'http':
            await self.app(scope, receive, send)
            return
        self.requests += 1
        rule = self.choose_rule(scope)
        await self.carry_out_late_ones()
        if rule is not None and rule.kind == 'expire':
            self.has_expired = True
        if self.has_expired:
            # The routes know how to refuse an invalid token: as if there were none.
            headers = [pair for pair in scope['headers'] if pair[0] != b'girder-token']
            await self.app({**scope, 'headers': headers}, receive, send)
        elif rule is None:
            await self.app(scope, receive, send)
        else:
            await self.harm(rule, scope, receive, send)

    def choose_rule(self, scope: Scope) -> Rule | None:
        """Let every rule count a request. Return the first rule that harms it."""
        # No await here, so that no other request can come between: all run in one event loop.
        chosen = None
        for number, rule in enumerate(self.rules):
            if rule.matches(scope):
                self.counts[number] += 1
                if chosen is None and rule.harms(self.counts[number]):
                    chosen = rule
        return chosen

    async def carry_out_late_ones(self) -> None:
        """Carry out the late requests whose time has come, before the request that has arrived."""
        due = [carry_out for number, carry_out in self.late if number < self.requests]
        self.late = [one for one in self.late if one[0] >= self.requests]
        for carry_out in due:
            await carry_out()

    async def harm(self, rule: Rule, scope: Scope, receive: Receive, send: Send) -> None:
        """Do to a request what a rule says."""
        match rule.kind:
            case 'refuse':
                await reset_connection(receive, send)
            case 'cut' | 'truncate':
                start, body = await self.collect_answer(scope, receive)
                half = body[: len(body) // 2]
                announced = body if rule.kind == 'cut' else half
                MutableHeaders(scope=start)['content-length'] = str(len(announced))
                await send(start)
                is_cut = rule.kind == 'cut'
                await send({'type': 'http.response.body', 'body': half, 'more_body': is_cut})
                if is_cut:
                    await close_connection(receive, send)
            case 'lose':
                await self.collect_answer(scope, receive)
                await reset_connection(receive, send)
            case 'late':
                await self.postpone(scope, receive)
                await reset_connection(receive, send)
            case 'hang':
                await wait_for_disconnect(receive)
            case 'unavailable':
                await refuse(503, scope, receive, send)
            case 'busy':
                await refuse(429, scope, receive, send, {'Retry-After': str(rule.retry_after)})
            case 'restart':
                restart(self.app.state.store, scope['server'][1])
            case 'too large':
                await refuse(413, scope, receive, send)

    async def collect_answer(self, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
        """Carry a request out. Return the first message of the answer, and its body."""
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        await self.app(scope, receive, keep)
        return answer[0], b''.join(message.get('body', b'') for message in answer[1:])

    async def postpone(self, scope: Scope, receive: Receive) -> None:
        """Read a request and keep it to be carried out later."""
        messages = [await receive()]
        while messages[-1].get('more_body'):
            messages.append(await receive())

        async def give_message() -> Message:
            return messages.pop(0) if messages else {'type': 'http.disconnect'}

        async def carry_out() -> None:
            await self.collect_answer(scope, give_message)

        self.late.append((self.requests + REQUESTS_BEFORE_LATE_ONE, carry_out))


async def refuse(
    status: int,
    scope: Scope,
    receive: Receive,
    send: Send,
    headers: dict[str, str] | None = None,
) -> None:
    """Answer with an error that has the form of the server's own."""
    body = {'message': f'The tests want the status {status}.', 'type': 'rest'}
    await JSONResponse(body, status, headers)(scope, receive, send)


def find_transport(send: Send) -> Any:
    """Return the connection behind the `send` of an outermost application."""
    # ASGI has no message that breaks a connection off. The `send` of uvicorn is a method of the
    # object that answers one request, which has the transport.
    return cast(Any, send).__self__.transport


async def reset_connection(receive: Receive, send: Send) -> None:
    """Break a connection off: the client gets "Connection reset by peer"."""
    transport = find_transport(send)
    # Without this option the client would see a regular end if all that it sent has been read.
    transport.get_extra_info('socket').setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE
    )
    transport.abort()
    await wait_for_disconnect(receive)


async def close_connection(receive: Receive, send: Send) -> None:
    """End a connection when the client has everything that was sent."""
    # abort() would drop what waits in buffers, so that the client gets a random part.
    find_transport(send).close()
    await wait_for_disconnect(receive)


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the connection has ended. For uvicorn, an earlier return would be an error."""
    while (await receive())['type'] != 'http.disconnect':
        pass


def restart(store: Store, port: int) -> NoReturn:
    """Start this program again in this process: same folder, port and options, but no faults."""
    # Closing waits for the transaction of another thread. No request gets an answer from a closed
    # store, because nothing is awaited from here on.
    store.close()
    # The last of several equal options counts. Sockets of Python do not outlive exec.
    later = ['--port', str(port), '--faults', '[]']
    os.execv(sys.executable, [sys.executable, '-m', 'tests.faulty_server', *sys.argv[1:], *later])


def main() -> None:
    """Serve a folder with faults until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--faults', type=RULES.validate_json, default=[])
    options, others = parser.parse_known_args()
    serve(others, lambda app: Faults(app, options.faults))


if __name__ == '__main__':
    main()
