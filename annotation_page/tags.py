"""The tags of a dataset: which one new outlines get, and which are shown."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nicegui import ui

from annotation_page.outlines import COUNTER_EXAMPLE, EXAMPLE, choose_colours

if TYPE_CHECKING:
    from annotation_page.page import Page

MAX_TAG_CHARACTERS = 60
HINTS = {EXAMPLE: 'objects to look for', COUNTER_EXAMPLE: 'objects to avoid'}
OUTPUT_HINT = 'results of the worker'


class TagsPanel:
    """The list of tags.

    Parameters
    ----------
    page : Page
    """

    def __init__(self, page: 'Page') -> None:
        self._page = page
        self.counts: dict[str, int] = {}
        self.colours: dict[str, str] = {}
        self._hidden: set[str] = set()
        self._shown: object = None
        with ui.element('section').classes('panel'):
            ui.label('1  Outline').classes('title')
            self._advice = ui.label().classes('note').props('data-testid=advice')
            self._rows = ui.element('div').classes('tags')
            self._new = (
                ui.input(placeholder='Add a tag')
                .props(f'dense borderless maxlength={MAX_TAG_CHARACTERS}')
                .classes('new-tag')
                .on('keydown.enter', self._add)
            )

    def show(self, counts: Mapping[str, int]) -> None:
        """Show the tags of the dataset with the number of their outlines."""
        self.counts = dict(counts)
        own = self._page.state.get('tags', [])
        output = self._page.run.output_tag
        others = sorted({*counts, *own, output} - {EXAMPLE, COUNTER_EXAMPLE})
        names = [EXAMPLE, COUNTER_EXAMPLE, *others]
        self.colours = {name: choose_colours(others)[name] for name in names}
        self._advise(counts.get(EXAMPLE, 0))
        new = (self.counts, self.colours, self._page.tag, frozenset(self._hidden))
        if new == self._shown:
            return
        self._shown = new
        self._page.viewer.run_method('setColours', self.colours, sorted(self._hidden))
        self._rows.clear()
        with self._rows:
            for number, name in enumerate(names, start=1):
                self._add_row(number, name)

    def _advise(self, examples: int) -> None:
        if examples == 0:
            text = 'Outline 5 to 20 typical objects in the image.'
        elif examples < 5:
            text = f'{examples} outlined. Outline at least 5, then press Run.'
        else:
            text = f'{examples} examples. Press Run below, or outline more.'
        self._advice.set_text(text)

    def _add_row(self, number: int, name: str) -> None:
        is_active = name == self._page.tag
        row = ui.element('div').classes('tag active' if is_active else 'tag')
        row.on('click', lambda: self._page.choose_tag(name))
        with row:
            is_output = name == self._page.run.output_tag
            dot = ui.element('i').classes('dot results' if is_output else 'dot')
            dot.style(f'background-color: {self.colours[name]}')
            ui.label(name).classes('tag-name')
            ui.label(OUTPUT_HINT if is_output else HINTS.get(name, '')).classes('tag-hint')
            ui.label(str(self.counts.get(name, 0))).classes('count')
            icon = 'visibility_off' if name in self._hidden else 'visibility'
            eye = ui.icon(icon).classes('eye')
            eye.on('click.stop', lambda: self._toggle(name))
            ui.label(str(number) if number < 10 else '').classes('key')

    def _toggle(self, name: str) -> None:
        """Hide or show the outlines of a tag."""
        self._hidden ^= {name}
        self.show(self.counts)

    def _add(self) -> None:
        name = str(self._new.value or '').strip()[:MAX_TAG_CHARACTERS]
        if not name:
            return
        self._new.set_value('')
        tags = [*self._page.state.get('tags', []), name]
        self._page.state['tags'] = list(dict.fromkeys(tags))
        self._page.workspace.save_state(self._page.dataset_id, tags=self._page.state['tags'])
        self._page.choose_tag(name)
