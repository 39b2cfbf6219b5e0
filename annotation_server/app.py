"""The server as one ASGI application."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from annotation_server import annotations, datasets, jobs, properties
from annotation_server.faults import Faults, Rule
from annotation_server.refusals import RefusalError, answer_refusal
from annotation_server.store import Store


def create_app(
    store: Store,
    images: dict[str, Path],
    announce: Callable[[], None],
    may_write_properties: bool,
    workers: jobs.Jobs,
    rules: Sequence[Rule],
) -> ASGIApp:
    """Serve the datasets of a store, whose pixels lie in `images`, {dataset name: file}, under /api/v1.

    `announce` is called once, when requests are about to be answered. Without `may_write_properties`, properties,
    their values and the metadata of configurations can only be read. `workers` runs the jobs that are started. `rules`
    say which calls are harmed, and how.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        announce()
        yield

    app = FastAPI(title='Annotation server', openapi_url=None, lifespan=lifespan)
    app.state.store = store
    app.state.images = images
    app.state.may_write_properties = may_write_properties
    app.state.jobs = workers
    api = APIRouter(prefix='/api/v1')
    api.include_router(datasets.router)
    api.include_router(annotations.router)
    api.include_router(properties.router)
    api.include_router(jobs.router)
    app.include_router(api)
    for kind in (RefusalError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer_refusal)
    return Faults(app, rules) if rules else app
