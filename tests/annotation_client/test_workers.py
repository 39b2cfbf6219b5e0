"""Forms of workers."""

from pathlib import Path

import numpy as np

from annotation_client.workers import UPennContrastWorkerPreviewClient
from tests.annotation_client.conftest import Answer, FakeServerStarter
from tests.conftest import StartServer
from tests.datasets import write_dataset

IMAGE = 'registry.example:5000/cells/sam few-shot:v1&2#latest'


def test_interface_is_stored_under_its_image(start_server: StartServer, tmp_path: Path) -> None:
    write_dataset(tmp_path, 'cells', np.zeros((8, 8), np.uint8))
    server = start_server(tmp_path)
    interface = {
        'Größe': {'type': 'number', 'default': 0.5, 'displayOrder': 0},
        'Tag': {'type': 'tags'},
    }
    UPennContrastWorkerPreviewClient(server.apiUrl, server.token).setWorkerImageInterface(
        IMAGE, interface
    )
    stored = server.client.get('worker_interface', {'image': IMAGE})
    assert stored == interface
    assert list(stored) == list(interface)


def test_image_name_is_quoted(fake_server: FakeServerStarter) -> None:
    server = fake_server(Answer(200, {}))
    UPennContrastWorkerPreviewClient(server.apiUrl, 'token').setWorkerImageInterface('a/b:c&d', {})
    assert [(request.method, request.path) for request in server.requests] == [
        ('POST', '/api/v1/worker_interface?image=a%2Fb%3Ac%26d')
    ]
