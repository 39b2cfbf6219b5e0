from unittest.mock import Mock

import girder_client
import numpy as np
import pytest

from annotation_client.annotations import UPennContrastAnnotationClient
from fewshot.scores import find_property, save_scores
from tests.datasets import make_layer, write_dataset


@pytest.fixture
def folder(tmp_path):
    write_dataset(tmp_path, 'cells', np.zeros((8, 8), np.uint8), [make_layer(0)])
    return tmp_path


def configuration(server) -> dict:
    view, = server.client.get('dataset_view', parameters={'datasetId': server.datasets['cells']})
    return server.client.get(f'upenn_collection/{view["configurationId"]}')


def test_the_property_is_made_once_and_shown_beside_those_that_are_shown(start_server, folder):
    server = start_server(folder)
    store, datasetId = UPennContrastAnnotationClient(server.apiUrl, server.token), server.datasets['cells']
    other = store.createNewProperty({'name': 'SAM few-shot', 'shape': 'point', 'image': 'properties/none:latest',
                                     'tags': {'tags': [], 'exclusive': False}, 'workerInterface': {}})['_id']
    server.client.put(f'upenn_collection/{configuration(server)["_id"]}/metadata', json={'propertyIds': [other]})
    first, again = find_property(store, datasetId), find_property(store, datasetId)
    assert first == again != other
    assert configuration(server)['meta']['propertyIds'] == [other, first]
    assert len(server.client.get('annotation_property')) == 2


def test_without_the_right_it_is_an_error_with_its_status(start_server, folder):
    server = start_server(folder, '--no-properties')
    with pytest.raises(girder_client.HttpError) as caught:
        find_property(UPennContrastAnnotationClient(server.apiUrl, server.token), server.datasets['cells'])
    assert caught.value.status == 403


def test_scores_go_in_their_order_and_no_more_at_once_than_the_server_takes():
    store = Mock()  # 10,001 real annotations would only take time
    ids = [f'{number:024x}' for number in range(10_001)]
    save_scores(store, 'd', 'p', ids, [{'Similarity': number / 20_000} for number in range(10_001)])
    first, second = (call.args[0] for call in store.addMultipleAnnotationPropertyValues.call_args_list)
    assert len(first) == 10_000 and second == [
        {'datasetId': 'd', 'annotationId': ids[-1], 'values': {'p': {'Similarity': 0.5}}}]
