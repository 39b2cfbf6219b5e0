"""One batch over several jobs: shares of it that one job each can search, and what keeps their prototypes the same."""
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from girder_client import HttpError

from fewshot.outcomes import LOGGED_OUT
from fewshot.page import Page
from fewshot.parameters import SIGNED_EXAMPLES, Location, explain
from fewshot.positions import Block, cover_locations
from fewshot.stored import id_of

LONGEST = 100_000  # characters of a job's parameters; Linux takes 128 KiB an argument


def start_shares(store: Any, datasetId: str, params: Mapping[str, Any], jobs: int, locations: Sequence[Location],
                 examples: Iterable[Mapping], page: Page) -> tuple[list[Location], list[str]]:
    """Put all shares of a batch but the first on the server's queue; what is left to this job, and the others' names.

    A share that the server refuses is left to this job, with one warning.

    Parameters
    ----------
    params : the job's own parameters, as the server sent them
    jobs : how many the user wants
    locations : all that a batch names
    examples : annotations from which every job is to learn

    Raises HttpError when the login has expired.
    """
    whole, = cover_locations(locations)
    shares = split_block(whole, jobs)
    if len(shares) != jobs:
        page.warn(f'The batch is split into {len(shares)} jobs instead of {jobs}', 'Jobs', 'A job searches every '
                  'combination of its XY, Z and Time; so many even shares of this batch can be written that way.')
    own, names, refused = [shares[0]], [], []
    signed = sign_examples(examples)
    if len(json.dumps([params, signed])) > LONGEST:
        page.warn('The batch was not split: there are too many examples', 'Jobs', f'Seen: {len(signed)}. Another job '
                  'can be told of about two thousand. This job searches all of the batch itself, which takes longer.')
        return list(locations), []
    for number, share in enumerate(shares[1:], 2):
        child = narrow_params(params, share, number, len(shares), signed)
        try:
            store.client.post('upenn_annotation/compute', parameters={'datasetId': datasetId}, json=child)
            names.append(child['name'])
        except HttpError as error:
            if error.status == LOGGED_OUT:
                raise
            own.append(share)
            refused.append(error)
    if names:
        page.warn(f'The batch is split into {len(names) + 1} jobs, and this page shows only the first', 'Jobs',
                  f'{", ".join(names)}: their progress and errors are in the list of jobs. Cancel ends the first job '
                  'only.')
    if refused:
        page.warn(f'{len(refused)} of {len(shares)} jobs could not be started', 'Jobs',
                  f'{refused[0]} This job searches their shares itself, which takes longer.')
    return [location for share in own for location in share.locations], names


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
    return {**params, 'name': f'{params.get("name") or "SAM few-shot segmentation"} ({number} of {total})',
            'workerInterface': {**params['workerInterface'], **share.fields, 'Jobs': 1},
            SIGNED_EXAMPLES: dict(examples)}


def sign_examples(annotations: Iterable[Mapping]) -> dict[str, str]:
    """{id: digest} of examples and counter-examples, by which another job knows them again."""
    return {id_of(one): digest(one) for one in annotations if id_of(one)}


def digest(annotation: Mapping) -> str:
    """A short text that changes with an annotation's outline, place and tags."""
    content = json.dumps([annotation.get(key) for key in ('coordinates', 'location', 'tags')], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def keep_signed(annotations: Sequence[Mapping], signed: Mapping[str, str]) -> list[Mapping]:
    """The annotations that the job was started with. What was tagged since is left out.

    Raises ValueError, with a note for the user, when one is gone or changed: the prototype would be another.
    """
    found = {id_of(one): one for one in annotations}
    gone = [id for id in signed if id not in found]
    changed = [id for id in signed if id in found and digest(found[id]) != signed[id]]
    if gone or changed:
        raise explain(ValueError('The examples have changed since the batch was started'),
                      f'{len(gone)} of {len(signed)} are gone and {len(changed)} changed. The other jobs of this batch '
                      'have learned from them as they were: start the whole batch again.')
    return [found[id] for id in signed]
