"""The downloads and uploads of a job, and their order: jobs in this process, without a model."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import requests

import entrypoint
from annotation_client.connection import Patience, keep_alive_session
from annotation_client.tiles import UPennContrastDataset
from fewshot.errors import JobError
from fewshot.server import Server
from tests.datasets import make_layer, write_dataset
from tests.end_to_end.stand_in import load_bright_segmenter
from tests.end_to_end.test_job import RADIUS, SETTINGS, Lab, locations_of, tag_disc
from tests.small_model import CENTRES, SIDE, draw_discs
from tests.worker import REPOSITORY, make_params

FRAMES = 4


@pytest.fixture
def lab(start_server, tmp_path, monkeypatch) -> Lab:
    """Four positions of two visible channels, an example in the second and one in the fourth."""
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))
    image = np.zeros((FRAMES, 1, 1, 2, SIDE, SIDE), np.uint16)
    image[:, 0, 0, 0] = draw_discs(CENTRES, RADIUS)[0]
    write_dataset(tmp_path, 'cells', image, [make_layer(0, '#FFFFFF'), make_layer(1, '#FF0000')])
    lab = Lab(start_server(tmp_path))
    lab.annotate(tag_disc(lab.id, CENTRES[0], (1, 0, 0)), tag_disc(lab.id, CENTRES[1], (3, 0, 0)))
    return lab


@pytest.fixture
def patience() -> Patience:
    """Return a patience that equals no other, so that this test has its own session."""
    return Patience(sleep=lambda seconds: time.sleep(seconds))


class Exchange(NamedTuple):
    """A request that was answered, and the thread that made it."""

    method: str
    url: str
    thread: threading.Thread


@contextmanager
def watch(patience: Patience) -> Iterator[list[Exchange]]:
    """Note the requests of the clients with this patience."""
    seen: list[Exchange] = []

    def note(response: requests.Response, **_: Any) -> None:
        method, thread = str(response.request.method), threading.current_thread()
        seen.append(Exchange(method, response.url, thread))

    hooks = keep_alive_session(patience).hooks['response']
    hooks.append(note)
    yield seen
    hooks.remove(note)


def run(lab: Lab, make_server: Callable[..., Server] = Server) -> None:
    params = {**make_params(**{**SETTINGS, 'Batch XY': 'all'}), 'tags': ['found']}
    entrypoint.compute(
        lab.id,
        lab.server.apiUrl,
        lab.server.token,
        params,
        load_segmenter=load_bright_segmenter,
        make_server=make_server,
    )


def test_each_channel_of_a_frame_is_downloaded_once_on_one_connection(lab, patience):
    with watch(patience) as seen:
        run(lab, partial(Server, patience=patience))
    numbers = [re.search(r'tiles/region.*frame=(\d+)', exchange.url) for exchange in seen]
    downloads = Counter(int(number[1]) for number in numbers if number)
    assert downloads == dict.fromkeys(range(2 * FRAMES), 1)
    pools = keep_alive_session(patience).get_adapter(lab.server.apiUrl).poolmanager.pools
    places = pools.keys()  # the pools themselves cannot be iterated
    assert [pools[place].num_connections for place in places] == [1]
    made = locations_of(lab.annotations('found'))
    assert made == {(xy, 0, 0): len(CENTRES) for xy in range(FRAMES)}


def test_frames_and_annotations_are_sent_in_the_background(lab, patience):
    with watch(patience) as seen:
        run(lab, partial(Server, patience=patience))
    paths = 'tiles/region', 'multiple'
    threads = [one.thread for one in seen if any(path in one.url for path in paths)]
    # Two channels, annotations and their scores per frame, and the scores of the examples, which
    # are saved before the search.
    assert len(threads) == 4 * FRAMES + 1
    assert threading.main_thread() not in threads


def read_alarms(capsys) -> list[dict]:
    """Return the warnings and errors that the page was told."""
    messages = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [message for message in messages if 'warning' in message or 'error' in message]


class RefusingServer(Server):
    """A server to which the objects of the second frame cannot be sent."""

    def create_annotations(self, batch: Sequence[Mapping]) -> list[str]:
        """Create annotations, except for the second frame."""
        if batch[0]['location']['XY'] == 1:
            raise ConnectionError('the line is cut')
        return super().create_annotations(batch)


def test_failed_upload_costs_no_other_frame(lab, capsys):
    with pytest.raises(JobError, match='1 of 4 frames failed'):
        run(lab, RefusingServer)
    warning, error = read_alarms(capsys)
    made = lab.annotations('found')
    assert warning['warning'].startswith('XY 2, Z 1, Time 1 failed.')
    assert 'the line is cut' in warning['info']
    assert f'On the server: {len(made)} objects; 3 frames complete.' in error['info']
    assert 'Start the job again with Batch XY: 2, Batch Z: 1, Batch Time: 1.' in error['info']
    assert set(locations_of(made)) == {(0, 0, 0), (2, 0, 0), (3, 0, 0)}


class TornImage(UPennContrastDataset):
    """An image whose third frame cannot be read."""

    def getRegion(self, datasetId: str | None = None, **region: Any) -> np.ndarray:
        """Return pixels, except for the third frame."""
        if region['frame'] == self.coordinatesToFrameIndex(2):
            raise OSError('the tile is torn')
        return super().getRegion(datasetId, **region)


class TornServer(Server):
    """A server with such an image."""

    def open_image(self) -> TornImage:
        """Return the image."""
        return TornImage(self.api_url, self.token, self.dataset_id)


def test_failed_download_costs_no_other_frame(lab, capsys):
    with pytest.raises(JobError, match='1 of 4 frames failed'):
        run(lab, TornServer)
    warning, error = read_alarms(capsys)
    assert warning['warning'].startswith('XY 3, Z 1, Time 1 failed.')
    assert 'the tile is torn' in warning['info']
    assert 'Batch XY: 3, Batch Z: 1, Batch Time: 1' in error['info']
    made = locations_of(lab.annotations('found'))
    assert set(made) == {(0, 0, 0), (1, 0, 0), (3, 0, 0)}
