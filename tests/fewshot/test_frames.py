from types import SimpleNamespace
from typing import Any

import pytest

from fewshot.frames import list_locations
from fewshot.parameters import Location

ORIGIN = Location(0, 0, 0)

TILES = {'IndexRange': {'IndexXY': 8, 'IndexZ': 3, 'IndexT': 2, 'IndexC': 2}}


def ask(xy: str = '', z: str = '', time: str = '', current: Location = ORIGIN, channel: int = 0) -> Any:
    """As much of a job's parameters as the locations depend on."""
    return SimpleNamespace(
        batches={'Batch XY': xy, 'Batch Z': z, 'Batch Time': time}, current=current, channel=channel)


@pytest.mark.parametrize(('xy', 'z', 'time', 'expected'), [
    ('', '', '', [(2, 1, 1)]),  # blank: where the user stands
    ('1-3', '', '', [(0, 1, 1), (1, 1, 1), (2, 1, 1)]),
    ('5, 1-2, 2', '', '', [(0, 1, 1), (1, 1, 1), (4, 1, 1)]),  # sorted, doubles collapse
    ('', 'all', '', [(2, 0, 1), (2, 1, 1), (2, 2, 1)]),
    ('1-2', '1,3', 'ALL', [(0, 0, 0), (0, 0, 1), (0, 2, 0), (0, 2, 1), (1, 0, 0), (1, 0, 1), (1, 2, 0), (1, 2, 1)]),
])
def test_frames_run_xy_by_xy_then_z_then_time(xy, z, time, expected):
    assert list_locations(ask(xy, z, time, Location(2, 1, 1)), TILES) == [Location(*place) for place in expected]


@pytest.mark.parametrize(('job', 'message', 'note'), [
    (ask(xy='1-3, 7-9, 12'), 'Batch XY names positions outside the dataset: 7-9, 12', 'positions 1-8'),
    (ask(xy='0'), 'Batch XY .* 0', 'positions 1-8'),
    (ask(z='4'), 'Batch Z .* 4', 'positions 1-3'),
    (ask(time='1-1000000000'), 'Batch Time .* 1-1000000000', 'positions 1-2'),
    (ask(current=Location(0, 5, 0)), 'Batch Z .* 6 .*where you stand', 'positions 1-3'),
])
def test_a_position_outside_the_dataset_is_refused_in_the_users_numbers(job, message, note):
    with pytest.raises(ValueError, match=message) as caught:
        list_locations(job, TILES)
    assert note in caught.value.__notes__[0]


def test_a_channel_that_the_dataset_lacks_is_refused():
    assert list_locations(ask(channel=1), TILES)
    with pytest.raises(ValueError, match='channel') as caught:
        list_locations(ask(channel=2), TILES)
    assert 'channel 3' in caught.value.__notes__[0] and 'has 2' in caught.value.__notes__[0]


def test_an_image_of_a_single_plane_has_one_location():
    assert list_locations(ask('all', 'all', 'all'), {}) == [Location(0, 0, 0)]
