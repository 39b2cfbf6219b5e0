"""Refused requests. The messages are those of a Girder server."""

import json
import re
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException

from annotation_server.tables.database import LARGEST_ID

Record = TypeVar('Record')

# Strict: a float, a string or a boolean is not accepted for an integer. Unknown keys are kept.
STRICT = ConfigDict(strict=True, extra='allow', allow_inf_nan=False)
INTERNAL = 'An unexpected error occurred on the server.'


class RefusalError(Exception):
    """A refusal.

    Parameters
    ----------
    status : int
        HTTP status.
    message : str
    type : str
        Girder's type of the error.
    """

    def __init__(self, status: int, message: str, type: str = 'rest'):
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type


def answer_refusal(request: Request, error: Exception) -> JSONResponse:
    """Convert any exception of a route to a JSON body with `message` and `type`."""
    if isinstance(error, RefusalError):
        status, message, type = error.status, error.message, error.type
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        wrong = 'is required' if first['type'] == 'missing' else f'is not valid: {first["msg"]}'
        status, message, type = 400, f'Parameter "{first["loc"][-1]}" {wrong}.', 'rest'
    elif isinstance(error, HTTPException):
        status, message, type = (
            400,
            f'No matching route for "{request.method} {request.url.path}"',
            'rest',
        )
    else:
        status, message, type = 500, INTERNAL, 'internal'
    return JSONResponse({'message': message, 'type': type}, status)


async def read_body(request: Request) -> bytes:
    """Return the body of a request, unchanged."""
    return await request.body()


ObjectId = Annotated[str, Field(pattern='^[0-9a-f]{24}$')]
Body = Annotated[bytes, Depends(read_body)]
Natural = Annotated[int, Query(ge=0, le=LARGEST_ID)]
# MongoDB ignores the sign of a limit.
Limit = Annotated[int, Query(ge=-LARGEST_ID, le=LARGEST_ID), AfterValidator(abs)]


def is_object_id(text: object) -> bool:
    """Return whether a value has the form of Girder's ids."""
    return isinstance(text, str) and re.fullmatch('[0-9a-f]{24}', text) is not None


def require_object_id(text: object) -> None:
    """Refuse a malformed id that is not in a path. In Girder this is an internal error."""
    if not is_object_id(text):
        raise RefusalError(500, INTERNAL, 'internal')


def require_found(record: Record | None, kind: str, object_id: str) -> Record:
    """Return the record that a path names. Refuse if its id is malformed or unknown."""
    if not is_object_id(object_id):
        raise RefusalError(400, f'Invalid ObjectId: {object_id}', 'validation')
    if record is None:
        raise RefusalError(400, f'Invalid {kind} id ({object_id}).')
    return record


def explain_invalid(kind: str, error: ValidationError) -> RefusalError:
    """Return the refusal of a body, with its first mistake, without the number of the entry."""
    first = error.errors()[0]
    if first['type'] == 'json_invalid':
        return RefusalError(400, 'Invalid JSON passed in request body.')
    place = '.'.join(part for part in first['loc'] if isinstance(part, str))
    return RefusalError(400, f'Invalid {kind}: {place or "the body"}: {first["msg"]}', 'validation')


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a request's body.

    Refuse other content, NaN, infinities and lone surrogates.
    """
    try:
        value = json.loads(body)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise RefusalError(400, 'Invalid JSON passed in request body.') from None
    if not isinstance(value, dict):
        raise RefusalError(400, 'The request body must be a JSON object.')
    return value
