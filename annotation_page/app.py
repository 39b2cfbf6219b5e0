"""The page and the REST interface as one ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from nicegui import app as nicegui_app
from nicegui import ui

from annotation_page.guard import Guard, make_link
from annotation_page.page import build_page
from annotation_page.routes import HANDLERS, make_router
from annotation_page.viewer import LEAFLET
from annotation_page.workspace import Workspace

__all__ = ['add_page', 'make_link']


def add_page(api: FastAPI, ids: dict[str, str], folder: Path, port: int) -> Guard:
    """Return an application that serves the page besides the REST interface.

    Parameters
    ----------
    api : FastAPI
        The REST interface, as `annotation_server.app.create_app` makes it.
    ids : dict
        {dataset name: id}.
    folder : Path
        The served folder.
    port : int
        The server's port on this machine.
    """
    state = api.state
    workspace = Workspace(state.store, state.files, ids, state.jobs, folder)

    # Only the outer application gets the events of the server's start and end.
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with api.router.lifespan_context(api):
            yield

    app = FastAPI(openapi_url=None, lifespan=lifespan)
    app.include_router(make_router(workspace))
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)

    nicegui_app.add_static_files('/page-files/leaflet', LEAFLET)
    nicegui_app.add_static_file(
        local_file=Path(__file__).parent / 'style.css', url_path='/page-files/style.css'
    )

    @ui.page('/', title='SAM few-shot')
    def show(dataset: str = '') -> None:
        build_page(workspace, dataset)

    ui.run_with(app, dark=True, tailwind=False, show_welcome_message=False)
    return Guard(app, api, workspace.user.token, port)
