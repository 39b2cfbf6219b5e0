"""The recorded answers, read by the client and by the functions of the worker that read answers."""

import json
import pickle
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.connection import ServerError
from annotation_client.tiles import (
    UPennContrastDataset,
    check_metadata,
    compare_region,
    frame_numbers,
)
from annotation_client.workers import UPennContrastWorkerPreviewClient
from fewshot import messages
from fewshot.errors import JobError
from fewshot.geometry import Location
from fewshot.images.layers import Layer, choose_layers
from fewshot.job import check_access
from fewshot.results import scores
from fewshot.results.existing import list_existing
from fewshot.results.uploads import NewAnnotations
from fewshot.server import Server
from fewshot.shares import start_shares
from tests.contract.recordings import find_exchange, give_ids, id_of, read_exchanges
from tests.fewshot.conftest import Page, pattern_of

TOKEN = 'a-token'
PLAIN, MULTI, RGB = id_of('<plain>'), id_of('<multi>'), id_of('<rgb>')
HERE = Location(0, 0, 0)


class RecordedServer:
    """A server that gives a recorded answer to each method and path, and 404 to any other call."""

    def __init__(self) -> None:
        self.exchanges: dict[tuple[str, str], dict[str, Any]] = {}
        self.bodies: list[Any] = []
        recorded = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                path = self.path.partition('?')[0].removeprefix('/api/v1')
                size = int(self.headers.get('Content-Length') or 0)
                recorded.bodies.append(self.rfile.read(size))
                exchange = recorded.exchanges.get(
                    (self.command, path), {'status': 404, 'answer': {'message': path}}
                )
                content = exchange.get('content') or json.dumps(exchange['answer']).encode()
                self.send_response(exchange['status'])
                self.send_header('Content-Type', exchange.get('type', 'application/json'))
                self.send_header('Content-Length', str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server.server_port}/api/v1'
        threading.Thread(target=self.server.serve_forever, args=[0.02], daemon=True).start()

    def play(self, chapter: str, note: str, who: str = 'owner', **changes: Any) -> Any:
        """Give this answer from now on; return it."""
        exchange = {**find_exchange(chapter, note, who), **changes}
        self.exchanges[exchange['method'], exchange['path']] = exchange
        return exchange.get('answer')

    @property
    def store(self) -> UPennContrastAnnotationClient:
        """The client of annotations for this server."""
        return UPennContrastAnnotationClient(self.url, TOKEN)

    def open(self, dataset_id: str) -> Server:
        """Return what a job on a dataset works with. It does not wait before a retry."""
        return Server(self.url, TOKEN, dataset_id, sleep=lambda seconds: None)

    def play_dataset(self, name: str) -> UPennContrastDataset:
        """Return the client of a recorded dataset."""
        items = {
            'plain': 'its items',
            'empty': 'items of a dataset without images',
            'multi': 'items of a dataset of several files: only the last is a large image',
        }
        self.play('datasets', f'a dataset ({name}) is a folder')
        self.play('datasets', items[name])
        if name != 'empty':
            self.play('datasets', f'tiles of {name}')
        return UPennContrastDataset(self.url, TOKEN, id_of(f'<{name}>'))


@pytest.fixture
def server() -> Iterator[RecordedServer]:
    """Yield a server without answers yet."""
    recorded = RecordedServer()
    yield recorded
    recorded.server.shutdown()
    recorded.server.server_close()


# The client


@pytest.mark.parametrize(('name', 'frame_count'), [('plain', 1), ('multi', 24)])
def test_dataset_is_read(server, name, frame_count):
    dataset = server.play_dataset(name)
    assert dataset.dataset['_id'] == id_of(f'<{name}.item>')
    assert len(frame_numbers(dataset.tiles)) == frame_count
    assert dataset.coordinatesToFrameIndex(0) == 0


def test_every_frame_of_multi_has_its_number(server):
    dataset = server.play_dataset('multi')
    numbers = {
        dataset.coordinatesToFrameIndex(xy, z, t, channel)
        for xy in range(2)
        for z in range(2)
        for t in range(3)
        for channel in range(2)
    }
    assert numbers == set(range(24))


def test_dataset_without_images_is_refused(server):
    with pytest.raises(ValueError, match='has no image'):
        server.play_dataset('empty')


@pytest.mark.parametrize('name', ['plain', 'multi', 'rgb', 'real'])
def test_metadata_is_accepted(name):
    check_metadata(find_exchange('datasets', f'tiles of {name}')['answer'])


EXCHANGES = read_exchanges()
ARRAYS = [
    one.record
    for one in EXCHANGES
    if one.record.get('query', {}).get('encoding') == 'pickle:5' and 'array' in one.record
]


@pytest.mark.parametrize('exchange', ARRAYS, ids=lambda one: one['note'])
def test_recorded_pixels_fit_what_was_asked(exchange):
    name = re.fullmatch(r'/item/<(\w+)\.item>/tiles/region', exchange['path'])[1]
    tiles = find_exchange('datasets', f'tiles of {name}')['answer']
    array = exchange['array']
    assert compare_region(array['shape'], array['dtype'], exchange['query'], tiles) == ''
    assert compare_region([1, 1, 7], array['dtype'], exchange['query'], tiles) != ''


