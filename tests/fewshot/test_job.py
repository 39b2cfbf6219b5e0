"""The steps of a job that need no model."""

import pytest

from fewshot import messages
from fewshot.errors import JobError
from fewshot.job import check_access, check_channel, depends_on_scores, fetch_tagged
from fewshot.settings import KEEP, REPLACE, SKIP, Settings, read_settings
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


# The tagged polygons


@pytest.fixture
def settings() -> Settings:
    return read_settings(make_params(**{'Training Tag': ['a', "b's"], 'Negative Tag': ['bad']}))


def test_missing_tag_is_refused(settings, page):
    with pytest.raises(JobError) as caught:
        fetch_tagged(make_server([], []), settings, set(), page.reporter())
    assert caught.value.message == """No polygon has the tag 'a' or "b's"."""


def test_examples_and_counter_examples_are_fetched(settings, page):
    one, two, three = tagged('1'), tagged('2'), tagged('3')
    server = make_server([one, two], [two], [three])
    found = fetch_tagged(server, settings, {'1', '2', '3'}, page.reporter())
    assert found == ([one, two], [three])
    assert page.warnings == []


def test_share_learns_from_the_examples_of_the_batch(page):
    one, later, three = tagged('1'), tagged('2'), tagged('3')
    form = {'Training Tag': ['a'], 'Negative Tag': ['bad']}
    examples = digest_examples([one, three])
    settings = read_settings({**make_params(**form), 'fewshotExamples': examples})
    server = make_server([one, later], [three])
    assert fetch_tagged(server, settings, set(), page.reporter()) == ([one], [three])


def share_a_tag(*tags: str) -> Settings:
    """Return settings with the Training Tag a and these output tags."""
    return read_settings({**make_params(**{'Training Tag': ['a']}), 'tags': list(tags)})


def test_results_with_the_training_tag_are_not_examples(page):
    by_hand, result = {**tagged('1'), 'tags': ['a']}, {**tagged('2'), 'tags': ['a']}
    chosen = {**tagged('3'), 'tags': ['a', 'good']}  # a result that the user tagged
    server = make_server([by_hand, result, chosen])
    found = fetch_tagged(server, share_a_tag('a'), {'2', '3'}, page.reporter())
    assert found.examples == [by_hand, chosen]
    assert page.warnings == [messages.TAGS_OVERLAP.fill(tags="'a'", used=2, count=3)]


def test_results_alone_are_no_examples(page):
    results = [{**tagged(id), 'tags': ['b', 'a']} for id in '12']
    with pytest.raises(JobError) as caught:
        fetch_tagged(make_server(results), share_a_tag('a', 'b'), {'1', '2'}, page.reporter())
    expected = messages.ONLY_RESULTS.fill(tags="'a'", count=2)
    assert (caught.value.message, caught.value.hint) == expected
    assert page.warnings == []


@pytest.mark.parametrize(
    ('existing', 'tags', 'needed'),
    [
        (SKIP, ['b'], False),
        (SKIP, [], True),
        (SKIP, ['a', 'b'], True),
        (KEEP, ['b'], False),
        (KEEP, [], False),
        (KEEP, ['a'], True),
        (REPLACE, ['b'], True),
    ],
)
def test_scores_are_read_only_if_they_are_needed(existing, tags, needed):
    form = {'Training Tag': ['a'], 'Existing Outlines': existing}
    settings = read_settings({**make_params(**form), 'tags': tags})
    assert depends_on_scores(settings) == needed
