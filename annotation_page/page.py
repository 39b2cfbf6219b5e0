"""The page: images on the left, the viewer in the middle, tags, form and results on the right."""

import hashlib
import json
from typing import Any

from nicegui import events, ui

from annotation_page.channels import ChannelsPanel
from annotation_page.images import show_empty, show_images
from annotation_page.outlines import COUNTER_EXAMPLE, EXAMPLE, SIMILARITY, Edits, choose_colours
from annotation_page.results import ResultsPanel
from annotation_page.run_panel import RunPanel
from annotation_page.save_panel import SavePanel
from annotation_page.shortcuts import HelpDialog
from annotation_page.tags import TagsPanel
from annotation_page.tiles import SIDE, axis_lengths
from annotation_page.viewer import Viewer
from annotation_page.workspace import Workspace
from fewshot.geometry import Location

ACCENT = '#2ee6a6'
POLL_SECONDS = 0.4
DRAW, SELECT, MARK_EXAMPLE, MARK_COUNTER = 'draw', 'select', 'example', 'counter'
MODES = {
    DRAW: ('gesture', 'Outline', 'Drag around an object, or click its corners.', 'o'),
    SELECT: ('near_me', 'Select', 'Click an outline. Hold Shift to select more.', 'v'),
    MARK_EXAMPLE: ('thumb_up', 'Example', 'Click outlines that are good examples.', 'e'),
    MARK_COUNTER: ('thumb_down', 'Not this', 'Click outlines that are wrong.', 'n'),
}
TABS = {'settings': '2  Settings', 'look': '3  Look', 'save': '4  Save'}
SELECTED_HINT = 'Click a tag on the right to change it. Press Del to delete the outline.'
MODE_TAGS = {MARK_EXAMPLE: EXAMPLE, MARK_COUNTER: COUNTER_EXAMPLE}


def build_page(workspace: Workspace, dataset_id: str) -> None:
    """Build the page for one browser tab.

    Parameters
    ----------
    workspace : Workspace
    dataset_id : str
        The dataset to show. The first one if it does not exist.
    """
    ui.colors(
        primary=ACCENT, dark='#12161c', dark_page='#12161c', warning='#ffb454', negative='#ff8a80'
    )
    ui.add_head_html(
        '<link rel="stylesheet" href="/page-files/leaflet/leaflet.css">'
        '<link rel="stylesheet" href="/page-files/style.css">'
    )
    datasets = workspace.datasets
    if dataset_id not in datasets:
        dataset_id = next(iter(datasets), '')
    with ui.element('main').classes('page'):
        if dataset_id:
            Page(workspace, dataset_id).build()
        else:
            show_empty(workspace)


