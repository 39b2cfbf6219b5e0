"""New annotations, sent to a real server that loses requests and answers.

A server that only records is used where thousands of annotations would take long.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from girder_client import HttpError

from annotation_client.connection import ServerError
from fewshot import messages
from fewshot.geometry import Box
from fewshot.matching.duplicates import Found
from fewshot.reporting.state import Counts
from fewshot.results.uploads import (
    ANNOTATIONS_PER_REQUEST,
    MAX_REFUSED,
    MAX_REQUESTS_PER_BATCH,
    NOT_SAVED_REASON,
    NewAnnotations,
    Uploader,
    UploadOptions,
    UploadResult,
    content_of,
)
from fewshot.sam.candidates import Candidate, pack_mask
from fewshot.server import RETRY_PAUSES_SECONDS, Server
from tests.fewshot.conftest import HERE, Lab, Page, http_error, make_triangle
from tests.worker import NOWHERE

CREATE = {'method': 'POST', 'path': 'upenn_annotation/multiple'}
LOOK_ONCE = list(RETRY_PAUSES_SECONDS[:1])
LOOK_FULLY = list(RETRY_PAUSES_SECONDS)


def new_annotations(lab: Lab) -> NewAnnotations:
    """Return the annotations of a job that has begun its first frame."""
    annotations = NewAnnotations(lab.server(), ['cell'])
    annotations.begin_frame()
    return annotations


def triangles(*lefts: float, **changes: Any) -> list[dict[str, Any]]:
    return [make_triangle('d', left, **changes) for left in lefts]


class RecordingServer(Server):
    """A server that accepts everything, or does what `refuse` says."""

    def __init__(self, refuse: Mapping[str, Callable[..., None]] | None = None) -> None:
        super().__init__(NOWHERE, 'token', 'd', sleep=lambda seconds: None)
        self.refuse = refuse or {}
        self.created: list[int] = []  # annotations per request
        self.scored: list[Mapping] = []
        self.connected: list[tuple[Mapping, int]] = []
        self.removed: list[tuple[set[str], list[str]]] = []

    def answer(self, request: str, *arguments: Any) -> None:
        """Raise what this request is to be answered with."""
        if request in self.refuse:
            self.refuse[request](*arguments)

    def newest_annotation_id(self) -> str:
        """Return the cursor of an empty dataset."""
        return ''

    def list_polygons(self, tags: Sequence[str], after: str = '') -> Iterator[Any]:
        """Yield nothing."""
        yield from ()

    def create_annotations(self, batch: Sequence[Mapping]) -> list[str]:
        """Return new ids."""
        self.created.append(len(batch))
        self.answer('create', batch)
        return [f'{sum(self.created)}.{number}' for number in range(len(batch))]

    def save_scores(self, property_id: str, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Note the scores."""
        self.scored.append(scores)
        self.answer('score')

    def connect(self, connect_to: Mapping, annotation_ids: Sequence[str]) -> None:
        """Note the connections."""
        self.connected.append((connect_to, len(annotation_ids)))
        self.answer('connect')

    def remove_polygons(self, ids: Collection[str], tags: Sequence[str]) -> int:
        """Note what is removed."""
        self.removed.append((set(ids), list(tags)))
        self.answer('remove')
        return len(ids)


def refuse_with(status: int | None) -> Callable[..., None]:
    def refuse(*_: Any) -> None:
        raise http_error(status)

    return refuse


# Requests and answers that are lost


@pytest.mark.parametrize(
    ('fault', 'pauses'),
    [
        ({'kind': 'lose'}, LOOK_ONCE),
        ({'kind': 'cut'}, LOOK_ONCE),
        ({'kind': 'truncate'}, LOOK_ONCE),
        ({'kind': 'lose', 'times': 3}, LOOK_ONCE),
        ({'kind': 'refuse'}, LOOK_FULLY),
        ({'kind': 'unavailable'}, LOOK_FULLY),
        ({'kind': 'busy'}, LOOK_FULLY),
        ({'kind': 'restart'}, LOOK_FULLY),
        ({'kind': 'refuse', 'times': 4}, LOOK_FULLY * 4),
    ],
    ids=str,
)
def test_batch_is_created_once(start_lab, fault, pauses):
    lab = start_lab({**fault, **CREATE})
    ids, refusals = new_annotations(lab).send(lab.make_triangles(10, 20.25, 30))
    assert refusals == []
    assert lab.list_lefts() == [10, 20.25, 30]
    assert ids == [one['_id'] for one in lab.list_annotations()]
    assert lab.pauses == pauses


