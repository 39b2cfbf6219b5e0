"""The steps of a job that need no model."""

from collections import Counter

import pytest

from fewshot import messages
from fewshot.errors import JobError
from fewshot.geometry import Box, Location, Tile
from fewshot.job import check_access, check_channel, fetch_tagged, measure_smallest
from fewshot.matching.examples import Examples, TaggedPolygon
from fewshot.settings import Settings, read_settings
from fewshot.shares import digest_examples
from tests.fewshot.conftest import make_server, pattern_of
from tests.worker import make_params

pytestmark = pytest.mark.usefixtures('small_model_folder')

METADATA = {'IndexRange': {'IndexC': 2}}


def tagged(id: str) -> dict:
    return {'_id': id, 'coordinates': [], 'tags': [], 'location': {}}


@pytest.mark.parametrize(('level', 'is_refused'), [(0, True), (1, False), (2, False)])
def test_user_who_may_only_read_is_refused(level, is_refused):
    server = make_server({'_accessLevel': level})
    if not is_refused:
        check_access(server)
        return
    with pytest.raises(JobError, match=pattern_of(messages.READ_ONLY)):
        check_access(server)


def test_channel_outside_the_dataset_is_refused():
    check_channel(1, METADATA)
    check_channel(0, {})
    with pytest.raises(JobError) as caught:
        check_channel(2, METADATA)
    expected = messages.CHANNEL_OUTSIDE.fill(channel=3, channels=2)
    assert (caught.value.message, caught.value.hint) == expected


@pytest.mark.parametrize(
    ('tile', 'pixels'),
    [
        (None, 10),  # the frame is shrunk to half its size
        (Box(0, 0, 256, 512), 40),
    ],
)
def test_smallest_example_is_measured_as_the_model_sees_it(tile, pixels):
    here = Location(0, 0, 0)
    polygons = [
        TaggedPolygon({}, is_counter, here, box)
        for is_counter, box in (
            (False, Box(0, 0, 5, 30)),
            (False, Box(0, 0, 20, 10)),
            (False, None),  # outside the frame
            (True, Box(0, 0, 1, 1)),
        )
    ]
    examples = Examples({Tile(here, tile): polygons}, 30, [tile], Counter())
    metadata = {'sizeX': 2048, 'sizeY': 1024}
    assert measure_smallest(examples, metadata, input_size=1024) == pixels


# The tagged polygons


@pytest.fixture
def settings() -> Settings:
    return read_settings(make_params(**{'Training Tag': ['a', "b's"], 'Negative Tag': ['bad']}))


def test_missing_tag_is_refused(settings):
    with pytest.raises(JobError) as caught:
        fetch_tagged(make_server([], []), settings)
    assert caught.value.message == """No polygon has the tag 'a' or "b's"."""


def test_examples_and_counter_examples_are_fetched(settings):
    one, two, three = tagged('1'), tagged('2'), tagged('3')
    found = fetch_tagged(make_server([one, two], [two], [three]), settings)
    assert found == ([one, two], [three])


def test_share_learns_from_the_examples_of_the_batch():
    one, later, three = tagged('1'), tagged('2'), tagged('3')
    form = {'Training Tag': ['a'], 'Negative Tag': ['bad']}
    examples = digest_examples([one, three])
    settings = read_settings({**make_params(**form), 'fewshotExamples': examples})
    found = fetch_tagged(make_server([one, later], [three]), settings)
    assert found == ([one], [three])
