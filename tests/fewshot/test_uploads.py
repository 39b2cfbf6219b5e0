"""Annotations on their way, to a real server that loses answers; a stand-in where thousands would only take time."""
import json
from dataclasses import replace
from itertools import chain, cycle
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_client import connection
from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.connection import ServerError
from fewshot import retry
from fewshot.candidates import Candidate
from fewshot.crops import Box
from fewshot.duplicates import Found
from fewshot.job import Job
from fewshot.masks import pack_mask
from fewshot.page import Page
from fewshot.parameters import Location
from fewshot.retry import repeat
from fewshot.uploads import (
    MOST_REFUSED,
    ROUNDS,
    Uploads,
    content_of,
    find_newest,
    upload_frame,
)
from tests.datasets import write_dataset

HERE = Location(0, 0, 0)
MULTIPLE = {'method': 'POST', 'path': 'upenn_annotation/multiple'}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch) -> None:
    """What is waited for in the field is not waited for here."""
    monkeypatch.setattr(retry, 'PAUSES_SECONDS', (0, 0.01, 0.02))
    monkeypatch.setattr(connection.RETRY, 'backoff_factor', 0.02)


@pytest.fixture
def serve(start_server, tmp_path):
    """A function that starts a server with faults and gives a client, a dataset's id and its Uploads."""
    write_dataset(tmp_path, 'cells', np.zeros((8, 8), np.uint8))

    def start(*faults: dict) -> SimpleNamespace:
        server = start_server(tmp_path, '--faults', json.dumps(faults))
        store, datasetId = UPennContrastAnnotationClient(server.apiUrl, server.token), server.datasets['cells']
        sending = Uploads(store, datasetId, ['cell'])
        sending.begin_frame()
        return SimpleNamespace(store=store, id=datasetId, uploads=sending, client=server.client)
    return start


def triangles(datasetId: str, *lefts: float, **changes: Any) -> list[dict]:
    return [{'coordinates': [{'x': left, 'y': 1.5}, {'x': left + 5, 'y': 1}, {'x': left, 'y': 9}], 'tags': ['cell'],
             'channel': 0, 'location': {'XY': 0, 'Z': 0, 'Time': 0}, 'shape': 'polygon', 'datasetId': datasetId,
             **changes} for left in lefts]


def stored(lab: SimpleNamespace) -> list[float]:
    """The left ends of the triangles on the server."""
    return [one['coordinates'][0]['x'] for one in lab.client.get(
        'upenn_annotation', parameters={'datasetId': lab.id, 'limit': 0})]


@pytest.mark.parametrize('fault', [
    {'kind': 'lose', **MULTIPLE}, {'kind': 'cut', **MULTIPLE}, {'kind': 'refuse', **MULTIPLE},
    {'kind': 'truncate', **MULTIPLE}, {'kind': 'unavailable', **MULTIPLE}, {'kind': 'busy', 'seconds': 0, **MULTIPLE},
    {'kind': 'restart', **MULTIPLE}, {'kind': 'lose', 'times': 3, **MULTIPLE},
    {'kind': 'refuse', 'times': 4, **MULTIPLE},
])
def test_a_batch_is_there_once_and_its_ids_are_right_whatever_became_of_the_request(serve, fault):
    lab = serve(fault)
    ids, refusals = lab.uploads.send(triangles(lab.id, 10, 20.25, 30))
    assert refusals == [] and stored(lab) == [10, 20.25, 30]
    found = lab.client.get('upenn_annotation', parameters={'datasetId': lab.id, 'limit': 0})
    assert ids == [one['_id'] for one in found]


def test_the_same_outlines_from_before_or_from_this_job_are_not_taken_for_a_lost_batch(serve):
    lab = serve({'kind': 'refuse', **MULTIPLE, 'after': 2})
    lab.client.post('upenn_annotation/multiple', json=triangles(lab.id, 10, 20))  # from an earlier run
    sending = Uploads(lab.store, lab.id, ['cell'])
    sending.begin_frame()
    first, _ = sending.send(triangles(lab.id, 10, 20))
    second, _ = sending.send(triangles(lab.id, 10, 20))  # this request is the one that gets lost
    assert len({*first, *second}) == 4 and stored(lab) == [10, 20] * 3


def test_lost_batches_of_later_frames_are_found_too(serve):
    lab = serve({'kind': 'lose', **MULTIPLE, 'after': 3, 'times': 2})
    for number in range(6):
        lab.uploads.begin_frame()
        ids, _ = lab.uploads.send(triangles(lab.id, number, number + 50))
        assert all(ids)
    assert stored(lab) == [left for number in range(6) for left in (number, number + 50)]
    assert lab.uploads.cursor == lab.client.get('upenn_annotation', parameters={
        'datasetId': lab.id, 'limit': 0})[7]['_id']  # the last of the fourth frame: a frame before this one