def test_equal_annotations_are_not_taken_for_lost_ones(start_lab):
    lab = start_lab({'kind': 'refuse', **CREATE, 'occurrence': 3})
    lab.create(*lab.make_triangles(10, 20))  # of an earlier job
    annotations = new_annotations(lab)
    first, _ = annotations.send(lab.make_triangles(10, 20))
    second, _ = annotations.send(lab.make_triangles(10, 20))  # this request is lost
    assert len({*first, *second}) == 4
    assert lab.list_lefts() == [10, 20] * 3


def test_lost_batches_of_later_frames_are_found(start_lab):
    lab = start_lab({'kind': 'lose', **CREATE, 'occurrence': 4, 'times': 2})
    annotations = new_annotations(lab)
    created = []
    for number in range(6):
        annotations.begin_frame()
        ids, _ = annotations.send(lab.make_triangles(number, number + 50))
        created += ids
    assert [one['_id'] for one in lab.list_annotations()] == created
    assert annotations.cursor == created[7]  # a search begins one frame before this one


def test_server_that_never_answers_is_an_error(start_lab):
    lab = start_lab({'kind': 'unavailable', **CREATE, 'times': None})
    with pytest.raises(ServerError, match='status 503'):
        new_annotations(lab).send(lab.make_triangles(10))
    assert lab.list_lefts() == []
    assert lab.pauses == LOOK_FULLY * MAX_REQUESTS_PER_BATCH


def test_nothing_is_sent_for_no_annotations():
    server = RecordingServer()
    assert NewAnnotations(server, ['cell']).send([]) == ([], [])
    assert server.created == []


# Annotations that are refused


def test_refused_annotations_are_left_out(lab):
    bad = lab.make_triangles(99, channel=None)
    batch = [*lab.make_triangles(1, 2, 3, 4), *bad, *lab.make_triangles(5, 6), *bad]
    ids, refusals = new_annotations(lab).send(batch)
    assert [one is not None for one in ids] == [True] * 4 + [False] + [True] * 2 + [False]
    assert lab.list_lefts() == [1, 2, 3, 4, 5, 6]
    assert len(refusals) == 2
    assert all('status 400' in str(error) and 'channel' in str(error) for error in refusals)


def test_too_large_batch_is_halved(start_lab):
    lab = start_lab({'kind': 'too large', 'bytes': 1000, **CREATE})
    ids, refusals = new_annotations(lab).send(lab.make_triangles(*range(20)))
    assert refusals == []
    assert ids == [one['_id'] for one in lab.list_annotations()]
    assert lab.list_lefts() == list(range(20))


def test_too_many_refusals_are_an_error(lab):
    with pytest.raises(ServerError, match='status 400'):
        new_annotations(lab).send(lab.make_triangles(*range(200), tags=None))
    assert lab.list_lefts() == []


def test_too_many_refusals_end_the_search():
    server = RecordingServer({'create': refuse_with(400)})
    annotations = NewAnnotations(server, ['cell'])
    annotations.begin_frame()
    with pytest.raises(HttpError):
        annotations.send(triangles(*range(1000)))
    assert server.created.count(1) == MAX_REFUSED + 1
    assert len(server.created) < 60


@pytest.mark.parametrize('status', [401, 403, 404, 500])
def test_other_refusals_are_raised_at_once(status):
    server = RecordingServer({'create': refuse_with(status)})
    annotations = NewAnnotations(server, ['cell'])
    annotations.begin_frame()
    with pytest.raises(HttpError):
        annotations.send(triangles(1, 2))
    assert server.created == [2]


@pytest.mark.parametrize(
    ('changes', 'is_same'),
    [
        ({'_id': 'a', 'datasetId': 'e'}, True),
        ({'tags': ['b', 'a']}, True),
        ({'tags': ['a']}, False),
        ({'channel': 1}, False),
        ({'location': {'XY': 0, 'Z': 1, 'Time': 0}}, False),
        ({'location': {'XY': 0, 'Z': 0}}, False),
        ({'coordinates': [{'x': 1, 'y': 1}]}, False),
    ],
)
def test_annotations_are_compared(changes, is_same):
    one = make_triangle('d', 1, tags=['a', 'b'])
    assert (content_of({**one, **changes}) == content_of(one)) == is_same


# The objects of a frame


def find_squares(count: int) -> list[Found]:
    """Return objects of 2 x 2 pixels side by side."""
    bits = pack_mask(np.ones((2, 2), bool))
    boxes = [Box(0, 3 * number, 2, 3 * number + 2) for number in range(count)]
    return [Found(Candidate(box, bits, 4, 0.9, 0.9), 0.8, 0.7) for box in boxes]


