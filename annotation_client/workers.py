"""The forms of workers, which the server stores."""

from collections.abc import Mapping
from typing import Any

from annotation_client.connection import DEFAULT_PATIENCE, Connection, Patience


class UPennContrastWorkerPreviewClient:
    """The worker interfaces on a server.

    Parameters
    ----------
    apiUrl, token : str
        Address of the REST interface, and the token of a user.
    patience : Patience, optional

    Attributes
    ----------
    client : Connection
        The girder client, for calls that have no method here.
    """

    def __init__(self, apiUrl: str, token: str, *, patience: Patience = DEFAULT_PATIENCE):
        self.client = Connection(apiUrl, token, patience=patience)

    def setWorkerImageInterface(self, image: str, interface: Mapping) -> Any:
        """Store the interface of the worker in a Docker image.

        Parameters
        ----------
        image : str
            Name of the Docker image.
        interface : Mapping
            {field name: field}
        """
        return self.client.post('worker_interface', {'image': image}, json=interface)
