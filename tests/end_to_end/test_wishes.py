"""Options of a job: duplicates, counter-examples, scores, small objects in large frames."""

import json
import re
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage

import entrypoint
from fewshot import messages
from fewshot.errors import JobError
from fewshot.geometry import bound_mask
from fewshot.images.tiling import choose_overlap, place_tiles
from fewshot.polygons import trace_mask
from fewshot.sam.checkpoints import VIT_MINI
from fewshot.settings import FAST, KEEP, SKIP
from tests.datasets import make_layer, write_dataset
from tests.end_to_end import test_job
from tests.end_to_end.test_job import RADIUS, Lab, best_iou, locations_of, tag_disc
from tests.small_model import CENTRES, SIDE, draw_discs, outline_disc
from tests.worker import REPOSITORY, make_params

SETTINGS = {**test_job.SETTINGS, 'Existing Outlines': SKIP}
DIM = [(84, 24), (100, 106)]  # centres of dim discs, row and column, beside the bright ones
DIM_RADIUS = 11


def draw_two_kinds() -> tuple[np.ndarray, np.ndarray]:
    """Draw bright discs, labels 1 to 3, and smaller dim discs, labels 4 and 5."""
    rng = np.random.default_rng(5)
    labels = draw_discs(CENTRES, RADIUS)[1]
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for number, (row, column) in enumerate(DIM, start=4):
        labels[np.hypot(rows - row, columns - column) < DIM_RADIUS] = number
    brightness = np.array([0, 3000, 3000, 3000, 900, 900])[labels]
    image = ndimage.gaussian_filter(400.0 + brightness, 1) + rng.normal(0, 60, labels.shape)
    return image.clip(0).astype(np.uint16), labels


