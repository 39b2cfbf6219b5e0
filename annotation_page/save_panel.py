"""The files to take home."""

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from nicegui import events, ui

from annotation_page.outlines import COUNTER_EXAMPLE

if TYPE_CHECKING:
    from annotation_page.page import Page

FORMATS = {
    'geojson': ('QuPath', 'GeoJSON with classes and scores'),
    'imagej': ('ImageJ', 'a set of ROIs for the ROI Manager'),
    'labels': ('Label image', 'a TIFF per frame: each object has its number'),
    'csv': ('Table', 'CSV with area, centroid and scores'),
}


class SavePanel:
    """The choice of tags, and a button per format.

    Parameters
    ----------
    page : Page
    """

    def __init__(self, page: 'Page') -> None:
        self._page = page
        self._excluded = {COUNTER_EXAMPLE}
        ui.label(
            'Outlines of all frames are saved, without the results that the slider of Look hides.'
        ).classes('note')
        self._tags = ui.select([], label='With these tags', multiple=True, on_change=self._choose)
        self._tags.props('dense outlined use-chips options-dense').classes('wide')
        with ui.element('div').classes('formats'):
            for kind, (name, hint) in FORMATS.items():
                button = ui.button(name, on_click=lambda kind=kind: self._save(kind))
                button.props('outline dense no-caps').props(f'data-testid=save-{kind}')
                ui.label(hint).classes('note')

    def offer_tags(self, tags: list[str]) -> None:
        """Offer the tags of the dataset. Counter-examples are not saved unless chosen."""
        if tags != self._tags.options:
            self._tags.set_options(tags, value=[tag for tag in tags if tag not in self._excluded])

    def _choose(self, event: events.ValueChangeEventArguments) -> None:
        self._excluded = (self._excluded | set(self._tags.options)) - set(event.value or [])

    def _save(self, kind: str) -> None:
        """Let the browser save a file with the outlines that are shown."""
        if not any(self._page.tags.counts.get(tag) for tag in self._tags.value):
            ui.notify('No outline has one of these tags. Choose other tags.', type='warning')
            return
        results = self._page.results
        limit = [('score', results.score), ('threshold', str(results.threshold))]
        query = [*limit, *(('tag', tag) for tag in self._tags.value)]
        ui.download.from_url(f'/page/{self._page.dataset_id}/export/{kind}?{urlencode(query)}')