def options(**changes: Any) -> UploadOptions:
    values: dict[str, Any] = {
        'threshold': 0.5,
        'tags': ('cell',),
        'channel': 0,
        'smoothing': 0,
        'skip_duplicates': True,
        'property_id': None,
        'connect_to': None,
    }
    return UploadOptions(**{**values, **changes})


def upload(server: Server, page: Page, found: Sequence[Found], **changes: Any) -> UploadResult:
    result = UploadResult()
    Uploader(server, options(**changes), page.reporter()).upload(HERE, found, [], result)
    return result


NUCLEI = {'tags': ['nucleus'], 'channel': None}


def test_frame_is_uploaded(lab, page):
    server = lab.server()
    property_id = server.create_property('Scores', 'properties/none:latest')
    (parent,) = lab.create(*lab.make_triangles(1, tags=['nucleus']))
    known = np.array([(3, 0), (5, 0), (5, 2), (3, 2)])  # the second square
    found = [*find_squares(3), Found(find_squares(1)[0].candidate, 0.7, 0.7)]
    uploader = Uploader(
        server,
        options(tags=('a', 'b'), property_id=property_id, connect_to=NUCLEI),
        page.reporter(),
    )
    result = UploadResult()
    uploader.upload(HERE, found, [known], result)

    assert result.counts == Counts(duplicates=1, known=1, uploaded=2)
    assert result.similarities == [0.8, 0.8]
    assert result.found_similarities == [0.8, 0.8, 0.8]  # the known one too
    assert result.areas == [4, 4]
    assert page.warnings == []
    _, first, second = lab.list_annotations()
    assert [min(point['x'] for point in one['coordinates']) for one in (first, second)] == [0, 6]
    for annotation in (first, second):
        assert annotation['tags'] == ['a', 'b']
        assert (annotation['shape'], annotation['channel']) == ('polygon', 0)
        assert annotation['location'] == {'XY': 0, 'Z': 0, 'Time': 0}
    ids = {first['_id'], second['_id']}
    assert server.list_scored(property_id, 'Predicted IoU') == ids
    query = {'datasetId': lab.dataset_id}
    connections = lab.client.get('annotation_connection', parameters=query)
    assert {one['childId'] for one in connections} == ids
    assert {one['parentId'] for one in connections} == {parent}


def test_objects_below_the_threshold_are_counted_but_not_uploaded(page):
    squares = [one.candidate for one in find_squares(3)]
    similarities = [0.6, 0.5, 0.49, 0.48, 0.55]
    # the last two are duplicates of the last square and of the first
    objects = zip([*squares, squares[2], squares[0]], similarities, strict=True)
    server = RecordingServer()
    result = upload(server, page, [Found(*pair, 0.7) for pair in objects])
    assert server.created == [2]
    assert result.counts == Counts(duplicates=1, uploaded=2)
    assert result.found_similarities == [0.6, 0.5, 0.49]
    assert (result.similarities, result.areas) == ([0.6, 0.5], [4, 4])


@pytest.mark.parametrize(('skip', 'uploaded'), [(True, 1), (False, 2)])
def test_duplicates_of_a_tile_are_kept_on_request(page, skip, uploaded):
    server = RecordingServer()
    result = upload(server, page, find_squares(1) * 2, skip_duplicates=skip)
    assert result.counts == Counts(uploaded=uploaded, duplicates=2 - uploaded)


def test_large_frame_is_sent_in_parts(page):
    server = RecordingServer()
    count = 2 * ANNOTATIONS_PER_REQUEST + 500
    found = find_squares(count)
    result = upload(server, page, found, property_id='p', connect_to=NUCLEI)
    parts = [ANNOTATIONS_PER_REQUEST, ANNOTATIONS_PER_REQUEST, 500]
    assert result.counts == Counts(uploaded=count)
    assert len(result.similarities) == count
    assert server.created == parts
    assert [len(scores) for scores in server.scored] == parts
    assert server.connected == [(NUCLEI, part) for part in parts]
    assert next(iter(server.scored[0].values())) == {
        'Similarity': 0.8,
        'Closest Examples': 0.7,
        'Predicted IoU': 0.9,
    }


def test_upload_that_fails_counts_what_it_created(page):
    def refuse_last_part(batch: Sequence[Mapping]) -> None:
        if len(batch) < ANNOTATIONS_PER_REQUEST:
            raise http_error(403)

    server = RecordingServer({'create': refuse_last_part})
    result = UploadResult()
    uploader = Uploader(server, options(), page.reporter())
    with pytest.raises(HttpError):
        uploader.upload(HERE, find_squares(ANNOTATIONS_PER_REQUEST + 1), [], result)
    assert result.counts == Counts(uploaded=ANNOTATIONS_PER_REQUEST)
    assert len(result.similarities) == ANNOTATIONS_PER_REQUEST