def test_a_server_that_never_answers_is_an_error_and_nothing_is_twice(serve):
    lab = serve({'kind': 'unavailable', **MULTIPLE, 'times': None})
    with pytest.raises(ServerError, match='status 503'):
        lab.uploads.send(triangles(lab.id, 10))
    assert stored(lab) == []


def test_what_a_server_refuses_is_found_and_left_out_alone(serve):
    lab = serve()
    bad = triangles(lab.id, 99, channel=None)
    ids, refusals = lab.uploads.send([*triangles(lab.id, 1, 2, 3, 4), *bad, *triangles(lab.id, 5, 6), *bad])
    assert [bool(one) for one in ids] == [True] * 4 + [False] + [True] * 2 + [False]
    assert stored(lab) == [1, 2, 3, 4, 5, 6]
    assert len(refusals) == 2 and all('status 400' in str(error) and 'channel' in str(error) for error in refusals)


def test_a_body_that_is_too_large_is_halved(serve):
    lab = serve({'kind': 'too large', 'bytes': 1000, **MULTIPLE})
    ids, refusals = lab.uploads.send(triangles(lab.id, *range(20)))
    assert all(ids) and not refusals and stored(lab) == list(range(20))


def test_when_everything_is_refused_the_fault_is_not_the_annotations(serve):
    lab = serve()
    with pytest.raises(ServerError, match='status 400'):
        lab.uploads.send(triangles(lab.id, *range(200), tags=None))
    assert stored(lab) == []
    requests: list = []

    def refuse(batch):
        requests.append(len(batch))
        raise error_of(400)

    lab.uploads.store = Mock(createMultipleAnnotations=Mock(side_effect=refuse))
    with pytest.raises(ServerError):
        lab.uploads.send(triangles(lab.id, *range(1000)))
    assert requests.count(1) == MOST_REFUSED + 1 and len(requests) < 60


def error_of(status: int | None) -> ServerError:
    answer = SimpleNamespace(status_code=status, text='') if status else None
    return ServerError(f'status {status}', 'POST', 'http://a', answer)  # type: ignore[arg-type]


@pytest.mark.parametrize('status', [401, 403, 500])
def test_what_will_not_get_better_is_not_tried_again(status):
    store = Mock(createMultipleAnnotations=Mock(side_effect=error_of(status)))
    store.client.get.return_value = []
    sending = Uploads(store, 'd', ['cell'])
    sending.begin_frame()
    with pytest.raises(ServerError):
        sending.send(triangles('d', 1, 2))
    assert store.createMultipleAnnotations.call_count == 1


def test_the_newest_annotation_is_where_a_job_begins(serve):
    lab = serve()
    assert find_newest(lab.store, lab.id) == ''
    made = lab.client.post('upenn_annotation/multiple', json=triangles(lab.id, *range(7)))
    assert find_newest(lab.store, lab.id) == made[-1]['_id']


def test_a_call_that_may_be_carried_out_twice_is_repeated_until_it_gets_through():
    call = Mock(side_effect=[error_of(None), error_of(503), 'done'])
    assert repeat(call) == 'done' and call.call_count == 3
    with pytest.raises(ServerError):
        repeat(Mock(side_effect=error_of(None)))
    refused = Mock(side_effect=error_of(403))
    with pytest.raises(ServerError):
        repeat(refused)
    assert refused.call_count == 1


# Batches, without a server


def sending_to(create: Any, *pages: list[dict]) -> Uploads:
    """Uploads to a store that answers a batch by `create` and lists these pages, then nothing."""
    store = Mock(createMultipleAnnotations=Mock(side_effect=create))
    store.client.get.side_effect = chain([[{'_id': 'a'}]], pages, cycle([[]]))
    sending = Uploads(store, 'd', ['cell'])
    sending.begin_frame()
    return sending


def test_empty_batch_is_not_sent():
    sending = sending_to(error_of(500))
    assert sending.send([]) == ([], [])
    assert not sending.store.createMultipleAnnotations.called


@given(st.integers(1, 40), st.sets(st.integers(0, 39), max_size=MOST_REFUSED))
def test_only_refused_annotations_are_left_out(count, bad):
    def create(batch):
        lefts = [one['coordinates'][0]['x'] for one in batch]
        if bad & {*lefts}:
            raise error_of(413)
        return [{'_id': str(left)} for left in lefts]

    sending = sending_to(create)
    ids, refusals = sending.send(triangles('d', *range(count)))
    assert ids == [None if left in bad else str(left) for left in range(count)]
    assert len(refusals) == ids.count(None)
    assert sending.made == [[id for id in ids if id]]


