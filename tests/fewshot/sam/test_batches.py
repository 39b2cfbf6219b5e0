from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from fewshot.errors import JobError
from fewshot.sam.batches import map_ahead, run_in_batches


class SmallGpu:
    """Work on a GPU with room for a few items, as a function that records its batches."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sizes: list[int] = []

    def __call__(self, batch: list[int]) -> int:
        """Sum the batch, or run out of memory."""
        self.sizes.append(len(batch))
        if len(batch) > self.room:
            raise torch.OutOfMemoryError('CUDA out of memory.')
        return sum(batch)


@pytest.mark.parametrize(
    ('count', 'batch_size', 'room', 'sizes'),
    [
        pytest.param(0, 4, 4, [], id='nothing to do'),
        pytest.param(3, 4, 4, [3], id='less than a batch'),
        pytest.param(7, 3, 3, [3, 3, 1], id='all fit'),
        pytest.param(5, 4, 2, [4, 2, 2, 1], id='halved once'),
        pytest.param(7, 8, 2, [7, 3, 1, 1, 1, 1, 1, 1, 1], id='halved twice'),
        pytest.param(5, 4, 3, [4, 2, 2, 1], id='the rest is no larger'),
    ],
)
@pytest.mark.filterwarnings('ignore:The GPU has too little memory')
def test_batches_are_halved_until_they_fit(count, batch_size, room, sizes):
    work = SmallGpu(room)
    results = list(run_in_batches(work, range(count), batch_size))
    assert work.sizes == sizes
    assert [item for batch, _ in results for item in batch] == list(range(count))
    assert all(result == sum(batch) for batch, result in results)


def test_smaller_batches_are_a_warning():
    with pytest.warns(RuntimeWarning, match='too little memory: trying batches of 2') as caught:
        list(run_in_batches(SmallGpu(room=2), range(4), batch_size=4))
    assert len(caught) == 1


def test_no_room_for_one_item_is_an_error():
    with pytest.raises(JobError, match='too little memory for SAM') as caught:
        list(run_in_batches(SmallGpu(room=0), [1], batch_size=4))
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_other_errors_are_not_caught():
    with pytest.raises(ZeroDivisionError):
        list(run_in_batches(lambda batch: 1 / 0, [1, 2], batch_size=2))


@pytest.mark.parametrize('ahead', [1, 3])
def test_mapping_stays_a_few_items_ahead(ahead):
    taken = []

    def take_items():
        for item in range(10):
            taken.append(item)
            yield item

    with ThreadPoolExecutor(2) as pool:
        for number, result in enumerate(map_ahead(pool, abs, take_items(), ahead)):
            assert result == number
            assert len(taken) == min(number + 1 + ahead, 10)
    assert number == 9
