"""The server as one ASGI application."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from annotation_server import annotations, connections, datasets, files, jobs, properties, views
from annotation_server.refusals import RefusalError, answer_refusal
from annotation_server.store import Store


def create_app(
    store: Store,
    dataset_files: dict[str, list[Path]],
    announce: Callable[[], None],
    workers: jobs.Jobs,
) -> FastAPI:
    """Serve the datasets of a store under /api/v1.

    Parameters
    ----------
    store : Store
    dataset_files : dict
        {dataset name: its files}. The first file is the image that the dataset shows.
    announce : callable
        Called once, before the first request is answered.
    workers : Jobs
        Runs the jobs.

    Returns
    -------
    FastAPI
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        announce()
        yield

    app = FastAPI(title='Annotation server', openapi_url=None, lifespan=lifespan)
    app.state.store = store
    app.state.files = dataset_files
    app.state.jobs = workers
    api = APIRouter(prefix='/api/v1')
    for part in (datasets, files, views, annotations, connections, properties, jobs):
        api.include_router(part.router)
    app.include_router(api)
    for kind in (RefusalError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer_refusal)
    return app
