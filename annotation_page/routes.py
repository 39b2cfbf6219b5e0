"""What the browser loads besides the page itself: tiles, outlines, exports; and uploads."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from annotation_page import exports
from annotation_page.outlines import SIMILARITY, as_location, describe_outlines, read_scores
from annotation_page.tiles import draw_tile
from annotation_page.uploads import MAX_BYTES, UploadError
from annotation_page.workspace import Workspace
from fewshot.geometry import Location

MAX_LEVEL = 20


def make_router(workspace: Workspace, upload_limit: int = MAX_BYTES) -> APIRouter:
    """Return the routes below /page.

    Parameters
    ----------
    workspace : Workspace
    upload_limit : int
        Bytes that a new image may have.
    """
    router = APIRouter(prefix='/page')

    @router.get('/{dataset_id}/tile')
    def get_tile(
        dataset_id: str,
        xy: int,
        z: int,
        t: int,
        level: Annotated[int, Query(ge=0, le=MAX_LEVEL)],
        x: int,
        y: int,
    ) -> Response:
        layers = workspace.visible_layers(dataset_id)
        path = workspace.image(dataset_id)
        png = draw_tile(path, Location(xy, z, t), layers, level, x, y)
        # The address has a number that changes with the layers.
        return Response(
            png, media_type='image/png', headers={'Cache-Control': 'private, max-age=3600'}
        )

    @router.get('/{dataset_id}/outlines')
    def get_outlines(dataset_id: str, xy: int, z: int, t: int) -> Response:
        workspace.image(dataset_id)
        found = workspace.store.annotations_at(dataset_id, as_location(Location(xy, z, t)))
        outlines = describe_outlines(
            found, read_scores(workspace.store, dataset_id), workspace.roles(dataset_id)
        )
        return Response(orjson.dumps(outlines), media_type='application/json')

    @router.get('/{dataset_id}/export/{kind}')
    def get_export(
        dataset_id: str,
        kind: exports.Kind,
        score: str = SIMILARITY,
        threshold: float = 0.0,
        tag: Annotated[list[str] | None, Query()] = None,
    ) -> Response:
        name = workspace.datasets[dataset_id]
        metadata = workspace.metadata(dataset_id)
        objects = exports.select_objects(
            workspace.store.annotations_at(dataset_id, {}),
            read_scores(workspace.store, dataset_id),
            workspace.roles(dataset_id),
            tags=tag or [],
            score=score,
            threshold=threshold,
        )
        size = metadata['sizeX'], metadata['sizeY']
        file_name, content = exports.export(kind, name, objects, size)
        return Response(
            content,
            media_type='application/octet-stream',
            headers={'Content-Disposition': exports.disposition(file_name)},
        )

    @router.post('/images')
    async def add_image(request: Request, name: str) -> dict[str, Any]:
        dataset_id = await workspace.add_image(name, request.stream(), upload_limit)
        return {'dataset': dataset_id}

    return router


def answer_lookup_error(request: Request, error: Exception) -> Response:
    """Answer a request for something that does not exist."""
    return JSONResponse({'message': str(error)}, 404)


def answer_upload_error(request: Request, error: Exception) -> Response:
    """Answer a request with an image that cannot be added."""
    return JSONResponse({'message': str(error)}, 400)


HANDLERS = {LookupError: answer_lookup_error, UploadError: answer_upload_error}
