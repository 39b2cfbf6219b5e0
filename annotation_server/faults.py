"""Faults on request: what networks and servers do to a worker's calls, so that tests can see it survive them."""

import argparse
import asyncio
import os
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NoReturn, cast

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from annotation_server.store import Store

API = '/api/v1/'
RESET_ON_CLOSE = struct.pack('ii', 1, 0)  # SO_LINGER: on, for no time at all
NEEDS = {
    'seconds': {'delay', 'busy'},
    'bytes': {'too large'},
}  # the kinds that a key must be given for
ALLOWS = {
    'seconds': {'delay', 'busy', 'unavailable'},
    'bytes': {'too large'},
}  # and those that it means something to


class Rule(BaseModel):
    """Which calls are harmed, and how.

    A rule matches a call that has all that `method`, `path`, `query` and `bytes` ask for. It lets `after` matching
    calls pass and then harms the next `times`, or all that follow if `times` is None.

    kind
        refuse: the connection is reset before the request is looked at.
        cut: the request is carried out; half of the answer's body is sent, then the connection is closed.
        lose: the request is carried out; the connection is reset without an answer.
        delay: `seconds` pass before the request is carried out.
        unavailable: 503. With `seconds`, every matching call from the first harmed one on until they have passed
        gets it, whatever `times` says.
        busy: 429, with `seconds`, a whole number, as Retry-After.
        expire: the request is carried out as if its token were not valid any more.
        truncate: half of the answer's body, whose Content-Length says that this is all.
        restart: the server starts anew in the same process, on the same port, without faults; the call gets no answer.
        too large: 413 for a body of more than `bytes` bytes; `times` is None where it is not given.
    method : GET, POST, PUT or DELETE; None for any.
    path : text that the path after /api/v1/ contains.
    query : text that the query string contains as it was sent, with its percent signs.
    bytes : the largest body, as Content-Length announces it, that a rule does not match.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra='forbid', allow_inf_nan=False)

    kind: Literal[
        'refuse',
        'cut',
        'lose',
        'delay',
        'unavailable',
        'busy',
        'expire',
        'truncate',
        'restart',
        'too large',
    ]
    method: Literal['GET', 'POST', 'PUT', 'DELETE'] | None = None
    path: str = ''
    query: str = ''
    after: Annotated[int, Field(ge=0)] = 0
    times: Annotated[int, Field(ge=1)] | None = 1
    seconds: Annotated[float, Field(ge=0)] | None = None
    bytes: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode='before')
    @classmethod
    def _limit_every_body(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get('kind') == 'too large':
            return {'times': None, **values}
        return values

    @model_validator(mode='after')
    def _check_keys_of_kind(self) -> 'Rule':
        for key in ('seconds', 'bytes'):
            value = getattr(self, key)
            if value is None and self.kind in NEEDS[key]:
                raise ValueError(f'"{self.kind}" needs "{key}"')
            if value is not None and self.kind not in ALLOWS[key]:
                raise ValueError(f'"{self.kind}" has no "{key}"')
        if self.kind == 'busy' and self.seconds != int(self.seconds or 0):
            raise ValueError(f'"seconds" of "busy" must be a whole number, not {self.seconds}')
        return self

    def matches(self, scope: Scope) -> bool:
        """Whether this rule is about a call."""
        length = Headers(scope=scope).get('content-length', '0')
        return (
            self.method in (None, scope['method'])
            and self.path in scope['path'].removeprefix(API)
            and self.query in scope['query_string'].decode('latin-1')
            and (self.bytes is None or int(length) > self.bytes)
        )


RULES = TypeAdapter(list[Rule])


def parse_rules(text: str) -> list[Rule]:
    """Return the rules that a JSON list of objects describes; raise argparse.ArgumentTypeError for anything else."""
    try:
        return RULES.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ': '.join(
            f'rule {part + 1}' if isinstance(part, int) else str(part) for part in first['loc']
        )
        seen = text if first['type'] == 'json_invalid' else repr(first['input'])
        message = f'{place or "the list of rules"}: {first["msg"]}, but this was given: {seen}'
        raise argparse.ArgumentTypeError(message) from error


class Count:
    """A rule and how many calls it has matched."""

    def __init__(self, rule: Rule):
        self.rule = rule
        self.calls = 0
        self.since: float | None = None

    def wants(self, scope: Scope) -> bool:
        """Count a call if the rule matches it, and say whether it is one to harm."""
        rule = self.rule
        if not rule.matches(scope):
            return False
        self.calls += 1
        if self.calls <= rule.after:
            return False
        if rule.kind == 'unavailable' and rule.seconds is not None:
            now = time.monotonic()
            if self.since is None:
                self.since = now
            return now - self.since < rule.seconds
        return rule.times is None or self.calls <= rule.after + rule.times


class Faults:
    """An ASGI application that harms the calls that rules are about and hands the others to the server's own.

    Of several rules that want a call the first gets it; it counts for the others all the same. It has to be the
    outermost application (see `find_transport`).
    """

    def __init__(self, app: FastAPI, rules: Sequence[Rule]):
        self.app = app
        self.counts = [Count(rule) for rule in rules]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call, or do not, as the rules say."""
        rule = self.choose_rule(scope) if scope['type'] == 'http' else None
        if rule is None:
            await self.app(scope, receive, send)
        else:
            await self.harm(rule, scope, receive, send)

    def choose_rule(self, scope: Scope) -> Rule | None:
        """Let every rule count a call and return the first that wants it."""
        # Nothing is awaited here, so that no other call can come between: all run in one event loop.
        wanted = [count.wants(scope) for count in self.counts]
        return next(
            (count.rule for count, wants in zip(self.counts, wanted, strict=True) if wants), None
        )

    async def harm(self, rule: Rule, scope: Scope, receive: Receive, send: Send) -> None:
        """Do to a call what a rule says."""
        match rule.kind:
            case 'refuse':
                await reset_connection(receive, send)
            case 'cut' | 'truncate':
                start, body = await self.collect_answer(scope, receive)
                half = body[: len(body) // 2]
                MutableHeaders(scope=start)['content-length'] = str(
                    len(body if rule.kind == 'cut' else half)
                )
                await send(start)
                await send(
                    {'type': 'http.response.body', 'body': half, 'more_body': rule.kind == 'cut'}
                )
                if rule.kind == 'cut':
                    await close_connection(receive, send)
            case 'lose':
                await self.collect_answer(scope, receive)
                await reset_connection(receive, send)
            case 'delay':
                await asyncio.sleep(rule.seconds or 0)
                await self.app(scope, receive, send)
            case 'unavailable':
                await refuse(
                    503, 'The server is not available at the moment.', scope, receive, send
                )
            case 'busy':
                wait = {'Retry-After': str(int(rule.seconds or 0))}
                await refuse(429, 'Too many requests.', scope, receive, send, wait)
            case 'expire':
                # The routes know how they refuse a token that is no longer valid: like none.
                headers = [
                    (name, value) for name, value in scope['headers'] if name != b'girder-token'
                ]
                await self.app({**scope, 'headers': headers}, receive, send)
            case 'restart':
                restart(self.app.state.store, scope['server'][1])
            case 'too large':
                await refuse(
                    413, f'The body is larger than {rule.bytes} bytes.', scope, receive, send
                )

    async def collect_answer(self, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
        """Carry a request out and return the answer's first message and its body."""
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        await self.app(scope, receive, keep)
        return answer[0], b''.join(message.get('body', b'') for message in answer[1:])


async def refuse(
    status: int,
    message: str,
    scope: Scope,
    receive: Receive,
    send: Send,
    headers: dict[str, str] | None = None,
) -> None:
    """Answer with an error of the form of the server's own."""
    await JSONResponse({'message': message, 'type': 'rest'}, status, headers)(scope, receive, send)


def find_transport(send: Send) -> asyncio.Transport:
    """Return the connection behind an outermost application's `send`."""
    # ASGI has no word for breaking a connection off. uvicorn's `send` is a method of the object that answers one
    # request, which has the transport in both of its HTTP/1.1 protocols; any application around ours could wrap it.
    return cast(Any, send).__self__.transport


async def reset_connection(receive: Receive, send: Send) -> None:
    """Break a connection off: the client gets "Connection reset by peer"."""
    transport = find_transport(send)
    # Without this the client would see an orderly end wherever all that it sent has been read.
    transport.get_extra_info('socket').setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE
    )
    transport.abort()
    await wait_for_disconnect(receive)


async def close_connection(receive: Receive, send: Send) -> None:
    """End a connection once the client has all that was sent to it."""
    # abort() would drop what still waits in buffers: how much arrives would be a matter of chance.
    find_transport(send).close()
    await wait_for_disconnect(receive)


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the connection has ended: uvicorn takes an application that returns earlier to be broken."""
    while (await receive())['type'] != 'http.disconnect':
        pass


def restart(store: Store, port: int) -> NoReturn:
    """Start this program anew in this process: same folder, same port, same other options, no faults."""
    # Closing waits for the transaction that another thread may be in. SQLite would survive its end as well, by taking
    # it back at the next start. Nothing is awaited from here on: no other call gets an answer from a closed store.
    store.close()
    # Of an option given twice the last counts. Python's sockets do not outlive exec, so that the port is free.
    later = ['--port', str(port), '--faults', '[]']
    os.execv(sys.executable, [sys.executable, '-m', 'annotation_server', *sys.argv[1:], *later])
