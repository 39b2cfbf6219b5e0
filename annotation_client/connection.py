"""The connection to the server: kept alive, with time-outs and retries. All clients share it."""

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import girder_client
import requests
import urllib3

RETRY_STATUSES = (429, 502, 503, 504)  # the server is busy, or it restarts
MAX_RETRIES = 10
MAX_PAUSE_SECONDS = 60  # between two attempts
MAX_MESSAGE_CHARACTERS = 300  # messages from the server are cut
HINTS = {
    401: ' The token is wrong or has expired: start the job again.',
    403: ' The user who started the job needs access to the dataset.',
}


@dataclass(frozen=True)
class Patience:
    """How long a client waits for the server.

    Attributes
    ----------
    connect_seconds : float
        Time to connect.
    read_seconds : float
        Longest time between two parts of an answer.
    retry_seconds : float
        A read is not tried again when this time has passed since its first failure.
    backoff_seconds : float
        The pauses between attempts are 0, 2, 4, 8, ... times this.
    clock : callable
        Returns seconds.
    sleep : callable
        Waits for a number of seconds.
    """

    connect_seconds: float = 10
    read_seconds: float = 120
    retry_seconds: float = 300
    backoff_seconds: float = 1
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


DEFAULT_PATIENCE = Patience()


class Retry(urllib3.Retry):
    """The retries of one call. They end after a number of attempts or when the patience ends.

    A read waits for a server that restarts. A write is sent again only if no connection was made:
    otherwise it might be stored twice.
    """

    patience = DEFAULT_PATIENCE
    first_failure: float | None = None

    @classmethod
    def with_patience(cls, patience: Patience) -> Self:
        """Return the retries of a new call."""
        retry = cls(
            total=MAX_RETRIES,
            backoff_factor=patience.backoff_seconds,
            backoff_max=MAX_PAUSE_SECONDS,
            retry_after_max=MAX_PAUSE_SECONDS,
            status_forcelist=RETRY_STATUSES,
            allowed_methods=('GET',),
            raise_on_status=False,
        )
        retry.patience = patience
        return retry

    def increment(self, *args: Any, **kwargs: Any) -> Self:
        """Return the retries that are left after a failure.

        Raises
        ------
        urllib3.exceptions.HTTPError
            No retry is left, or the call cannot be repeated.
        """
        left = super().increment(*args, **kwargs)
        now = self.patience.clock()
        left.patience = self.patience
        left.first_failure = now if self.first_failure is None else self.first_failure
        if now - left.first_failure > self.patience.retry_seconds:
            raise urllib3.exceptions.MaxRetryError(
                kwargs['_pool'], kwargs.get('url') or '', kwargs.get('error')
            )
        return left

    def sleep(self, response: urllib3.BaseHTTPResponse | None = None) -> None:
        """Wait before the next attempt: as long as the server asks, else longer each time."""
        asked = self.get_retry_after(response) if response else None
        pause = asked or self.get_backoff_time()
        if pause:
            self.patience.sleep(pause)


@functools.cache
def keep_alive_session(patience: Patience) -> requests.Session:
    """Return the session that all clients of this process with the same patience share."""
    session = requests.Session()
    for scheme in ('http://', 'https://'):
        adapter = requests.adapters.HTTPAdapter(max_retries=Retry.with_patience(patience))
        session.mount(scheme, adapter)
    return session


class ServerError(girder_client.HttpError):
    """A call that failed. The text names the call, the dataset and the cause, never the token.

    Attributes
    ----------
    status : int or None
        Status of the server's answer. None if there was no answer.
    responseText : str
        Body of the server's answer.
    """

    def __init__(self, text: str, method: str, url: str, response: requests.Response | None = None):
        status, body = (None, '') if response is None else (response.status_code, response.text)
        super().__init__(status, body, url, method, response)
        self.args = (text,)

    def __str__(self) -> str:
        """Return the text."""
        return self.args[0]


class Connection(girder_client.GirderClient):
    """A girder client with a token. Every call that fails raises ServerError.

    Parameters
    ----------
    apiUrl, token : str
        Address of the REST interface, and the token that the server gave.
    patience : Patience, optional

    Raises
    ------
    ValueError
        The token has characters that cannot be sent.
    """

    def __init__(self, apiUrl: str, token: str, *, patience: Patience = DEFAULT_PATIENCE):
        if not (token.isascii() and token.isprintable()):
            raise ValueError(
                'The token has characters that no token has. Pass it as the server gave it.'
            )
        super().__init__(apiUrl=apiUrl)
        self.setToken(token)
        self.patience = patience
        # This context is the only way to give a session to girder_client. It is never left, because
        # leaving it would close the session.
        self.open_session = self.session(keep_alive_session(patience))
        self.open_session.__enter__()

    def sendRestRequest(
        self,
        method: str,
        path: str,
        parameters: Mapping | None = None,
        *,
        datasetId: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Send a request and return the answer, as GirderClient does.

        Parameters
        ----------
        datasetId : str, optional
            Dataset that an error names. By default the parameter of this name.

        Raises
        ------
        ServerError
        """
        kwargs.setdefault('timeout', (self.patience.connect_seconds, self.patience.read_seconds))
        datasetId = datasetId or (parameters or {}).get('datasetId')
        call = f'{method} {path}' + (f' for dataset {datasetId}' if datasetId else '')
        response = None
        try:
            return self._ask(method, path, parameters, **kwargs)
        except girder_client.HttpError as error:
            response = error.response
            text = f'{call} failed with status {error.status}: {server_message(response)}'
            text += HINTS.get(error.status, '')
        except requests.JSONDecodeError:
            text = f'{call}: the answer is not JSON. Is {self.urlBase} the address of the API?'
        except requests.RequestException as error:
            text = f'{call} did not get through to {self.urlBase}: {cause(error)}.'
        if self.token:
            text = text.replace(self.token, '<token>')
        raise ServerError(text, method, self.urlBase + path, response)

    def _ask(self, method: str, path: str, parameters: Mapping | None, **kwargs: Any) -> Any:
        """Return the answer. Repeat a read whose answer breaks off, which urllib3 does not do."""
        retry = Retry.with_patience(self.patience)
        while True:
            try:
                return super().sendRestRequest(method, path, parameters, **kwargs)
            except requests.exceptions.ChunkedEncodingError as error:
                try:
                    retry = retry.increment(method, path, error=error.args[0], _pool=None)
                except urllib3.exceptions.HTTPError:
                    raise error from None
                retry.sleep()


def server_message(response: requests.Response) -> str:
    """Return what the server says about an error, as one line that ends in a full stop."""
    try:
        message = response.json()['message']
    except (requests.JSONDecodeError, KeyError, TypeError):
        message = response.text or response.reason  # a proxy answers with a page of its own
    return ' '.join(str(message).split())[:MAX_MESSAGE_CHARACTERS].rstrip('.') + '.'


def cause(error: requests.RequestException) -> str:
    """Return the reason of an error of requests, without the layers around it."""
    inner = error.args[0] if error.args else type(error).__name__
    return str(getattr(inner, 'reason', inner)).rstrip('.')
