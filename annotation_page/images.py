"""The list of images, and the way to add one."""

from collections.abc import AsyncIterator
from pathlib import Path

from nicegui import events, ui

from annotation_page.uploads import MAX_BYTES, describe_limit
from annotation_page.viewer import DropZone
from annotation_page.workspace import Workspace

SAMPLE = Path(__file__).parents[1] / 'tests' / 'data' / 'nuclei.tif'


def show_images(workspace: Workspace, dataset_id: str) -> None:
    """Add the list of images, with the one that is shown marked."""
    with ui.element('section').classes('panel images'):
        ui.label('SAM few-shot').classes('brand')
        ui.label('Images').classes('title')
        with ui.element('nav').classes('image-list'):
            for one, name in workspace.datasets.items():
                link = ui.link(name, f'/?dataset={one}').classes('image-link')
                if one == dataset_id:
                    link.classes('active')
        add_dropzone()


def add_dropzone() -> None:
    """Add the place to drop images. A new image is shown at once."""
    zone = DropZone(MAX_BYTES, describe_limit(MAX_BYTES))
    zone.on('added', lambda event: open_dataset(event.args))
    zone.on('failed', show_failure)


def show_failure(event: events.GenericEventArguments) -> None:
    """Say why an image was not added."""
    close = {'label': 'Close', 'color': 'dark'}
    ui.notify(
        str(event.args),
        type='negative',
        textColor='dark',
        actions=[close],
        timeout=0,
        position='top',
    )


def open_dataset(dataset_id: str) -> None:
    """Show another dataset."""
    ui.navigate.to(f'/?dataset={dataset_id}')


def show_empty(workspace: Workspace) -> None:
    """Fill the page of a folder without images: it says what to do first."""

    async def add_sample() -> None:
        async def read() -> AsyncIterator[bytes]:
            yield SAMPLE.read_bytes()

        open_dataset(await workspace.add_image(SAMPLE.name, read(), MAX_BYTES))

    with ui.element('div').classes('empty'):
        ui.label('SAM few-shot').classes('brand')
        ui.label('Outline a few objects, and get the others like them.').classes('lead')
        add_dropzone()
        if SAMPLE.exists():
            ui.button('Try it with a sample image', on_click=add_sample).props(
                'outline no-caps'
            ).props('data-testid=sample')
        ui.label(f'Images stay on this machine, in {workspace.folder.resolve()}.')
