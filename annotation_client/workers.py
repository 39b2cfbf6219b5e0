"""What the server keeps about workers."""
from collections.abc import Mapping
from typing import Any

from annotation_client.connection import Connection


class UPennContrastWorkerPreviewClient:
    """The worker interfaces on a server. `client` is the girder client, for calls that have no method here."""

    def __init__(self, apiUrl: str, token: str):
        self.client = Connection(apiUrl, token)

    def setWorkerImageInterface(self, image: str, interface: Mapping) -> Any:
        """Store the interface, {field name: field}, of the worker in the Docker image of this name."""
        return self.client.post('worker_interface', {'image': image}, json=interface)
