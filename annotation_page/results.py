"""The results: the histogram of a score, with the threshold."""

import json
from typing import TYPE_CHECKING

from nicegui import events, ui

from annotation_page.outlines import SCORES, SIMILARITY
from annotation_page.viewer import Histogram

if TYPE_CHECKING:
    from annotation_page.page import Page


class ResultsPanel:
    """The histogram, and what to do with it.

    Parameters
    ----------
    page : Page
    """

    def __init__(self, page: 'Page') -> None:
        self._page = page
        self.threshold: float = page.state.get('threshold', 0.0)
        self.score: str = page.state.get('score', SIMILARITY)
        self._empty = ui.label(
            'Nothing was found yet. Outline 5 to 20 objects and press Run. Then this shows how '
            'similar each object is to your examples.'
        ).classes('note')
        with ui.element('div') as self._found:
            ui.label('How similar the objects of this frame are to your examples:').classes('note')
            choice = ui.toggle(list(SCORES), value=self.score, on_change=self._choose_score)
            choice.props('dense no-caps unelevated')
            Histogram(self.score, self.threshold).on('change', self._save_threshold)
            for advice in (
                'Move the slider until only right outlines are left.',
                'Wrong ones among them? Choose Not this and click them.',
                'Missed ones? Outline them as examples. Then press Run again.',
            ):
                ui.label(advice).classes('note')

    def show(self, has_results: bool) -> None:
        """Show the histogram if there are results."""
        self._empty.set_visibility(not has_results)
        self._found.set_visibility(has_results)

    def _choose_score(self, event: events.ValueChangeEventArguments) -> None:
        self.score = event.value
        self._page.workspace.save_state(self._page.dataset_id, score=self.score)
        detail = json.dumps({'detail': self.score})
        ui.run_javascript(f'window.dispatchEvent(new CustomEvent("score", {detail}))')

    def _save_threshold(self, event: events.GenericEventArguments) -> None:
        self.threshold = float(event.args)
        self._page.workspace.save_state(self._page.dataset_id, threshold=self.threshold)
