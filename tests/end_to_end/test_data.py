"""What a job fetches and sends, and when. The jobs run in this process, so that its connection can be watched."""
import json
import re
import threading
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest

import entrypoint
from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.connection import DEFAULT_PATIENCE, keep_alive_session
from tests.datasets import make_layer, write_dataset
from tests.end_to_end.test_job import RADIUS, SETTINGS, Lab, locations_of, tag_disc
from tests.small_model import CENTRES, draw_discs
from tests.worker import REPOSITORY, make_params

FRAMES = 4


@pytest.fixture
def lab(start_server, tmp_path, monkeypatch) -> Lab:
    """Four positions of two visible channels, an example in the second and one in the fourth."""
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))
    image = np.zeros((FRAMES, 1, 1, 2, 128, 128), np.uint16)
    image[:, 0, 0, 0] = draw_discs(CENTRES, RADIUS)[0]
    write_dataset(tmp_path, 'cells', image, [make_layer(0, '#FFFFFF'), make_layer(1, '#FF0000')])
    lab = Lab(start_server(tmp_path))
    lab.annotate(tag_disc(lab.id, CENTRES[0], (1, 0, 0)), tag_disc(lab.id, CENTRES[1], (3, 0, 0)))
    return lab


@contextmanager
def watch():
    """The requests of this process by method and address, each with the answer's thread."""
    seen = []
    session = keep_alive_session(DEFAULT_PATIENCE)

    def note(response, **options):
        seen.append((response.request.method, response.url, threading.current_thread()))

    session.hooks['response'].append(note)
    try:
        yield seen
    finally:
        session.hooks['response'].remove(note)


def run(lab: Lab, **changes) -> None:
    params = {**make_params(**{**SETTINGS, 'Batch XY': 'all'}, **changes), 'tags': ['found']}
    entrypoint.compute(lab.id, lab.server.apiUrl, lab.server.token, params)


def test_each_channel_of_each_location_is_fetched_once_a_job_over_one_connection(lab):
    keep_alive_session.cache_clear()
    with watch() as seen:
        run(lab)
    fetched = Counter(re.search(r'frame=(\d+)', url)[1] for _, url, _ in seen if 'tiles/region' in url)
    assert fetched == {str(number): 1 for number in range(2 * FRAMES)}
    pools = keep_alive_session(DEFAULT_PATIENCE).get_adapter(lab.server.apiUrl).poolmanager.pools
    assert [pools[place].num_connections for place in pools.keys()] == [1]  # noqa: SIM118 - no dict, cannot be iterated
    assert set(locations_of(lab.annotations('found'))) == {(xy, 0, 0) for xy in range(FRAMES)}


def test_frames_come_and_annotations_go_while_the_model_works(lab):
    with watch() as seen:
        run(lab)
    data = [thread for _, url, thread in seen if 'tiles/region' in url or 'multiple' in url]
    assert len(data) == 4 * FRAMES  # two channels, annotations and their scores
    assert threading.main_thread() not in data


def read_alarms(capsys) -> list[dict]:
    """The warnings and errors that the page was told."""
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [one for one in said if 'warning' in one or 'error' in one]


def test_an_upload_that_fails_costs_its_frame_and_no_other(lab, monkeypatch, capsys):
    create = UPennContrastAnnotationClient.createMultipleAnnotations

    def refuse_the_second_frame(store, records):
        if records[0]['location']['XY'] == 1:
            raise ConnectionError('the line is cut')
        return create(store, records)

    monkeypatch.setattr(UPennContrastAnnotationClient, 'createMultipleAnnotations', refuse_the_second_frame)
    with pytest.raises(RuntimeError, match='1 of 4 frames failed'):
        run(lab)
    warning, error = read_alarms(capsys)
    made = lab.annotations('found')
    assert 'the line is cut' in warning['info'] and 'uploading the objects of XY 2, Z 1, Time 1' in warning['info']
    assert f'On the server: {len(made)} objects; 3 frames complete.' in error['info']
    assert 'Start the job again with Batch XY: 2, Batch Z: 1, Batch Time: 1.' in error['info']
    assert set(locations_of(made)) == {(0, 0, 0), (2, 0, 0), (3, 0, 0)}


def test_a_frame_that_cannot_be_loaded_costs_no_other(lab, monkeypatch, capsys):
    def fail(dataset, datasetId, layers, location, tile):
        if location.xy == 2:
            raise OSError('the tile is torn')
        return load(dataset, datasetId, layers, location, tile)

    from fewshot import frames
    load = frames.load_frame
    monkeypatch.setattr(frames, 'load_frame', fail)
    with pytest.raises(RuntimeError, match='1 of 4 frames failed'):
        run(lab)
    warning, error = read_alarms(capsys)
    assert 'the tile is torn' in warning['info'] and 'loading the image of XY 3, Z 1, Time 1' in warning['info']
    assert 'Batch XY: 3, Batch Z: 1, Batch Time: 1' in error['info']
    assert set(locations_of(lab.annotations('found'))) == {(0, 0, 0), (1, 0, 0), (3, 0, 0)}
