import json

import pytest

from tests.annotation_server.conftest import PLANE, refusal
from tests.conftest import Server
from tests.datasets import make_layer, write_dataset

SIDECAR = {
    'layers': [make_layer(0)],
    'configurations': [
        {'name': 'read only', 'layers': [make_layer(1)], 'levels': {'owner': 0, 'reader': 2}},
        {'name': 'hidden', 'layers': [make_layer(2)], 'levels': {'owner': -1}},
    ],
}
NAMES = ['cells collection', 'read only', 'hidden']


@pytest.fixture(scope='module')
def server(start_module_server, tmp_path_factory) -> Server:
    folder = tmp_path_factory.mktemp('images')
    write_dataset(folder, 'cells', PLANE)
    (folder / 'cells.layers.json').write_text(json.dumps(SIDECAR))
    return start_module_server(folder)


@pytest.fixture(scope='module')
def paths(server) -> list[str]:
    """Return the paths to the configurations, in the order of NAMES."""
    views = server.client_of('admin').get('dataset_view', {'datasetId': server.datasets['cells']})
    return [f'upenn_collection/{view["configurationId"]}' for view in views]


def test_each_configuration_of_the_sidecar_has_a_view(server, paths):
    found = [server.client_of('admin').get(path) for path in paths]
    assert [one['name'] for one in found] == NAMES
    assert [one['meta']['layers'] for one in found] == [[make_layer(n)] for n in range(3)]
    assert [one['meta']['propertyIds'] for one in found] == [[], [], []]


@pytest.mark.parametrize(
    ('user', 'levels'),
    [
        ('owner', [2, 0, -1]),
        ('admin', [2, 2, 2]),
        ('writer', [1, 1, 1]),
        ('reader', [0, 2, 0]),
        ('stranger', [-1, -1, -1]),
    ],
)
def test_users_do_what_their_level_on_a_configuration_says(server, paths, user, levels):
    client = server.client_of(user)
    readable = [path for path, level in zip(paths, levels, strict=True) if level >= 0]
    views = client.get('dataset_view', {'datasetId': server.datasets['cells']})
    assert [f'upenn_collection/{view["configurationId"]}' for view in views] == readable
    for path, level in zip(paths, levels, strict=True):
        if level < 0:
            assert refusal(client.get, path)[0] == 403
        else:
            assert client.get(path)['_accessLevel'] == level
        if level < 1:
            status, message, kind = refusal(client.put, f'{path}/metadata', json={'mine': user})
            assert (status, kind) == (403, 'access')
            assert message == 'Write access denied for upenn_collection ID (user ID).'
        else:
            answer = client.put(f'{path}/metadata', json={'mine': user})
            assert (answer['meta']['mine'], answer['_accessLevel']) == (user, level)


@pytest.mark.parametrize(
    ('user', 'level'), [('owner', 2), ('admin', 2), ('writer', 1), ('reader', 0)]
)
def test_a_folder_tells_what_the_user_may_do(server, user, level):
    folder = server.client_of(user).get(f'folder/{server.datasets["cells"]}')
    assert folder['_accessLevel'] == level


def test_a_stranger_reads_no_folder(server):
    stranger = server.client_of('stranger')
    expected = (403, 'Read access denied for folder ID (user ID).', 'access')
    assert refusal(stranger.get, f'folder/{server.datasets["cells"]}') == expected


def test_a_property_in_a_configuration_that_the_user_may_not_read_is_not_listed(server, paths):
    sent = {'name': 'p', 'image': 'i', 'workerInterface': {}}
    sent['tags'] = {'tags': [], 'exclusive': False}
    created = server.client.post('annotation_property', json=sent)
    admin = server.client_of('admin')
    admin.put(f'{paths[2]}/metadata', json={'propertyIds': [created['_id']]})
    assert server.client.get('annotation_property') == []
    assert server.client_of('reader').get('annotation_property') == [created]