def test_error_keeps_the_counts_of_what_was_created(page):
    uploader = Uploader(
        RecordingServer({'score': refuse_with(401)}), options(property_id='p'), page.reporter()
    )
    result = UploadResult()
    with pytest.raises(HttpError):
        uploader.upload(HERE, find_squares(2), [], result)
    assert result.counts == Counts(uploaded=2)


def test_nothing_is_sent_for_an_empty_frame(page):
    server = RecordingServer()
    result = upload(server, page, [], property_id='p', connect_to=NUCLEI)
    assert result == UploadResult()
    assert (server.created, server.scored, server.connected) == ([], [], [])


def test_scores_and_connections_only_on_request(page):
    server = RecordingServer()
    upload(server, page, find_squares(1))
    assert (server.created, server.scored, server.connected) == ([1], [], [])


def test_refused_object_is_warned_of(page):
    def refuse_large_batches_and_third(batch: Sequence[Mapping]) -> None:
        if any(one['coordinates'][0]['x'] > 5 for one in batch):
            raise http_error(400)

    server = RecordingServer({'create': refuse_large_batches_and_third})
    result = upload(server, page, find_squares(3), property_id='p')
    assert result.counts.uploaded == len(result.similarities) == 2
    assert len(server.scored[0]) == 2
    expected = messages.OBJECT_REFUSED.fill(location=HERE, reason=http_error(400))
    assert page.warnings == [expected]


def test_lost_scores_and_connections_are_warned_of(page):
    server = RecordingServer({'score': refuse_with(500), 'connect': refuse_with(None)})
    result = upload(server, page, find_squares(3), property_id='p', connect_to=NUCLEI)
    assert result.counts.uploaded == 3
    assert page.warnings == [
        messages.SCORES_LOST.fill(location=HERE, reason=http_error(500)),
        messages.CONNECTIONS_LOST.fill(location=HERE, reason=http_error(None)),
    ]
    assert len(server.connected) == 1


@pytest.mark.parametrize('request_', ['create', 'score', 'connect'])
def test_expired_login_is_raised(page, request_):
    server = RecordingServer({request_: refuse_with(401)})
    with pytest.raises(HttpError):
        upload(server, page, find_squares(3), property_id='p', connect_to=NUCLEI)
    assert page.warnings == []


# The results of earlier runs


def replace_results(server: Server, page: Page, found: Sequence[Found]) -> UploadResult:
    """Upload the objects of a frame that has two results of an earlier run, and remove these."""
    result = UploadResult()
    uploader = Uploader(server, options(property_id='p'), page.reporter())
    uploader.upload(HERE, found, [], result)
    uploader.remove(HERE, {'a', 'b'}, result)
    return result


@pytest.mark.parametrize('count', [0, 3])
def test_results_are_removed_after_new_objects_are_saved(page, count):
    server = RecordingServer()
    result = replace_results(server, page, find_squares(count))
    assert server.removed == [({'a', 'b'}, ['cell'])]
    assert result.counts == Counts(uploaded=count, removed=2)
    assert page.warnings == []


def test_frame_without_earlier_results_sends_no_request(page):
    server = RecordingServer()
    Uploader(server, options(), page.reporter()).remove(HERE, set(), UploadResult())
    assert server.removed == []


@pytest.mark.parametrize('status', [None, 400, 403, 500, 503])
def test_removal_that_fails_is_warned_of(page, status):
    server = RecordingServer({'remove': refuse_with(status)})
    result = replace_results(server, page, find_squares(1))
    assert result.counts == Counts(uploaded=1)
    expected = messages.RESULTS_NOT_REMOVED.fill(location=HERE, reason=http_error(status))
    assert page.warnings == [expected]


def test_expired_login_ends_a_removal(page):
    with pytest.raises(HttpError):
        replace_results(RecordingServer({'remove': refuse_with(401)}), page, find_squares(1))


def refuse_one(batch: Sequence[Mapping]) -> None:
    if any(one['coordinates'][0]['x'] > 5 for one in batch):
        raise http_error(400)


@pytest.mark.parametrize('refuse', [{'score': refuse_with(500)}, {'create': refuse_one}])
def test_results_stay_if_new_objects_are_not_all_saved(page, refuse):
    server = RecordingServer(refuse)
    result = replace_results(server, page, find_squares(3))
    assert server.removed == []
    assert result.counts.removed == 0
    expected = messages.RESULTS_NOT_REMOVED.fill(location=HERE, reason=NOT_SAVED_REASON)
    assert page.warnings[-1] == expected