class Page:
    """One browser tab that shows one dataset.

    Parameters
    ----------
    workspace : Workspace
    dataset_id : str
    """

    def __init__(self, workspace: Workspace, dataset_id: str) -> None:
        self.workspace = workspace
        self.dataset_id = dataset_id
        self.metadata = workspace.metadata(dataset_id)
        self.state = workspace.state(dataset_id)
        self.location = Location(0, 0, 0)
        self.edits = Edits(workspace.store, dataset_id)
        self.selected: list[str] = []
        self.tag = EXAMPLE
        self._seen_changes = -1
        self._mode = SELECT
        self._mode_buttons: dict[str, ui.button] = {}

    def build(self) -> None:
        """Build all parts and start to follow changes."""
        with ui.element('aside').classes('left'):
            show_images(self.workspace, self.dataset_id)
            self.channels = ChannelsPanel(self)
        with ui.element('section').classes('middle'):
            self._build_toolbar()
            self._build_viewer()
            self._build_positions()
        with ui.element('aside').classes('right'):
            self.tags = TagsPanel(self)
            self._build_tabs()
            self.run.build_bar()
        self.help = HelpDialog()
        ui.timer(POLL_SECONDS, self._follow)

    def _build_tabs(self) -> None:
        with ui.tabs().props('dense no-caps inline-label align="justify"') as self.tabs:
            settings, look, save = (
                ui.tab(name, label=label).props(f'data-testid=tab-{name}')
                for name, label in TABS.items()
            )
        first = look if self.has_results else settings
        panels = ui.tab_panels(self.tabs, value=first, animated=False)
        with panels.classes('scroll').props('keep-alive'):
            with ui.tab_panel(settings):
                self.run = RunPanel(self)
            with ui.tab_panel(look):
                self.results = ResultsPanel(self)
            with ui.tab_panel(save):
                self.save = SavePanel(self)

    # Pixels and outlines

    @property
    def has_results(self) -> bool:
        """Whether a run has found something. A run gives scores to examples, too."""
        store, dataset_id = self.workspace.store, self.dataset_id
        others = store.count_tags(dataset_id).keys() - self.workspace.roles(dataset_id)
        return bool(others and store.property_values(dataset_id, limit=1))

    def address(self, kind: str) -> str:
        """Return the address of the tiles or outlines of the location that is shown."""
        place = self.location
        return f'/page/{self.dataset_id}/{kind}?xy={place.xy}&z={place.z}&t={place.time}'

    def show_tiles(self) -> None:
        """Show the pixels of the location, with the layers as they are now."""
        layers = json.dumps(self.workspace.layers(self.dataset_id))
        version = hashlib.sha256(layers.encode()).hexdigest()[:12]
        template = f'{self.address("tile")}&v={version}' + '&level={level}&x={x}&y={y}'
        self.viewer.run_method('showTiles', template)

    def show_outlines(self) -> None:
        """Show the outlines of the location, and count those of the dataset."""
        self._seen_changes = self.workspace.store.changes
        counts = self.workspace.store.count_tags(self.dataset_id)
        self.tags.show(counts)
        self.run.offer_tags(list(self.tags.colours))
        self.save.offer_tags(list(self.tags.colours))
        has_results = self.has_results
        self.results.show(has_results)
        self.run.note_results(has_results)
        self.viewer.run_method('load', f'{self.address("outlines")}&v={self._seen_changes}')

    def go_to(self, **axes: int) -> None:
        """Show another location."""
        place = {'xy': self.location.xy, 'z': self.location.z, 'time': self.location.time}
        self.location = Location(**{**place, **axes})
        self.show_tiles()
        self.show_outlines()

    def _build_viewer(self) -> None:
        longest = max(self.metadata['sizeX'], self.metadata['sizeY'])
        image = {
            'width': self.metadata['sizeX'],
            'height': self.metadata['sizeY'],
            'levels': max(0, ((longest - 1) // SIDE).bit_length()),
            'side': SIDE,
        }
        colours = choose_colours([])
        keys = {key: mode for mode, (*_, key) in MODES.items()}
        self.viewer = Viewer(
            image,
            colours,
            self.state.get('score', SIMILARITY),
            self.state.get('threshold', 0.0),
            keys,
        )
        self.viewer.on('ready', self._start)
        self.viewer.on('mode', self._show_mode)
        self.viewer.on('outline', self._add_outline)
        self.viewer.on('select', self._select)
        self.viewer.on('mark', self._mark)
        self.viewer.on('key', self._press)
        self.viewer.on(
            'toosmall', lambda: ui.notify('This outline is too small. Zoom in with the wheel.')
        )

    def _start(self) -> None:
        """Show the dataset, once the viewer is in the browser."""
        self.show_tiles()
        self.show_outlines()
        self.viewer.run_method('setMode', SELECT if self.tags.counts else DRAW)

    def _build_positions(self) -> None:
        """Add a slider per axis that has several positions."""
        lengths = axis_lengths(self.metadata)
        with ui.element('div').classes('positions'):
            for axis, key in (('XY', 'xy'), ('Z', 'z'), ('Time', 'time')):
                if lengths[axis] > 1:
                    self._add_position(axis, key, lengths[axis])

    def _add_position(self, axis: str, key: str, length: int) -> None:
        label = ui.label(f'{axis} 1 of {length}').classes('position-label')

        def move(event: events.ValueChangeEventArguments) -> None:
            label.set_text(f'{axis} {int(event.value)} of {length}')
            self.go_to(**{key: int(event.value) - 1})

        ui.slider(min=1, max=length, step=1, value=1, on_change=move).props(
            f'dense aria-label="{axis}"'
        )

    def _follow(self) -> None:
        """Show what other tabs and the worker have changed, and how the job goes."""
        self.run.follow()
        if self._seen_changes not in (-1, self.workspace.store.changes):
            self.show_outlines()

    # Tools

    def _build_toolbar(self) -> None:
        with ui.element('div').classes('toolbar'):
            for mode, (icon, name, hint, key) in MODES.items():
                # The browser changes the tool at once: the next click may come before an answer.
                button = ui.button(name, icon=icon, color=None).on(
                    'click', js_handler=f"() => annotationViewer.setMode('{mode}')"
                )
                button.props('flat dense no-caps').props(f'data-testid=mode-{mode}')
                with button:
                    ui.tooltip(f'{hint} Key {key.upper()}')
                self._mode_buttons[mode] = button
            ui.element('div').classes('grow')
            for icon, hint, action in (
                ('undo', 'Undo (Ctrl+Z)', self.undo),
                ('delete', 'Delete the selected outlines (Del)', self.delete),
                ('visibility', 'Hide or show all outlines (H)', self.hide),
                ('fit_screen', 'Show the whole image (F)', self.fit),
                ('help_outline', 'Help (?)', lambda: self.help.open()),
            ):
                with ui.button(icon=icon, on_click=action, color=None).props(
                    f'flat dense round aria-label="{hint}"'
                ):
                    ui.tooltip(hint)
        self.hint = ui.label('').classes('hint')

    def _show_mode(self, event: events.GenericEventArguments) -> None:
        """Show the tool that the viewer has now."""
        self._mode_buttons[self._mode].classes(remove='active')
        self._mode = event.args
        self._mode_buttons[self._mode].classes(add='active')
        self.hint.set_text(MODES[self._mode][2])

    def choose_tag(self, tag: str) -> None:
        """Give the selected outlines a tag. New outlines get it, too."""
        self.tag = tag
        if self.selected:
            self.edits.tag(self.selected, tag)
        self.show_outlines()

    def delete(self) -> None:
        """Delete the selected outlines."""
        if not self.selected:
            ui.notify('Select an outline first: press V and click it.')
            return
        self.edits.remove(self.selected)
        self.show_outlines()

    def undo(self) -> None:
        """Take back the last change in this tab."""
        if self.edits.undo():
            self.show_outlines()
        else:
            ui.notify('There is nothing to undo in this tab.')

    def hide(self) -> None:
        """Hide or show all outlines."""
        self.viewer.run_method('hideAll')

    def fit(self) -> None:
        """Show the whole image."""
        self.viewer.run_method('fit')

    def _add_outline(self, event: events.GenericEventArguments) -> None:
        self.edits.add(event.args, self.tag, self.location)
        self.show_outlines()

    def _select(self, event: events.GenericEventArguments) -> None:
        self.selected = list(event.args)
        self.hint.set_text(SELECTED_HINT if self.selected else MODES[self._mode][2])

    def _mark(self, event: events.GenericEventArguments) -> None:
        self.edits.tag([event.args['id']], MODE_TAGS[event.args['mode']])
        self.show_outlines()

    def _press(self, event: events.GenericEventArguments) -> None:
        key = event.args
        actions: dict[str, Any] = {
            'delete': self.delete,
            'backspace': self.delete,
            'ctrl+z': self.undo,
            'h': self.hide,
            'f': self.fit,
            '?': self.help.open,
        }
        tags = list(self.tags.colours)
        if key in actions:
            actions[key]()
        elif key in list('123456789')[: len(tags)]:
            self.choose_tag(tags[int(key) - 1])