def test_lost_annotations_are_found_by_their_content():
    here = [{**one, '_id': id} for one, id in zip(triangles('d', 2, 9, 2, 3), 'bcde', strict=True)]
    batch = triangles('d', 1, 2, 2, 3)
    assert sending_to(None, here).look_for(batch) == [None, 'b', 'd', 'e']
    sending = sending_to(None, here)
    sending.made = [['b'], ['d']]  # of this job
    assert sending.look_for(batch) == [None, None, None, 'e']


def test_lost_annotations_are_looked_for_until_they_arrive():
    sending = sending_to(None, [], [{**triangles('d', 1)[0], '_id': 'b'}])
    assert sending.look_for(triangles('d', 1)) == ['b']
    asked = [call.kwargs['parameters'] for call in sending.store.client.get.call_args_list[1:]]
    seen = [(one['datasetId'], one['tags'], one['afterId']) for one in asked]
    assert seen == [('d', '["cell"]', 'a')] * 2
    assert sending_to(None).look_for(triangles('d', 1, 2)) == [None, None]


@pytest.mark.parametrize('status', retry.LOST_STATUSES)
def test_batch_that_never_arrives_is_sent_a_few_times(status):
    sending = sending_to(error_of(status))
    with pytest.raises(ServerError, match=f'status {status}'):
        sending.send(triangles('d', 1))
    assert sending.store.createMultipleAnnotations.call_count == ROUNDS
    assert sending.made == [[]]


def test_lost_batch_that_is_found_is_not_sent_again():
    sending = sending_to(error_of(None), [{**triangles('d', 1)[0], '_id': 'b'}])
    assert sending.send(triangles('d', 1)) == (['b'], [])
    assert sending.store.createMultipleAnnotations.call_count == 1
    assert sending.made == [['b']]


@pytest.mark.parametrize('change', [
    {'channel': 1},
    {'tags': []},
    {'tags': ['cell', 'b']},
    {'location': {'XY': 1, 'Z': 0, 'Time': 0}},
    {'location': {'XY': 0, 'Z': 1, 'Time': 0}},
    {'location': {'XY': 0, 'Z': 0, 'Time': 1}},
    {'coordinates': triangles('d', 2)[0]['coordinates']},
    {'coordinates': triangles('d', 1)[0]['coordinates'][:2]},
    {'coordinates': [{'x': 1, 'y': 1.25}, *triangles('d', 1)[0]['coordinates'][1:]]},
])
def test_annotations_that_differ_have_different_contents(change):
    original, = triangles('d', 1)
    assert content_of({**original, **change}) != content_of(original)


def test_content_ignores_what_the_server_adds_and_the_order_of_tags():
    original, = triangles('d', 1, tags=['cell', 'b'])
    added = {'_id': 'x', 'color': None, 'tags': ['b', 'cell'], 'name': None}
    assert content_of({**original, **added}) == content_of(original)


# Frames


def keep(count: int) -> list[Found]:
    """So many candidates of 2 × 2 pixels, each in a place of its own."""
    mask = pack_mask(np.ones((2, 2), bool))
    return [Found(Candidate(Box(0, 3 * number, 2, 3 * number + 2), mask, 4, 0.9, 0.9), 0.8) for number in range(count)]


def stand_in() -> Mock:
    """A client of annotations that accepts everything."""
    numbers = iter(range(10_000))
    store = Mock()
    store.client.get.return_value = []
    store.createMultipleAnnotations.side_effect = lambda records: [{'_id': str(next(numbers))} for _ in records]
    return store


def upload_found(
    store: Any, found: list[Found], job: Job, location: Location = HERE, known: Any = (),
    propertyId: str | None = None, connect_to: dict | None = None, skip_duplicates: bool = True,
) -> int:
    parameters: Any = SimpleNamespace(smoothing=0, tags=('cell',), channel=0,
                                      connect_to=connect_to, skip_duplicates=skip_duplicates)
    uploads = Uploads(store, 'd', ['cell'])
    return upload_frame(uploads, location, found, known, propertyId, parameters, job)


def upload(
    store: Any, count: int, connect_to: dict | None = None, propertyId: str | None = None
) -> tuple[Job, Mock]:
    warned = Mock()
    job = Job(Page(Mock(), warned))
    sent = upload_found(store, keep(count), job, propertyId=propertyId, connect_to=connect_to)
    assert sent == job.tally.uploaded
    return job, warned


