"""The channels of a dataset: visible, colour and contrast, as the worker will see them."""

from typing import TYPE_CHECKING, Any

import numpy as np
from nicegui import events, ui

from annotation_page.tiles import count_pages, find_frame, read_sample

if TYPE_CHECKING:
    from annotation_page.page import Page


class ChannelsPanel:
    """One row per layer. Every change is saved as the dataset's configuration.

    Parameters
    ----------
    page : Page
    """

    def __init__(self, page: 'Page') -> None:
        self._page = page
        self._layers = page.workspace.layers(page.dataset_id)
        with ui.element('section').classes('panel'):
            ui.label('Channels').classes('title')
            ui.label('The worker sees the image with these colours.').classes('note')
            pages = count_pages(page.metadata)
            if pages > 1:
                ui.label(
                    f'Only the first of {pages} pages is shown. In ImageJ, make a stack with '
                    'channels, Z or time of them, and save it as TIFF.'
                ).classes('warning-note')
            for layer in self._layers:
                self._add_row(layer)

    def _add_row(self, layer: dict[str, Any]) -> None:
        name = str(layer.get('name') or f'Channel {layer["channel"] + 1}')
        with ui.element('div').classes('channel'):
            with ui.element('div').classes('channel-head'):
                ui.checkbox(
                    name,
                    value=bool(layer.get('visible')),
                    on_change=lambda event: self._save(layer, visible=event.value),
                ).props('dense')
                colour = ui.element('input').props('type=color').classes('colour')
                colour.props['value'] = str(layer.get('color') or '#ffffff').lower()
                colour.props['aria-label'] = f'Colour of {name}'
                colour.on(
                    'change',
                    lambda event: self._save(layer, color=event.args.upper()),
                    js_handler='(event) => emit(event.target.value)',
                )
            self._add_contrast(layer, name)

    def _add_contrast(self, layer: dict[str, Any], name: str) -> None:
        contrast = layer['contrast']
        low, high, step = self._limits(layer)
        label = ui.label(describe_contrast(contrast)).classes('contrast-label')

        def save(event: events.ValueChangeEventArguments) -> None:
            changed = {
                **layer['contrast'],
                'blackPoint': event.value['min'],
                'whitePoint': event.value['max'],
            }
            label.set_text(describe_contrast(changed))
            self._save(layer, contrast=changed)

        value = {'min': contrast['blackPoint'], 'max': contrast['whitePoint']}
        contrast_range = ui.range(min=low, max=high, step=step, value=value, on_change=save)
        contrast_range.props('dense').props['aria-label'] = f'Contrast of {name}'

    def _limits(self, layer: dict[str, Any]) -> tuple[float, float, float]:
        """Return the least and the largest black and white point, and the step."""
        contrast = layer['contrast']
        if contrast['mode'] == 'percentile':
            return 0, 100, 0.1
        page = self._page
        frame = find_frame(page.metadata, page.location, layer['channel'])
        path = page.workspace.image(page.dataset_id)
        pixels = read_sample(path, path.stat().st_mtime, frame)
        values = pixels[np.isfinite(pixels)]
        points = contrast['blackPoint'], contrast['whitePoint']
        low = float(min(*points, values.min(initial=0)))
        high = float(max(*points, values.max(initial=1)))
        is_whole = np.issubdtype(pixels.dtype, np.integer)
        return low, high, 1 if is_whole else (high - low) / 200

    def _save(self, layer: dict[str, Any], **values: Any) -> None:
        layer.update(values)
        self._page.workspace.save_layers(self._page.dataset_id, self._layers)
        self._page.show_tiles()


def describe_contrast(contrast: dict[str, Any]) -> str:
    """Return black and white point as text.

    Examples
    --------
    >>> describe_contrast({'mode': 'percentile', 'blackPoint': 0.1, 'whitePoint': 99.9})
    'black 0.1 %, white 99.9 %'
    """
    unit = ' %' if contrast['mode'] == 'percentile' else ''
    black, white = contrast['blackPoint'], contrast['whitePoint']
    return f'black {black:g}{unit}, white {white:g}{unit}'
