"""Jobs, which are child processes of the server; routes to them and to workers' interfaces."""

import secrets
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request

from annotation_server.access import (
    Asker,
    CurrentStore,
    LoggedIn,
    require_login,
    require_read,
    require_write,
)
from annotation_server.refusals import (
    Body,
    RefusalError,
    parse_object,
    require_found,
    require_object_id,
)

router = APIRouter()

ROOT = Path(__file__).parents[1]  # of the repository: the worker is started there
INACTIVE, QUEUED, RUNNING, SUCCESS, ERROR = range(5)  # as Girder's job plugin counts
SECONDS_TO_END = 10.0  # for a worker, from SIGTERM to SIGKILL


class Jobs:
    """The jobs started since the server was: at most `at_once` run, the others wait in their order.

    A worker's output goes to <folder>/<job id>.out, its log to <folder>/<job id>.log. Methods may
    be called from any thread. After a restart no job is known any more: workers that run
    go on, as containers would, until they end by themselves; those that wait are dropped.

    Parameters
    ----------
    command : the program and those of its arguments that every job has.
    at_once : 0 for a user who may not start jobs.
    """

    def __init__(self, command: Sequence[str], at_once: int, folder: Path):
        self.at_once = at_once
        self._command = command
        self._folder = folder
        self._lock = threading.Lock()
        self._closed = False
        self._records: dict[str, dict[str, Any]] = {}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._threads = ThreadPoolExecutor(
            at_once or 1
        )  # one a child; a thread takes the job that has waited longest

    def start(self, title: str, arguments: Sequence[str | bytes]) -> dict[str, Any]:
        """Run the program with these further arguments; return the new job's record, `status` 0."""
        job_id = secrets.token_hex(12)
        record = {'_id': job_id, 'title': title, 'status': INACTIVE}
        self._folder.mkdir(exist_ok=True)
        with self._lock:
            self._records[job_id] = {**record, 'status': QUEUED}
            self._threads.submit(self._run, job_id, arguments)
        return record

    def find(self, job_id: str) -> dict[str, Any] | None:
        """The job's record as it is now, or None."""
        with self._lock:
            return dict(self._records[job_id]) if job_id in self._records else None

    def records(self) -> list[dict[str, Any]]:
        """The records of all jobs, oldest first."""
        with self._lock:
            return [dict(record) for record in self._records.values()]

    def close(self) -> None:
        """Drop the jobs that wait; end those that run: SIGTERM, SIGKILL after SECONDS_TO_END."""
        with self._lock:
            self._closed = True
            running = tuple(self._running)
        self._threads.shutdown(wait=False, cancel_futures=True)
        deadline = time.monotonic() + SECONDS_TO_END
        try:
            for process in running:
                process.terminate()
            for process in running:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        finally:  # also where a second signal to the server ends the wait
            for process in running:
                process.kill()  # which does nothing to one that has ended
            self._threads.shutdown()

    def _run(self, job_id: str, arguments: Sequence[str | bytes]) -> None:
        """Run a job's worker from its start to its end."""
        with (
            (self._folder / f'{job_id}.out').open('wb') as out,
            (self._folder / f'{job_id}.log').open('wb') as log,
        ):
            command = [*self._command, *arguments]
            with self._lock:
                if self._closed:
                    return
                record = self._records[job_id]
                try:
                    process = subprocess.Popen(
                        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=log
                    )
                except (
                    OSError,
                    ValueError,
                ) as error:  # no such program, or arguments that no program can be given
                    log.write(f'The worker did not start: {error}\n'.encode())
                    record['status'] = ERROR
                    return
                self._running.add(process)
                record['status'] = RUNNING
            status = process.wait()
        with self._lock:
            self._running.remove(process)
            record['status'] = ERROR if status else SUCCESS


@router.post('/upenn_annotation/compute')
def start_job(
    request: Request, store: CurrentStore, user: LoggedIn, body: Body, datasetId: str | None = None
) -> list[dict[str, Any]]:
    """Start a worker, which gets the body as its parameters word for word; do not wait for it.

    Whatever image the parameters name, the worker is the one that this server was started with. It
    gets the token of the user who asks. The answer is a list with the job's record.
    """
    jobs: Jobs = request.app.state.jobs
    if not jobs.at_once:
        raise RefusalError(403, 'Write access denied: this user may not start jobs.', 'access')
    if datasetId is None:
        raise RefusalError(400, 'Missing datasetId parameter')
    require_object_id(datasetId)
    if store.dataset(datasetId) is None:
        raise RefusalError(400, 'Invalid dataset id in annotation', 'validation')
    require_write(user, user.level, 'folder', datasetId)
    parameters = parse_object(body)
    if not isinstance(parameters.get('image'), str):
        raise RefusalError(400, 'Invalid segmentation tool: no image', 'validation')
    access = ['--token', user.token, '--request', 'compute']
    return [
        jobs.start(
            parameters.get('name', ''), [*access, '--parameters', body, '--datasetId', datasetId]
        )
    ]


@router.get('/job')
def list_jobs(request: Request, user: Asker) -> list[dict[str, Any]]:
    """All jobs since the server's start, oldest first: an addition of our own, for tests."""
    require_read(user, user.level, 'job', 'list')
    return request.app.state.jobs.records()


@router.get('/job/{jobId}')
def get_job(jobId: str, request: Request, user: Asker) -> dict[str, Any]:
    """Return a job's record: 0 inactive, 1 queued, 2 running, 3 success, 4 error. For tests."""
    record = require_found(request.app.state.jobs.find(jobId), 'job', jobId)
    require_read(user, user.level, 'job', jobId)
    return record


@router.get('/worker_interface')
def get_worker_interface(image: str, store: CurrentStore, user: Asker) -> dict[str, Any] | None:
    """The form of the worker that this image holds; null where none was stored."""
    require_read(user, user.level, 'worker_interface', image)
    return store.worker_interface(image)


@router.post('/worker_interface', dependencies=[Depends(require_login)])
def set_worker_interface(image: str, store: CurrentStore, body: Body) -> dict[str, Any]:
    """Store the form of a worker in place of its last one."""
    interface = parse_object(body)
    store.set_worker_interface(image, interface)
    return {'image': image, 'interface': interface}
