"""The worker's jobs, as the page starts and follows them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from annotation_server.jobs import CANCELED, ERROR, QUEUED, RUNNING, SUCCESS, Jobs
from annotation_server.users import User

IMAGE = 'sam-fewshot:page'  # the worker's name on the server
LOG_CHARACTERS = 200_000  # the end of a log that is shown
# A job that runs or is done has a progress line instead.
STATES = {QUEUED: 'Waiting for another run to end', ERROR: 'Failed', CANCELED: 'Cancelled'}
NO_MESSAGE = {
    'kind': 'error',
    'text': 'The worker ended without a message.',
    'info': 'Press Log to see its last lines. Then run again.',
}


@dataclass
class Run:
    """A job of the worker and what it has printed so far.

    Attributes
    ----------
    jobs : Jobs
    job_id : str
    progress : float
        0 to 1.
    line : str
        The last progress line.
    notices : list of dict
        The warnings and errors, each with `kind`, `text` and `info`.
    """

    jobs: Jobs
    job_id: str
    progress: float = 0.0
    line: str = ''
    notices: list[dict[str, str]] = field(default_factory=list)
    _read: int = 0

    @property
    def status(self) -> int:
        """The state of the job, one of the numbers of `annotation_server.jobs`."""
        record = self.jobs.find(self.job_id)
        return record['status'] if record else ERROR

    @property
    def is_active(self) -> bool:
        """Whether the job waits or runs."""
        return self.status in (QUEUED, RUNNING)

    @property
    def is_done(self) -> bool:
        """Whether the job ended without an error."""
        return self.status == SUCCESS

    @property
    def text(self) -> str:
        """The state of the job in words."""
        return STATES.get(self.status) or self.line or 'Starting the worker …'

    def follow(self) -> None:
        """Read what the worker has printed since the last call, and how the job ended."""
        has_failed = self.status == ERROR  # before the last lines are read
        self._read_lines()
        if has_failed and not any(notice['kind'] == 'error' for notice in self.notices):
            self.notices.append(NO_MESSAGE)

    def _read_lines(self) -> None:
        file = self.jobs.output_file(self.job_id)
        if not file.exists():
            return
        with file.open('rb') as output:
            output.seek(self._read)
            new = output.read()
        whole, _, _ = new.rpartition(b'\n')
        self._read += len(whole) + 1 if whole else 0
        for line in whole.splitlines():
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            return  # other lines belong to the log
        if not isinstance(message, Mapping):
            return
        if 'progress' in message:
            self.progress = float(message['progress'])
            parts = (message.get('title'), message.get('info'))
            self.line = ' · '.join(str(part) for part in parts if part)
        for kind in ('warning', 'error'):
            if kind in message:
                info = str(message.get('info') or '')
                self.notices.append({'kind': kind, 'text': str(message[kind]), 'info': info})

    def read_log(self) -> str:
        """Return the end of the job's log."""
        file = self.jobs.log_file(self.job_id)
        text = file.read_text(errors='replace') if file.exists() else ''
        return text[-LOG_CHARACTERS:]

    def cancel(self) -> None:
        """End the job."""
        self.jobs.cancel(self.job_id)


class Runs:
    """The last run of each dataset, and the worker's form.

    Parameters
    ----------
    jobs : Jobs
    user : User
        The user who starts the jobs.
    """

    def __init__(self, jobs: Jobs, user: User) -> None:
        self._jobs = jobs
        self._access = ['--token', user.token]
        self.last: dict[str, Run] = {}
        self.interface = self.ask_interface()

    def ask_interface(self) -> Run:
        """Start the worker so that it posts its form."""
        parameters = ['--request', 'interface', '--parameters', json.dumps({'image': IMAGE})]
        return Run(self._jobs, self._jobs.start('interface', [*self._access, *parameters])['_id'])

    def start(self, dataset_id: str, parameters: Mapping[str, Any]) -> Run:
        """Start a job on a dataset."""
        request = ['--request', 'compute', '--parameters', json.dumps(parameters)]
        record = self._jobs.start(
            str(parameters['name']), [*self._access, *request, '--datasetId', dataset_id]
        )
        self.last[dataset_id] = Run(self._jobs, record['_id'])
        return self.last[dataset_id]


def describe_job(
    dataset_id: str, tile: Mapping[str, int], tags: list[str], form: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the parameters of a job, as the server hands them to the worker.

    Parameters
    ----------
    dataset_id : str
    tile : dict
        XY, Z and Time where the user stands.
    tags : list of str
        For the outlines that the worker makes.
    form : dict
        The values of the worker's form.
    """
    return {
        'datasetId': dataset_id,
        'type': 'segmentation',
        'id': 'page',
        'name': 'Objects like these',
        'image': IMAGE,
        'channel': 0,
        'assignment': tile,
        'tile': tile,
        'tags': tags,
        'workerInterface': dict(form),
        'connectTo': {'tags': [], 'layer': None, 'channel': None},
        'scales': {},
    }
