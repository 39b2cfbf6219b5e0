"""One connection to the server for all clients: kept alive, with time-outs and retries; errors are sentences."""
import functools
import time
from collections.abc import Mapping
from typing import Any, Self

import girder_client
import requests
import urllib3

TIMEOUT = (10, 120)  # seconds to connect, and between two pieces of an answer
PATIENCE = 300  # seconds, from the first failure of a call, within which a read is tried again
HINTS = {
    401: ' The token is wrong or has expired: start the job again.',
    403: ' The user who started the job needs access to the dataset.',
}


class Patience(urllib3.Retry):
    """A Retry that also gives up when PATIENCE is over, whatever the time went to: pauses, or waiting for answers."""

    began: float | None = None

    def increment(self, *args: Any, **kwargs: Any) -> Self:
        """As Retry's. Raises MaxRetryError."""
        following = super().increment(*args, **kwargs)
        following.began = time.monotonic() if self.began is None else self.began
        if time.monotonic() - following.began > PATIENCE:
            raise urllib3.exceptions.MaxRetryError(kwargs['_pool'], kwargs.get('url') or '', kwargs.get('error'))
        return following


RETRY_STATUSES = (429, 502, 503, 504)

# A GET waits out a restart of the server: pauses of 0, 2, 4, ... 60 s, or what Retry-After asks for, a minute at most.
# A write is sent again only if no connection came about, so that nothing is stored twice.
RETRY = Patience(
    total=10,
    backoff_factor=1,
    backoff_max=60,
    retry_after_max=60,
    status_forcelist=RETRY_STATUSES,
    allowed_methods=('GET',),
    raise_on_status=False,
)


@functools.cache
def keep_alive_session() -> requests.Session:
    """The session that all clients of this process share."""
    session = requests.Session()
    for scheme in ('http://', 'https://'):
        session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=RETRY))
    return session


class ServerError(girder_client.HttpError):
    """A call that failed; as text the call, the dataset, the status and the server's message, never the token.

    `status` and `responseText` are the server's answer, None and '' if there was none.
    """

    def __init__(self, sentence: str, method: str, url: str, response: requests.Response | None = None):
        status, text = (None, '') if response is None else (response.status_code, response.text)
        super().__init__(status, text, url, method, response)
        self.args = (sentence,)

    def __str__(self) -> str:
        return self.args[0]


class Connection(girder_client.GirderClient):
    """A girder client with a token, on the shared session. Every call that fails raises a ServerError."""

    def __init__(self, apiUrl: str, token: str):
        if not (token.isascii() and token.isprintable()):
            raise ValueError('The token holds characters that no token has: hand over what the server gave, unchanged.')
        super().__init__(apiUrl=apiUrl)
        self.setToken(token)
        # girder_client takes a session through this context alone; it is never left, as leaving closes the session
        self.open_session = self.session(keep_alive_session())
        self.open_session.__enter__()

    def sendRestRequest(
        self, method: str, path: str, parameters: Mapping | None = None, *, datasetId: str | None = None, **kwargs: Any
    ) -> Any:
        """As GirderClient's. `datasetId` is for the error's text; without it the parameter of that name is named."""
        kwargs.setdefault('timeout', TIMEOUT)
        datasetId = datasetId or (parameters or {}).get('datasetId')
        call = f'{method} {path}' + (f' for dataset {datasetId}' if datasetId else '')
        response = None
        try:
            return self._ask(method, path, parameters, **kwargs)
        except girder_client.HttpError as error:
            response = error.response
            sentence = f'{call} failed with status {error.status}: {server_message(response)}'
            sentence += HINTS.get(error.status, '')
        except requests.JSONDecodeError:
            sentence = f'{call}: the answer is not JSON. Is {self.urlBase} the address of the API?'
        except requests.RequestException as error:
            sentence = f'{call} did not get through to {self.urlBase}: {cause(error)}.'
        if self.token:
            sentence = sentence.replace(self.token, '<token>')
        raise ServerError(sentence, method, self.urlBase + path, response)

    def _ask(self, method: str, path: str, parameters: Mapping | None, **kwargs: Any) -> Any:
        """GirderClient's call. A read whose answer breaks off is made again: urllib3 has handed it over by then."""
        retry = RETRY
        while True:
            try:
                return super().sendRestRequest(method, path, parameters, **kwargs)
            except requests.exceptions.ChunkedEncodingError as error:
                try:
                    retry = retry.increment(method, path, error=error.args[0], _pool=None)
                except urllib3.exceptions.HTTPError:  # a write, or patience is over
                    raise error from None
                retry.sleep()


def server_message(response: requests.Response) -> str:
    """What the server says about an error, as one line that ends in a full stop."""
    try:
        message = response.json()['message']
    except (requests.JSONDecodeError, KeyError, TypeError):
        message = response.text or response.reason  # a server in front answers with a page of its own
    return ' '.join(str(message).split())[:300].rstrip('.') + '.'


def cause(error: requests.RequestException) -> str:
    """The reason of a requests exception without the layers around it."""
    inner = error.args[0] if error.args else type(error).__name__
    return str(getattr(inner, 'reason', inner)).rstrip('.')
