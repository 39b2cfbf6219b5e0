"""Calls that are made again when no answer comes."""
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from girder_client import HttpError

LOST_STATUSES = (None, 429, 502, 503, 504)  # None: no answer. Nobody knows whether the call was carried out
PAUSES_SECONDS = (1, 2, 4)  # before each retry, as the server may still be at work on the call

Answer = TypeVar('Answer')

log = logging.getLogger('sam_fewshot')


def repeat(call: Callable[[], Answer]) -> Answer:
    """Return the answer of a call that may be carried out twice. Retry when no answer comes. Raises HttpError."""
    for pause in PAUSES_SECONDS:
        try:
            return call()
        except HttpError as error:
            if error.status not in LOST_STATUSES:
                raise
            log.warning('no answer (status %s), retrying', error.status)
            time.sleep(pause)
    return call()
