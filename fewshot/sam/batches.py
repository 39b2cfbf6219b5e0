"""Work in batches that fit into the memory of the GPU, prepared by threads."""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

import torch

from fewshot import messages

Item = TypeVar('Item')
Result = TypeVar('Result')
Report = Callable[[float], None]  # called with the share of the work that is done, 0 to 1


def measure_free_memory(device: torch.device) -> int:
    """Measure the memory of a GPU that this process can still fill, in bytes."""
    free, _ = torch.cuda.mem_get_info(device)
    # PyTorch keeps memory that it does not use at the moment.
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + unused


def run_in_batches(
    work: Callable[[list[Item]], Result], items: Iterable[Item], batch_size: int
) -> Iterator[tuple[list[Item], Result]]:
    """Do some work on batches of items, on smaller ones where the GPU runs out of memory.

    Parameters
    ----------
    work : callable
        Takes a list of 1 to `batch_size` items.
    items : iterable
    batch_size : int
        Halved, with a RuntimeWarning, when a batch does not fit.

    Yields
    ------
    batch : list of items
        In the order of `items`.
    result
        The value that `work` returned for this batch.

    Raises
    ------
    JobError
        The GPU has no memory for a single item.

    Examples
    --------
    >>> list(run_in_batches(sum, [1, 2, 3, 4, 5], batch_size=2))
    [([1, 2], 3), ([3, 4], 7), ([5], 5)]
    """
    items = iter(items)
    while batch := list(islice(items, batch_size)):
        try:
            result = work(batch)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise messages.GPU_MEMORY.error() from error
            batch_size = len(batch) // 2
            items = chain(batch, items)
            warnings.warn(
                f'The GPU has too little memory: trying batches of {batch_size}.',
                RuntimeWarning,
                stacklevel=2,
            )
        else:
            yield batch, result


def map_ahead(
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    ahead: int,
) -> Iterator[Result]:
    """Apply a function to items in the threads of a pool, only so far ahead of the caller.

    Parameters
    ----------
    pool : ThreadPoolExecutor
    function : callable
    items : iterable
    ahead : int
        Results that can wait for the caller.

    Yields
    ------
    result
        In the order of the items.

    Examples
    --------
    >>> with ThreadPoolExecutor(2) as pool:
    ...     list(map_ahead(pool, abs, [-1, 2, -3], ahead=1))
    [1, 2, 3]
    """
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
