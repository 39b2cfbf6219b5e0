"""One batch over several jobs: shares of it that one job each can search, and what keeps their prototypes the same."""
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from fewshot.parameters import explain
from fewshot.positions import Block, join_numbers

EXAMPLES = 'fewshotExamples'  # key of a child's parameters: {annotation id: digest}


def split_block(block: Block, most: int) -> list[Block]:
    """A batch in shares that are blocks too and differ by one frame at most, neighbours together.

    The number of shares is the one nearest to `most` for which there are such shares; of two as near, the smaller.
    """
    ways = [way for way in product(*(range(1, len(axis) + 1) for axis in block)) if is_even(block, way)]
    # of the same number of shares, those that part XY, then Z: positions apart have least in common
    way = min(ways, key=lambda one: (abs(math.prod(one) - most), math.prod(one), -one[0], -one[1]))
    parts = [split_evenly(axis, count) for axis, count in zip(block, way, strict=True)]
    return [Block(*share) for share in product(*parts)]


def is_even(block: Block, way: Sequence[int]) -> bool:
    """Whether the shares differ by one frame at most when each axis is cut into so many parts."""
    sizes = [divmod(len(axis), count) for axis, count in zip(block, way, strict=True)]
    fewest = math.prod(whole for whole, _ in sizes)
    return math.prod(whole + (rest > 0) for whole, rest in sizes) - fewest <= 1


def split_evenly(indices: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """Neighbouring indices in so many parts, the longer ones first."""
    whole, rest = divmod(len(indices), count)
    ends = [number * whole + min(number, rest) for number in range(count + 1)]
    return [tuple(indices[start:stop]) for start, stop in zip(ends, ends[1:], strict=False)]


def narrow_params(params: Mapping[str, Any], share: Block, number: int, total: int,
                  examples: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of the job for a share: word for word those of the whole, but for the batch, Jobs and the name.

    Parameters
    ----------
    number, total : of the share, from 1, and how many there are
    examples : as of `sign_examples`
    """
    texts = {f'Batch {axis}': join_numbers(indices) for axis, indices in
             zip(('XY', 'Z', 'Time'), share, strict=True)}
    return {**params, 'name': f'{params.get("name") or "SAM few-shot segmentation"} ({number} of {total})',
            'workerInterface': {**params['workerInterface'], **texts, 'Jobs': 1}, EXAMPLES: dict(examples)}


def sign_examples(annotations: Iterable[Mapping]) -> dict[str, str]:
    """{id: digest} of examples and counter-examples, by which another job knows them again."""
    return {str(one['_id']): digest(one) for one in annotations if one.get('_id')}


def digest(annotation: Mapping) -> str:
    """A short text that changes with an annotation's outline, place and tags."""
    content = json.dumps([annotation.get(key) for key in ('coordinates', 'location', 'tags')], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def keep_signed(annotations: Sequence[Mapping], signed: Mapping[str, str]) -> list[Mapping]:
    """The annotations that the job was started with. What was tagged since is left out.

    Raises ValueError, with a note for the user, when one is gone or changed: the prototype would be another.
    """
    found = {str(one.get('_id')): one for one in annotations}
    gone = [id for id in signed if id not in found]
    changed = [id for id in signed if id in found and digest(found[id]) != signed[id]]
    if gone or changed:
        raise explain(ValueError('The examples have changed since the batch was started'),
                      f'{len(gone)} of {len(signed)} are gone and {len(changed)} changed. The other jobs of this batch '
                      'have learned from them as they were: start the whole batch again.')
    return [found[id] for id in signed]
