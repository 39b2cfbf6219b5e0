"""Split a batch over several jobs. Each searches a share, and all learn from the same examples."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from girder_client import HttpError

from fewshot import messages
from fewshot.batch import Block, cover_locations, split_block
from fewshot.geometry import Location
from fewshot.reporting.reporter import TITLE, Reporter
from fewshot.server import LOGGED_OUT_STATUS, Server, id_of
from fewshot.settings import SHARE_EXAMPLES

MAX_PARAMETERS_CHARACTERS = 100_000  # Linux accepts 128 KiB per argument


class Shares(NamedTuple):
    """The locations that this job searches, and the names of the jobs that search the others."""

    own: list[Location]
    other_jobs: list[str]


def start_shares(
    server: Server,
    params: Mapping[str, Any],
    jobs: int,
    locations: Sequence[Location],
    examples: Iterable[Mapping],
    reporter: Reporter,
) -> Shares:
    """Split a batch and start a job for each share except the first, which is for this job.

    If the server refuses to start a job, this job searches its share too.

    Parameters
    ----------
    params : dict
        The job's own parameters, as the server sent them.
    jobs : int
        The number of jobs that the user wants.
    locations : sequence of Location
        All locations of the batch.
    examples : iterable of dict
        The annotations from which every job learns.

    Raises
    ------
    girder_client.HttpError
        The login has expired.
    """
    (block,) = cover_locations(locations)  # the batch fields name one block
    shares = split_block(block, jobs)
    if len(shares) != jobs:
        reporter.warn(messages.OTHER_NUMBER_OF_JOBS, shares=len(shares), jobs=jobs)
    digests = digest_examples(examples)
    if len(json.dumps([params, digests])) > MAX_PARAMETERS_CHARACTERS:
        reporter.warn(messages.TOO_MANY_EXAMPLES_TO_SPLIT, count=len(digests))
        return Shares(list(locations), [])

    own, names, refusals = shares[0].locations, [], []
    for number, share in enumerate(shares[1:], 2):
        child = narrow_params(params, share, number, len(shares), digests)
        try:
            server.start_job(child)
            names.append(child['name'])
        except HttpError as error:
            if error.status == LOGGED_OUT_STATUS:
                raise
            own = own + share.locations
            refusals.append(error)
    if names:
        reporter.warn(messages.SPLIT, jobs=len(names) + 1, first=names[0])
    if refusals:
        reporter.warn(
            messages.JOBS_NOT_STARTED, refused=len(refusals), jobs=len(shares), reason=refusals[0]
        )
    return Shares(own, names)


def narrow_params(
    params: Mapping[str, Any], share: Block, number: int, total: int, digests: Mapping[str, str]
) -> dict[str, Any]:
    """Return the parameters of the job that searches a share.

    They are those of the whole batch, except for the batch fields, Jobs and the name.

    Parameters
    ----------
    params : dict
        The parameters of the whole batch.
    share : Block
    number, total : int
        Number of the share, from 1, and the number of shares.
    digests : dict
        From `digest_examples`.
    """
    name = params.get('name') or TITLE
    return {
        **params,
        'name': f'{name} ({number} of {total})',
        'workerInterface': {**params['workerInterface'], **share.fields, 'Jobs': 1},
        SHARE_EXAMPLES: dict(digests),
    }


def digest_examples(annotations: Iterable[Mapping]) -> dict[str, str]:
    """Return {id: digest} of the examples, by which another job notices changes."""
    return {id_of(one): digest(one) for one in annotations if id_of(one)}


def digest(annotation: Mapping) -> str:
    """Return a hash of an annotation's outline, location and tags."""
    content = json.dumps(
        [annotation.get(key) for key in ('coordinates', 'location', 'tags')], sort_keys=True
    )
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def keep_shared_examples(
    annotations: Sequence[Mapping], digests: Mapping[str, str]
) -> list[Mapping]:
    """Return the annotations with which the batch was started. Ignore newer ones.

    Raises
    ------
    JobError
        An annotation was deleted or changed. The jobs of the batch would search for different
        objects.
    """
    found = {id_of(one): one for one in annotations}
    gone = [one for one in digests if one not in found]
    changed = [one for one in digests if one in found and digest(found[one]) != digests[one]]
    if gone or changed:
        raise messages.EXAMPLES_CHANGED.error(gone=len(gone), changed=len(changed))
    return [found[one] for one in digests]