def test_pixels_are_read_whatever_content_type_they_come_with(server):
    dataset = server.play_dataset('plain')
    rows, columns = np.mgrid[:48, :64]
    pixels = (100 * rows + columns).astype(np.uint16)[..., None]
    server.play('datasets', 'all pixels', content=pickle.dumps(pixels, protocol=5))
    np.testing.assert_array_equal(dataset.getRegion(), pixels)


VALUES = next(
    one.record for one in EXCHANGES if one.record['path'] == '/annotation_property_values'
)
FAILED = [one for one in EXCHANGES if one.record['status'] >= 400 and 'answer' in one.record]


@pytest.mark.parametrize('recorded', FAILED, ids=str)
def test_recorded_error_is_shown_with_status_and_message(server, recorded):
    exchange = give_ids(recorded.record)
    server.exchanges[exchange['method'], exchange['path']] = exchange
    with pytest.raises(ServerError) as caught:
        server.store.client.sendRestRequest(
            exchange['method'], exchange['path'].lstrip('/'), exchange['query']
        )
    assert caught.value.status == exchange['status']
    assert exchange['answer']['message'].rstrip('.') in str(caught.value)


def test_error_in_plain_text_is_shown(server):
    dataset = server.play_dataset('multi')
    server.play('datasets', 'a frame too many', content=b'a text that is no JSON')
    with pytest.raises(ServerError, match='status 400: a text that is no JSON'):
        dataset.getRegion(frame=24)


def test_annotations_are_read(server):
    server.play('annotations', 'limit 0')
    found = server.store.getAnnotationsByDatasetId(RGB)
    assert len({one['_id'] for one in found}) == 60


def test_created_annotations_have_ids_in_order(server):
    server.play('annotations', 'sixty at once')
    made = server.store.createMultipleAnnotations(
        find_exchange('annotations', 'sixty at once')['body']
    )
    assert [one['_id'] for one in made] == [id_of(f'<many{number}>') for number in range(1, 61)]


def test_connections_are_read(server):
    server.play('connections', 'to the nearest with a tag')
    made = server.store.connectToNearest(
        {'tags': ['cell'], 'channel': 0}, [id_of('<child1>'), id_of('<child2>')]
    )
    assert [one['childId'] for one in made] == [id_of('<child1>'), id_of('<child2>')]


def test_worker_interface_is_stored(server):
    server.play('jobs', 'by the owner')
    stored_form = UPennContrastWorkerPreviewClient(server.url, TOKEN).setWorkerImageInterface(
        'worker:latest', {}
    )
    assert stored_form['image'] == 'worker:latest'


# The worker


@pytest.mark.parametrize(
    ('note', 'who', 'level'),
    [
        ('a dataset (plain) is a folder', 'owner', 2),
        ('the same dataset, asked by reader', 'reader', 0),
    ],
)
def test_rights_are_read(server, note, who, level):
    server.play('datasets', note, who)
    opened = server.open(PLAIN)
    assert opened.access_level() == level
    if level:
        check_access(opened)
        return
    with pytest.raises(JobError, match=pattern_of(messages.READ_ONLY)):
        check_access(opened)


def test_image_is_opened(server):
    server.play_dataset('plain')
    assert server.open(PLAIN).open_image().dataset['_id'] == id_of('<plain.item>')


def test_layers_are_read(server):
    server.play('views', 'views of plain')
    server.play('views', 'configuration of plain')
    layers, problem = choose_layers(server.open(PLAIN), 1)
    assert problem is None
    assert layers == [Layer(0, (0, 1, 0), is_percentile=True, black=1, white=99.5)]


def test_dataset_without_a_view_has_default_layers(server):
    server.play('views', 'views of real')
    layers, problem = choose_layers(server.open(id_of('<real>')), 1)
    assert len(layers) == 1
    assert problem is messages.NO_VIEW


def test_newest_annotation_is_read(server):
    opened = server.open(RGB)
    server.play('annotations', 'sorted the other way')
    assert opened.newest_annotation_id() == id_of('<many60>')
    server.play('annotations', 'by a tag that nothing has')
    assert opened.newest_annotation_id() == ''


def test_polygons_and_outlines_are_read(server):
    server.play('annotations', 'limit 0')
    opened = server.open(RGB)
    assert len(list(opened.list_polygons([]))) == 60
    assert len(opened.list_polygons_with_any(['many'])) == 60
    assert len(list_existing(opened, [HERE], ['many'], []).known[HERE]) == 60


def test_annotation_without_time_has_no_outline(server):
    made = find_exchange('annotations', 'multiple, the second: location without Time')['answer']
    assert 'Time' not in made[1]['location']
    server.play('annotations', 'limit 0', answer=made)
    assert len(list_existing(server.open(PLAIN), [HERE], ['cell'], []).known[HERE]) == 1


def new_annotations(server: RecordedServer) -> NewAnnotations:
    server.play('annotations', 'by a tag that nothing has')
    annotations = NewAnnotations(server.open(RGB), ['many'])
    annotations.begin_frame()
    return annotations