def test_duplicates_and_known_objects_are_counted_and_not_sent():
    store, job = stand_in(), Job(Page(Mock(), Mock()))
    found = keep(3)
    worse, better = replace(found[0], similarity=0.7), replace(found[1], similarity=0.9)
    found = [worse, better, found[2], found[0]]
    known = np.array([(6, 0), (8, 0), (8, 2), (6, 2)])  # the third
    place = Location(1, 2, 3)
    job.begin([HERE, place])
    for here in (HERE, place):
        assert upload_found(store, found, job, here, [known]) == 2
    made, = store.createMultipleAnnotations.call_args.args
    assert [one['coordinates'][0]['x'] // 3 for one in made] == [1, 0]
    assert [one['location'] for one in made] == [{'XY': 1, 'Z': 2, 'Time': 3}] * 2
    assert [one['datasetId'] for one in made] == ['d'] * 2
    tally = job.tally
    assert (tally.doubles, tally.known, tally.uploaded, tally.frames) == (2, 2, 4, 2)
    assert (tally.lowest_uploaded, tally.highest_uploaded) == (0.8, 0.9)
    assert job.outcomes.done == {HERE, place}


def test_duplicates_of_a_tile_are_sent_where_the_user_keeps_them():
    store, job = stand_in(), Job(Page(Mock(), Mock()))
    assert upload_found(store, keep(2) + keep(1), job, skip_duplicates=False) == 3
    assert job.tally.doubles == 0


def test_scores_and_connections_are_those_of_the_objects_that_were_accepted():
    store, warned = stand_in(), Mock()
    accept = store.createMultipleAnnotations.side_effect

    def refuse_the_second(batch):
        if any(one['coordinates'][0]['x'] // 3 == 1 for one in batch):
            raise error_of(400)
        return accept(batch)

    store.createMultipleAnnotations.side_effect = refuse_the_second
    similarities = [0.8, 0.7, 0.6]
    found = [replace(one, similarity=similarity)
             for one, similarity in zip(keep(3), similarities, strict=True)]
    connection = {'tags': ['nucleus'], 'channel': None}
    job = Job(Page(Mock(), warned))
    sent = upload_found(store, found, job, propertyId='p', connect_to=connection)
    entries, = store.addMultipleAnnotationPropertyValues.call_args.args
    assert sent == 2
    assert [(one['datasetId'], one['annotationId'], one['values']['p']['Similarity'])
            for one in entries] == [('d', '0', 0.8), ('d', '1', 0.6)]
    store.connectToNearest.assert_called_once_with(connection, ['0', '1'])
    warning, = warned.call_args_list
    assert 'XY 1, Z 1, Time 1' in warning.args[0] and 'status 400' in warning.kwargs['info']


def test_no_scores_and_connections_where_all_objects_were_refused():
    store = stand_in()
    store.createMultipleAnnotations.side_effect = error_of(400)
    connection = {'tags': ['nucleus'], 'channel': None}
    assert upload(store, 2, connection, 'p')[0].tally.uploaded == 0
    assert not store.addMultipleAnnotationPropertyValues.called
    assert not store.connectToNearest.called


def test_annotations_are_sent_by_the_thousand():
    store = stand_in()
    assert upload(store, 2500)[0].tally.uploaded == 2500
    assert [len(call.args[0]) for call in store.createMultipleAnnotations.call_args_list] == [1000, 1000, 500]
    store.connectToNearest.assert_not_called()


def test_nothing_is_sent_when_nothing_was_kept():
    store = stand_in()
    job, _ = upload(store, 0, {'tags': ['nucleus'], 'channel': None}, 'property')
    assert job.tally.uploaded == 0 and job.tally.frames == 1
    assert not store.createMultipleAnnotations.called and not store.connectToNearest.called
    assert not store.addMultipleAnnotationPropertyValues.called


def test_every_batch_is_connected_where_the_job_says_so():
    store, connection = stand_in(), {'tags': ['nucleus'], 'channel': None}
    upload(store, 1200, connection)
    assert [len(call.args[1]) for call in store.connectToNearest.call_args_list] == [1000, 200]
    assert all(call.args[0] == connection for call in store.connectToNearest.call_args_list)


def test_outlines_count_though_their_scores_and_connections_are_refused():
    store = stand_in()
    store.addMultipleAnnotationPropertyValues.side_effect = error_of(500)
    store.connectToNearest.side_effect = error_of(None)
    job, warned = upload(store, 3, {'tags': ['nucleus'], 'channel': None}, 'property')
    assert job.tally.uploaded == 3 and job.tally.frames == 1
    assert [call.args[0] for call in warned.call_args_list] == [
        'Scores were not saved at XY 1, Z 1, Time 1', 'Objects were not connected at XY 1, Z 1, Time 1']
    assert ['status' in call.kwargs['info'] for call in warned.call_args_list] == [True, True]
    assert store.connectToNearest.call_count == 1  # what was carried out once would be there twice


def test_an_expired_login_ends_the_upload_of_scores_too():
    store = stand_in()
    store.addMultipleAnnotationPropertyValues.side_effect = error_of(401)
    with pytest.raises(ServerError):
        upload(store, 3, propertyId='property')
