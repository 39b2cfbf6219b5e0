"""The worker's form, built from the interface that the worker posts."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nicegui import events, ui

from annotation_page.outlines import COUNTER_EXAMPLE, EXAMPLE
from fewshot.sam.checkpoints import KNOWN, checkpoint_path
from fewshot.settings import BATCH_AXES

FIRST_FIELDS = 7  # shown; the others are folded


def sort_fields(interface: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of the fields in the order of the form.

    Fields without displayOrder come last, by name.

    Examples
    --------
    >>> sort_fields({'b': {}, 'a': {}, 'c': {'displayOrder': 0}})
    ['c', 'a', 'b']
    """
    return sorted(
        interface, key=lambda name: (interface[name].get('displayOrder', float('inf')), name)
    )


def choose_model(items: Sequence[str], exists: Callable[[str], bool]) -> str | None:
    """Return the first model whose file is there, in the order of the form.

    None if there is no such model.
    """
    return next((item for item in items if exists(item)), None)


def has_checkpoint(name: str) -> bool:
    """Return whether the file of a model is on this machine."""
    return name in KNOWN and os.path.exists(checkpoint_path(KNOWN[name]))


def describe_model(name: str) -> str:
    """Return what a model is, in one or two sentences. '' if it is not known."""
    if name not in KNOWN:
        return ''
    title = KNOWN[name].title
    text = f'{title[0].upper()}{title[1:]}.'
    is_small = KNOWN[name].costs is None
    return f'{text} For results, use a large model on a GPU.' if is_small else text