class Bench(Lab):
    """A lab whose jobs run in this process.

    `say` holds what the last one told the page, `last` the last line of its log.
    """

    def run_here(
        self, capsys, tags=('found',), load_segmenter=entrypoint.load_segmenter, **changes: Any
    ) -> None:
        self.say: list[dict] = []
        params = {**make_params(**{**SETTINGS, **changes}), 'tags': list(tags)}
        try:
            entrypoint.compute(
                self.id,
                self.server.apiUrl,
                self.server.token,
                params,
                load_segmenter=load_segmenter,
            )
        finally:
            printed = capsys.readouterr()
            self.say = [json.loads(line) for line in printed.out.splitlines()]
            self.last = printed.err.splitlines()[-1]

    def of(self, kind: str) -> list[dict]:
        return [message for message in self.say if kind in message]

    def values(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return the property values of each annotation."""
        found = self.server.client.get(
            'annotation_property_values', parameters={'datasetId': self.id, 'limit': 0}
        )
        return {one['annotationId']: one['values'] for one in found}


@pytest.fixture
def bench(start_server, tmp_path, monkeypatch) -> Bench:
    """Return a lab with two equal positions. Two bright discs of the first are examples."""
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))
    image = np.stack([draw_two_kinds()[0]] * 2)[:, None, None, None]
    write_dataset(tmp_path, 'cells', image, [make_layer(0, black=1, white=99.9)])
    bench = Bench(start_server(tmp_path))
    bench.annotate(tag_disc(bench.id, CENTRES[0]), tag_disc(bench.id, CENTRES[1]))
    return bench


def hits(annotations: list[dict], labels: np.ndarray, numbers, iou: float = 0.6) -> list[bool]:
    return [best_iou(annotations, labels == number) > iou for number in numbers]


def test_a_second_run_adds_nothing_and_says_so(bench, capsys):
    bench.run_here(capsys)
    first = bench.annotations('found')
    labels = draw_two_kinds()[1]
    assert hits(first, labels, [3]) == [True]
    assert hits(first, labels, [1, 2]) == [
        False,
        False,
    ]  # the examples themselves have their outline already
    assert '2 already there' in bench.last
    bench.run_here(capsys)
    assert len(bench.annotations('found')) == len(first)
    assert bench.last.startswith('0 objects in 1 frame')
    assert f'{len(first) + 2} already there' in bench.last
    assert not bench.of('error')


def test_second_run_adds_nothing_without_output_tags(bench, capsys):
    bench.annotate(tag_disc(bench.id, (60, 60), tags=[]))  # by hand: it has no score
    bench.run_here(capsys, tags=())
    first = [one for one in bench.annotations() if not one['tags']]
    assert len(first) > 2
    bench.run_here(capsys, tags=())
    assert [one for one in bench.annotations() if not one['tags']] == first
    assert bench.last.startswith('0 objects in 1 frame')
    (warning,) = bench.of('warning')
    assert 'have an outline already' in warning['warning']


def test_a_job_that_died_is_completed_by_starting_it_again(bench, capsys):
    bench.run_here(capsys)
    bench.run_here(capsys, **{'Batch XY': 'all'})
    made = locations_of(bench.annotations('found'))
    assert made[1, 0, 0] == made[0, 0, 0] + 2  # the second position has no examples


def test_who_wants_duplicates_gets_them(bench, capsys):
    bench.run_here(capsys, **{'Existing Outlines': KEEP})
    first = len(bench.annotations('found'))
    bench.run_here(capsys, **{'Existing Outlines': KEEP})
    assert len(bench.annotations('found')) == 2 * first
    assert 'already there' not in bench.last
    bench.run_here(capsys, tags=['others'], **{'Existing Outlines': SKIP})
    assert (
        len(bench.annotations('others')) < first
    )  # other tags do not count, doubles and examples do


def test_outlines_of_other_tags_and_places_hide_nothing(bench, capsys):
    bench.annotate(
        tag_disc(bench.id, CENTRES[2], tags=['other']),
        tag_disc(bench.id, CENTRES[2], (1, 0, 0), ['found']),
    )
    bench.run_here(capsys)
    here = [one for one in bench.annotations('found') if one['location']['XY'] == 0]
    assert hits(here, draw_two_kinds()[1], [3]) == [True]


def test_what_is_more_like_a_counter_example_is_left_out(bench, capsys):
    labels = draw_two_kinds()[1]
    crops = {'Speed': FAST, 'Similarity Threshold': 0.5, 'Batch XY': '2'}
    bench.run_here(capsys, **crops)
    assert hits(bench.annotations('found'), labels, [1, 2, 3, 4, 5], 0.75) == [True] * 5
    bench.annotate(
        {
            **tag_disc(bench.id, DIM[0]),
            'coordinates': outline_disc(*DIM[0], DIM_RADIUS),
            'tags': ['bad'],
        }
    )
    bench.run_here(
        capsys,
        tags=['better'],
        **crops,
        **{'Negative Tag': ['bad']},
    )
    assert hits(bench.annotations('better'), labels, [1, 2, 3, 4], 0.75) == [True] * 3 + [False]
    assert len(bench.annotations('better')) < len(bench.annotations('found'))
    assert 'more like a counter-example' in bench.last


def test_an_annotation_that_is_example_and_counter_example_is_refused(bench, capsys):
    bench.annotate(tag_disc(bench.id, CENTRES[2], tags=['example', 'bad']))
    with pytest.raises(JobError, match='both the Training Tag and the Negative Tag'):
        bench.run_here(capsys, **{'Negative Tag': ['bad']})
    (error,) = bench.of('error')
    assert 'XY 1, Z 1, Time 1' in error['info']
    assert not bench.annotations('found')


def test_scores_are_values_of_one_property_that_the_configuration_shows(bench, capsys):
    bench.run_here(capsys)
    bench.run_here(capsys, tags=['again'], **{'Existing Outlines': KEEP})
    (scores,) = bench.server.client.get('annotation_property')
    assert (scores['name'], scores['shape'], scores['image']) == (
        'SAM few-shot',
        'polygon',
        'properties/none:latest',
    )
    (view,) = bench.server.client.get('dataset_view', parameters={'datasetId': bench.id})
    meta = bench.server.client.get(f'upenn_collection/{view["configurationId"]}')['meta']
    assert meta['propertyIds'] == [scores['_id']]
    assert meta['layers']
    made = {one['_id'] for tag in ('found', 'again') for one in bench.annotations(tag)}
    examples = {one['_id'] for one in bench.annotations('example')}
    values = {id: value[scores['_id']] for id, value in bench.values().items()}
    assert len(made) >= 3
    assert values.keys() == made | examples
    first, second = (values[id] for id in examples)
    assert first.keys() == second.keys() == {'Similarity', 'Closest Examples'}
    numbers = [*first.values(), *second.values()]
    assert numbers == pytest.approx(numbers[:1] * 4)  # all to each other
    for id in made:
        score = values[id]
        assert score.keys() == {'Similarity', 'Closest Examples', 'Predicted IoU'}
        assert SETTINGS['Similarity Threshold'] <= score['Similarity'] <= 1
        # with two examples, the mean of the cosines is below the cosine to their mean
        assert 0 < score['Closest Examples'] <= score['Similarity'] + 1e-6
        assert 0 < score['Predicted IoU'] < 1.5


def test_each_example_gets_its_own_similarity(bench, capsys):
    dim = {**tag_disc(bench.id, DIM[0]), 'coordinates': outline_disc(*DIM[0], DIM_RADIUS)}
    examples = bench.annotations('example')
    _, odd, last, _ = bench.annotate(
        tag_disc(bench.id, (400, 400)),  # outside the image
        dim,
        tag_disc(bench.id, CENTRES[2], location=(1, 0, 0)),
        tag_disc(bench.id, DIM[1], tags=['bad']),
    )
    bright = {one['_id'] for one in (*examples, last)}
    bench.run_here(capsys, **{'Speed': FAST, 'Negative Tag': ['bad']})
    made = {one['_id'] for one in bench.annotations('found')}
    values = {
        id: score['Similarity']
        for id, value in bench.values().items()
        for score in value.values()
        if id not in made
    }
    assert values.keys() == {*bright, odd['_id']}
    assert all(values[odd['_id']] < values[id] <= 1 for id in bright)


def outline_nuclei(labels: np.ndarray, count: int) -> list[np.ndarray]:
    """Return the outlines of the first nuclei that do not touch the border."""
    at_border = {0, *labels[0], *labels[-1], *labels[:, 0], *labels[:, -1]}
    outlines = []
    for number in sorted({*labels.flat} - at_border)[:count]:
        mask = labels == number
        box = bound_mask(mask)
        assert box is not None
        outlines.append(trace_mask(box, mask[box.slices], 0))
    return outlines


def test_counts_at_neighbouring_thresholds_are_those_of_other_runs(
    start_server, tmp_path, monkeypatch, capsys, caplog
):
    """Real nuclei, in two tiles; some of the objects are known."""
    caplog.set_level('INFO', 'sam_fewshot')
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))
    image, labels = (
        tifffile.imread(REPOSITORY / 'tests' / 'data' / name)[:160, :240]
        for name in ('nuclei.tif', 'nuclei_labels.tif')
    )
    write_dataset(tmp_path, 'cells', image, [make_layer(0, black=1, white=99.8)])
    bench = Bench(start_server(tmp_path))
    for outline in outline_nuclei(labels, 5):
        points = [{'x': float(x), 'y': float(y)} for x, y in outline]
        bench.annotate({**tag_disc(bench.id, CENTRES[0]), 'coordinates': points})
    found, expected = {}, {}
    for threshold in ('0.85', '0.9', '0.95'):
        form = {'Speed': FAST, 'Tile Size': 160, 'Min Mask Area': 30}
        bench.run_here(capsys, [threshold], **form, **{'Similarity Threshold': threshold})
        summary = json.loads(caplog.messages[-1].removeprefix('job summary '))
        found[threshold] = summary['uploaded'] + summary['known']
        expected[threshold] = summary['found_at']
    assert expected['0.9'] == found
    assert found['0.9'] > found['0.95'] > 0


def test_scores_without_a_place_bring_one_warning_and_every_outline(
    start_server, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))
    write_dataset(
        tmp_path, 'cells', np.stack([draw_two_kinds()[0]] * 2)[:, None, None, None]
    )  # has no view
    bench = Bench(start_server(tmp_path))
    bench.annotate(tag_disc(bench.id, CENTRES[0]))
    bench.run_here(capsys, **{'Batch XY': 'all'})
    (warning,) = (one for one in bench.of('warning') if 'scores' in one['warning'])
    assert warning['info'].startswith('The dataset has no view')
    assert set(locations_of(bench.annotations('found'))) == {(0, 0, 0), (1, 0, 0)}
    bench.run_here(capsys, tags=())
    assert messages.NO_TAGS.text in [one['warning'] for one in bench.of('warning')]


def test_the_last_message_sets_what_was_kept_beside_the_examples(bench, capsys):
    bench.run_here(capsys)
    numbers = re.search(
        r'similarity ([01]\.\d\d) to ([01]\.\d\d); the examples among themselves ([01]\.\d\d) to',
        bench.last,
    )
    assert numbers
    assert 0.7 <= float(numbers[1]) <= float(numbers[2]) <= 1
    assert float(numbers[3]) > 0.7


def test_a_threshold_that_lets_everything_pass_brings_a_proposal(bench, capsys):
    bench.annotate(tag_disc(bench.id, CENTRES[2]))
    bench.run_here(capsys, **{'Similarity Threshold': 0})
    (warning,) = bench.of('warning')
    assert warning['warning'] == 'Similarity Threshold 0 let every candidate pass.'
    assert warning['info'].startswith('Try 0.')


def test_area_limits_that_shut_out_the_examples_bring_a_warning(bench, capsys):
    bench.run_here(capsys, **{'Min Mask Area': 700, 'Max Mask Area': 0})
    assert any(
        one['warning']
        == messages.EXAMPLES_OUTSIDE_LIMITS.fill(outside=2, count=2, smallest=0, largest=0)[0]
        for one in bench.of('warning')
    )


# Centres of small discs in a frame of 400 × 400. They are 10 pixels wide in the model's input.
SMALL = [(row, column) for row in range(25, 400, 87) for column in range(25, 400, 87)]
SMALL_RADIUS = 4


@pytest.fixture
def wide(start_server, tmp_path, monkeypatch) -> Bench:
    """Return a frame of 400 × 400 with 25 discs of 8 pixels. Three are examples."""
    monkeypatch.setenv('SAM_CHECKPOINT_DIR', str(REPOSITORY / 'models'))
    write_dataset(
        tmp_path,
        'cells',
        draw_discs(SMALL, SMALL_RADIUS, 400)[0],
        [make_layer(0, black=1, white=99.9)],
    )
    bench = Bench(start_server(tmp_path))
    for row, column in SMALL[:1] + SMALL[12:14]:
        outline = outline_disc(row, column, SMALL_RADIUS)
        bench.annotate({**tag_disc(bench.id, (row, column)), 'coordinates': outline})
    return bench


# Objects of this size are described from crops.
AREAS = {'Min Mask Area': 25, 'Max Mask Area': 110, 'Speed': FAST}


def test_tiles_find_small_objects_of_a_large_frame_each_once(wide, capsys):
    labels = draw_discs(SMALL, SMALL_RADIUS, 400)[1]
    numbers = range(1, len(SMALL) + 1)
    wide.run_here(capsys, **AREAS)
    assert any('Set Tile Size to ' in one['info'] for one in wide.of('warning'))
    whole = sum(hits(wide.annotations('found'), labels, numbers))
    wide.run_here(
        capsys,
        tags=['tiled'],
        **AREAS,
        **{'Tile Size': 200, 'Points per side': 20},
    )
    tiled = wide.annotations('tiled')
    found = sum(hits(tiled, labels, numbers))
    assert found >= 2 * whole
    assert found >= 12
    for one in tiled:  # no two on one disc
        row, column = (
            np.mean([point[axis] for point in one['coordinates']]) for axis in ('y', 'x')
        )
        near = [
            other
            for other in tiled
            if abs(np.mean([p['y'] for p in other['coordinates']]) - row) < SMALL_RADIUS
            and abs(np.mean([p['x'] for p in other['coordinates']]) - column) < SMALL_RADIUS
        ]
        assert len(near) == 1
    assert any(re.match(r'tile \d+/9, ', one['info']) for one in wide.of('progress'))
    shares = [one['progress'] for one in wide.of('progress')]
    assert shares == sorted(shares)


def test_tiles_are_fetched_one_by_one_and_look_like_the_frame(wide, capsys):
    shown: list[np.ndarray] = []

    class Watched:
        """Keeps the pictures that the segmenter is asked about, and finds nothing."""

        input_size, uses_gpu = VIT_MINI.input_size, False

        def __init__(self, settings, reporter):
            pass

        def propose(self, rgb, report):
            shown.append(rgb)
            return []

        def describe(self, rgb, objects, report):
            return np.ones((len(objects), VIT_MINI.channels), np.float32)

    wide.run_here(capsys, load_segmenter=Watched, **AREAS, **{'Tile Size': 0})
    (whole,) = shown
    shown.clear()
    wide.run_here(capsys, load_segmenter=Watched, **AREAS, **{'Tile Size': 128})
    tiles = place_tiles(whole.shape, 128, choose_overlap(9))
    assert len(shown) == len(tiles) == 16
    for box, rgb in zip(tiles, shown, strict=True):
        assert rgb.shape == (128, 128, 3)
        assert (
            np.abs(rgb.astype(int) - whole[box.slices]).max() <= 1
        )  # the same contrast everywhere


def test_tiles_that_are_too_small_for_the_examples_are_refused(wide, capsys):
    with pytest.raises(JobError, match='Tile Size 20 is too small'):
        wide.run_here(capsys, **{'Tile Size': 20})
    (error,) = wide.of('error')
    assert 'the largest example is' in error['error']
    assert 'Enter ' in error['info']