def test_uploaded_annotations_have_their_ids(server):
    annotations = new_annotations(server)
    server.play('annotations', 'sixty at once')
    sent = find_exchange('annotations', 'sixty at once')['body']
    ids, refusals = annotations.send(sent)
    assert ids == [id_of(f'<many{number}>') for number in range(1, 61)]
    assert refusals == []


def test_lost_annotations_are_found(server):
    annotations = new_annotations(server)
    stored = server.play('annotations', 'limit 0')
    assert annotations.look_for(stored[:2]) == [id_of('<many1>'), id_of('<many2>')]


def test_removed_annotations_are_sent_as_recorded(server):
    server.play('annotations', 'limit 0')
    server.play('annotations', 'several removed', content=b'null')
    sent = find_exchange('annotations', 'several removed')['body']
    opened = server.open(RGB)
    assert opened.remove_polygons(set(sent), ['many']) == 0  # they have another tag too
    assert not any(server.bodies)
    assert opened.remove_polygons(set(sent), ['many', 'even']) == 2
    assert sorted(json.loads(server.bodies[-1])) == sorted(sent)


def play_scores(server: RecordedServer, level: int) -> None:
    """Let the configuration of plain name the recorded property under the worker's own name."""
    server.play('views', 'views of plain')
    configuration = find_exchange('properties', 'put into the configuration: merged')['answer']
    configuration['_accessLevel'] = level
    server.play('views', 'configuration of plain', answer=configuration)
    listed = find_exchange('properties', 'listed by owner')['answer']
    named = [{**one, 'name': scores.NAME} for one in listed]
    server.play('properties', 'listed by owner', answer=named)


@pytest.mark.parametrize('level', [0, 1, 2])
def test_property_that_a_configuration_names_is_used(server, level):
    play_scores(server, level)
    assert scores.prepare_property(server.open(PLAIN)) == id_of('<scores>')
    assert scores.find_property(server.open(PLAIN)) == id_of('<scores>')


def test_outlines_with_tags_need_no_score(server):
    play_scores(server, 2)
    server.play('annotations', 'limit 0')
    listed = give_ids(VALUES)
    (entry,) = listed['answer']
    entry['annotationId'] = id_of('<many7>')  # has a score, and a tag
    entry['values'] = {id_of('<scores>'): entry['values']['scores']}
    server.exchanges['GET', '/annotation_property_values'] = listed
    opened = server.open(RGB)
    made_ids = scores.list_made(opened)
    assert made_ids == {id_of('<many7>')}
    assert list_existing(opened, [HERE], [], [], made_ids=made_ids).known == {}


def test_property_is_created_and_named(server):
    server.play('views', 'views of plain')
    server.play('views', 'configuration of plain')
    server.play('properties', 'made')
    server.play('properties', 'put into the configuration: merged')
    assert scores.prepare_property(server.open(PLAIN)) == id_of('<scores>')
    assert json.loads(server.bodies[-1]) == {'propertyIds': [id_of('<scores>')]}


@pytest.mark.parametrize(
    ('views', 'configuration', 'who', 'reason'),
    [
        ('views of real', None, None, 'no view'),
        (
            'views, asked by reader',
            'configuration, asked by reader',
            'reader',
            'cannot change any of its configurations',
        ),
        ('views of plain', 'configuration, asked by stranger', 'stranger', 'no view'),
    ],
)
def test_no_property_is_created_that_nobody_could_see(server, views, configuration, who, reason):
    server.play('views', views, 'reader' if views.endswith('reader') else 'owner')
    if configuration:
        server.play('views', configuration, who)
    dataset_id = id_of('<real>') if views == 'views of real' else PLAIN
    with pytest.raises(scores.ScoresNotSavedError, match=reason):
        scores.prepare_property(server.open(dataset_id))
    assert not any(server.bodies)


def test_saved_scores_are_accepted_and_listed(server):
    server.play('properties', 'values')
    created = id_of('<made1>')
    opened = server.open(PLAIN)
    opened.save_scores('scores', {created: {'Similarity': 0.9, 'Predicted IoU': 0.8}})
    (sent,) = json.loads(server.bodies[-1])
    assert sent == find_exchange('properties', 'values')['body'][0]
    server.exchanges['GET', '/annotation_property_values'] = give_ids(VALUES)
    assert opened.list_scored('scores', 'Predicted IoU') == {created}
    assert opened.list_scored('scores', 'another') == set()
    assert opened.list_scored('another', 'Predicted IoU') == set()


@pytest.mark.parametrize(
    ('note', 'who', 'names', 'own'),
    [('a job', 'owner', ['My cells (2 of 2)'], 2), ('by reader', 'reader', [], 4)],
)
def test_share_is_started_or_kept(server, note, who, names, own):
    server.play('jobs', note, who)
    locations = [Location(xy, 0, 0) for xy in range(4)]
    params = find_exchange('jobs', 'a job')['body']
    page = Page()
    shares = start_shares(server.open(PLAIN), params, 2, locations, [], page.reporter())
    assert shares == (locations[:own], names)
    assert len(page.warnings) == 1