def propose_values(
    interface: Mapping[str, Mapping[str, Any]], saved: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the first value of each field.

    It is the saved one, else one that suits the page, else the default of the field.
    """
    proposals = {
        'Training Tag': [EXAMPLE],
        'Negative Tag': [COUNTER_EXAMPLE],
        'Model': choose_model(interface.get('Model', {}).get('items') or [], has_checkpoint),
        'Existing Outlines': 'replace earlier results',
        'Points per side': 32,  # sixteen times faster than the default
    }
    values = {}
    for name, field in interface.items():
        if field.get('type') == 'notes':
            continue
        items = field.get('items')
        value = saved.get(name, proposals.get(name))
        if value is None or (items and value not in items):
            value = field.get('default')
        values[name] = empty_value(field) if value is None else value
    return values


def empty_value(field: Mapping[str, Any]) -> Any:
    """Return the value of a field without a default."""
    empty: dict[str, Any] = {
        'number': field.get('min', 0),
        'text': '',
        'checkbox': False,
        'tags': [],
        'channel': 0,
        'channelCheckboxes': {},
    }
    return empty.get(str(field.get('type')))


class Form:
    """The fields of the form.

    Parameters
    ----------
    interface : dict
        {name: field}, as the worker posts it.
    saved : dict
        Values of an earlier run.
    tags : list of str
        The tags that the dataset has.
    layers : list of dict
        The layers of the dataset.
    lengths : dict
        {axis: number of positions}. Without a choice of positions, a field is not shown.
    """

    def __init__(
        self,
        interface: Mapping[str, Mapping[str, Any]],
        saved: Mapping[str, Any],
        tags: Sequence[str],
        layers: Sequence[Mapping[str, Any]],
        lengths: Mapping[str, int],
    ) -> None:
        self._interface = interface
        self.values = propose_values(interface, saved)
        self._tags = list(tags)
        self._layers = layers
        self._tag_selects: list[ui.select] = []
        names = sort_fields(interface)
        for name in names[:FIRST_FIELDS]:
            if lengths.get(BATCH_AXES.get(name, ''), 2) > 1:
                self._add(name)
        if names[FIRST_FIELDS:]:
            with ui.expansion('More settings').classes('fold').props('data-testid=more') as fold:
                fold.on(
                    'after-show',
                    js_handler=f'() => getHtmlElement({fold.id}).scrollIntoView()',
                )
                for name in names[FIRST_FIELDS:]:
                    self._add(name)

    @property
    def missing(self) -> list[str]:
        """The names of the required fields that are empty."""
        return [
            name
            for name, field in self._interface.items()
            if field.get('required') and self.values.get(name) in (None, '', [])
        ]

    def offer_tags(self, tags: Sequence[str]) -> None:
        """Offer the tags that the dataset has now."""
        for select in self._tag_selects:
            chosen = select.value or []
            options = list(dict.fromkeys([*tags, *chosen]))
            if options != select.options:
                select.set_options(options, value=chosen)

    def _add(self, name: str) -> None:
        """Add the element of a field, with its tooltip."""
        field = self._interface[name]
        builders = {
            'number': self._add_number,
            'text': self._add_text,
            'select': self._add_select,
            'checkbox': self._add_checkbox,
            'tags': self._add_tags,
            'channel': self._add_channel,
            'channelCheckboxes': self._add_channel_boxes,
            'layer': self._add_layer,
            'notes': self._add_notes,
        }
        with ui.element('div').classes('field') as row:
            builders.get(str(field.get('type')), self._add_text)(name, field)
            if field.get('tooltip'):
                with row:
                    ui.tooltip(str(field['tooltip'])).props(
                        'anchor="center left" self="center right" max-width="260px" delay="400"'
                    )

    def _keep(self, name: str) -> Callable[[events.ValueChangeEventArguments], None]:
        """Return a handler that keeps the value of a field."""
        return lambda event: self.values.update({name: event.value})

    def _label(self, name: str, field: Mapping[str, Any]) -> str:
        label = str((field.get('vueAttrs') or {}).get('label') or name)
        unit = f' ({field["unit"]})' if field.get('unit') else ''
        return f'{label}{unit}'

    def _add_number(self, name: str, field: Mapping[str, Any]) -> None:
        low, high, step = field.get('min'), field.get('max'), field.get('step')
        with ui.element('div').classes('number'):
            ui.label(self._label(name, field)).classes('number-label')
            slider = None
            if low is not None and high is not None:
                slider = ui.slider(min=low, max=high, step=step or (high - low) / 100)
                slider.props('dense')
            number = ui.number(
                value=self.values[name], min=low, max=high, step=step, on_change=self._keep(name)
            )
            number.props('dense borderless input-class="number-box"').props['aria-label'] = name
            if slider:
                slider.bind_value(number)

    def _add_text(self, name: str, field: Mapping[str, Any]) -> None:
        attributes = field.get('vueAttrs') or {}
        ui.input(
            self._label(name, field),
            value=self.values[name],
            placeholder=str(attributes.get('placeholder') or ''),
            on_change=self._keep(name),
        ).props('dense outlined stack-label').classes('wide')

    def _add_select(self, name: str, field: Mapping[str, Any]) -> None:
        items = list(field.get('items') or [])
        select = ui.select(
            items,
            label=self._label(name, field),
            value=self.values[name],
            on_change=self._keep(name),
        )
        select.props('dense outlined options-dense').classes('wide')
        if name == 'Model':
            ui.label().classes('note').bind_text_from(select, 'value', describe_model)

    def _add_checkbox(self, name: str, field: Mapping[str, Any]) -> None:
        ui.checkbox(
            self._label(name, field), value=self.values[name], on_change=self._keep(name)
        ).props('dense')

    def _add_tags(self, name: str, field: Mapping[str, Any]) -> None:
        options = list(dict.fromkeys([*self._tags, *self.values[name]]))
        select = ui.select(
            options,
            label=self._label(name, field) + (' *' if field.get('required') else ''),
            multiple=True,
            with_input=True,
            new_value_mode='add-unique',
            value=list(self.values[name]),
            on_change=lambda event: self.values.update({name: list(event.value or [])}),
        )
        select.props('dense outlined use-chips options-dense').classes('wide')
        self._tag_selects.append(select)

    def _add_channel(self, name: str, field: Mapping[str, Any]) -> None:
        options = {int(layer['channel']): str(layer['name']) for layer in self._layers}
        ui.select(
            options,
            label=self._label(name, field),
            value=self.values[name] if self.values[name] in options else None,
            on_change=self._keep(name),
        ).props('dense outlined options-dense').classes('wide')

    def _add_channel_boxes(self, name: str, field: Mapping[str, Any]) -> None:
        ui.label(self._label(name, field)).classes('number-label')
        for layer in self._layers:
            channel = str(layer['channel'])
            boxes = self.values[name]
            boxes.setdefault(channel, False)
            ui.checkbox(
                str(layer['name']),
                value=boxes[channel],
                on_change=lambda event, channel=channel, boxes=boxes: boxes.update(
                    {channel: event.value}
                ),
            ).props('dense')

    def _add_layer(self, name: str, field: Mapping[str, Any]) -> None:
        options = {str(layer['id']): str(layer['name']) for layer in self._layers}
        ui.select(
            options,
            label=self._label(name, field),
            clearable=True,
            value=self.values[name] if self.values[name] in options else None,
            on_change=self._keep(name),
        ).props('dense outlined options-dense').classes('wide')

    def _add_notes(self, name: str, field: Mapping[str, Any]) -> None:
        # The worker may send HTML here. The browser removes everything that could run.
        ui.html(str(field.get('value') or ''), sanitize=True).classes('note')
