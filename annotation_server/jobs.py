"""Jobs, which are child processes of the server. Routes to jobs and to workers' interfaces."""

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

REPOSITORY = Path(__file__).parents[1]  # the worker is started in this folder
INACTIVE, QUEUED, RUNNING, SUCCESS, ERROR, CANCELED = range(6)  # the numbers of Girder's job plugin
SECONDS_TO_END = 10.0  # from SIGTERM to SIGKILL


class Jobs:
    """The jobs since the server was started. At most `at_once` run, the others wait in their order.

    A worker's output goes to <folder>/<job id>.out, its log to <folder>/<job id>.log. Methods may
    be called from any thread. If the server is killed, running workers go on until they end, as
    containers would. A restarted server does not know them, and waiting jobs are lost.

    Parameters
    ----------
    command : sequence of str
        The program, and the arguments that all jobs share.
    at_once : int
        Number of jobs that run at the same time. With 0, users may not start jobs.
    folder : Path
        Folder for the output of the jobs.
    """

    def __init__(self, command: Sequence[str], at_once: int, folder: Path):
        self.at_once = at_once
        self._command = command
        self._folder = folder
        self._lock = threading.Lock()
        self._closed = False
        self._records: dict[str, dict[str, Any]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}  # those that run
        self._cancelled: set[str] = set()  # those that were told to end
        # Each thread runs one child at a time and takes the job that has waited longest.
        self._threads = ThreadPoolExecutor(at_once or 1)

    def start(self, title: str, arguments: Sequence[str | bytes]) -> dict[str, Any]:
        """Run the program with these additional arguments. Return the new job's record."""
        job_id = secrets.token_hex(12)
        record = {'_id': job_id, 'title': title, 'status': INACTIVE}
        self._folder.mkdir(exist_ok=True)
        with self._lock:
            self._records[job_id] = {**record, 'status': QUEUED}
            self._threads.submit(self._run, job_id, arguments)
        return record

    def find(self, job_id: str) -> dict[str, Any] | None:
        """Return a copy of a job's record. None if there is no job with this id."""
        with self._lock:
            return dict(self._records[job_id]) if job_id in self._records else None

    def records(self) -> list[dict[str, Any]]:
        """Return copies of the records of all jobs, oldest first."""
        with self._lock:
            return [dict(record) for record in self._records.values()]

    def output_file(self, job_id: str) -> Path:
        """Return the file with what a job's worker printed. It may not exist yet."""
        return self._folder / f'{job_id}.out'

    def log_file(self, job_id: str) -> Path:
        """Return the file with the log of a job's worker. It may not exist yet."""
        return self._folder / f'{job_id}.log'

    def cancel(self, job_id: str) -> None:
        """End a job: with SIGTERM if it runs, else it does not start."""
        with self._lock:
            process = self._processes.get(job_id)
            if process is not None:
                self._cancelled.add(job_id)
                process.terminate()
            elif job_id in self._records and self._records[job_id]['status'] == QUEUED:
                self._records[job_id]['status'] = CANCELED

    def close(self, seconds: float = SECONDS_TO_END) -> None:
        """Drop the jobs that wait. End those that run: SIGTERM, and SIGKILL after these seconds."""
        with self._lock:
            self._closed = True
            running = tuple(self._processes.values())
        self._threads.shutdown(wait=False, cancel_futures=True)
        deadline = time.monotonic() + seconds
        try:
            for process in running:
                process.terminate()
            for process in running:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        finally:  # even if a second signal to the server ends the wait
            for process in running:
                process.kill()  # it does nothing if the process has ended
            self._threads.shutdown()

    def _run(self, job_id: str, arguments: Sequence[str | bytes]) -> None:
        """Run a job's worker from its start to its end."""
        with (
            self.output_file(job_id).open('wb') as out,
            self.log_file(job_id).open('wb') as log,
        ):
            command = [*self._command, *arguments]
            with self._lock:
                record = self._records[job_id]
                if self._closed or record['status'] == CANCELED:
                    return
                try:
                    process = subprocess.Popen(
                        command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=out, stderr=log
                    )
                except (OSError, ValueError) as error:
                    # The program does not exist, or it cannot get these arguments.
                    log.write(f'The worker did not start: {error}\n'.encode())
                    record['status'] = ERROR
                    return
                self._processes[job_id] = process
                record['status'] = RUNNING
            status = process.wait()
        with self._lock:
            del self._processes[job_id]
            if status:
                record['status'] = CANCELED if job_id in self._cancelled else ERROR
            else:
                record['status'] = SUCCESS


@router.post('/upenn_annotation/compute')
def start_job(
    request: Request, store: CurrentStore, user: LoggedIn, body: Body, datasetId: str | None = None
) -> list[dict[str, Any]]:
    """Start a worker and do not wait for it. Return a list with the job's record.

    The worker gets the body unchanged as its parameters, and the token of the user. The image that
    the parameters name is ignored: the worker is always the one that this server was started with.
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
    """Return all jobs since the server's start, oldest first. This route is only for tests."""
    require_read(user, user.level, 'job', 'list')
    return request.app.state.jobs.records()


@router.get('/job/{jobId}')
def get_job(jobId: str, request: Request, user: Asker) -> dict[str, Any]:
    """Return a job's record: 0 inactive, 1 queued, 2 running, 3 success, 4 error.

    5 is cancelled. For tests.
    """
    record = require_found(request.app.state.jobs.find(jobId), 'job', jobId)
    require_read(user, user.level, 'job', jobId)
    return record


@router.get('/worker_interface')
def get_worker_interface(image: str, store: CurrentStore, user: Asker) -> dict[str, Any] | None:
    """Return the form of the worker in an image. null if no form was stored."""
    require_read(user, user.level, 'worker_interface', image)
    return store.worker_interface(image)


@router.post('/worker_interface', dependencies=[Depends(require_login)])
def set_worker_interface(image: str, store: CurrentStore, body: Body) -> dict[str, Any]:
    """Store the form of a worker. It replaces the last one."""
    interface = parse_object(body)
    store.set_worker_interface(image, interface)
    return {'image': image, 'interface': interface}
