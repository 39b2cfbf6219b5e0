"""The help panel with the keyboard shortcuts."""

from nicegui import ui

STEPS = (
    'Outline 5 to 20 typical objects: drag around each, or click its corners.',
    'Press Run. The worker outlines the objects that look like them.',
    'Move the slider until only right outlines are left.',
    'Mark wrong outlines with Not this, and missed ones with Outline. Press Run again.',
    'Save the result: QuPath, ImageJ, a label image or a table.',
)
KEYS = {
    'O': 'Outline',
    'V': 'Select',
    'E': 'Mark examples',
    'N': 'Mark wrong outlines',
    '1 to 9': 'Tag of the selected and of new outlines',
    'Del': 'Delete the selected outlines',
    'Ctrl+Z': 'Undo',
    'Enter, double click': 'Close the polygon',
    'Backspace': 'Remove the last corner',
    'Esc': 'Cancel the outline',
    'Wheel': 'Zoom',
    'Space + drag': 'Move the image while outlining',
    'F': 'Show the whole image',
    'H': 'Hide or show all outlines',
    '?': 'This help',
}


class HelpDialog:
    """A dialog with the steps and the keys."""

    def __init__(self) -> None:
        with ui.dialog() as self._dialog, ui.element('div').classes('dialog help'):
            ui.label('How it works').classes('title')
            with ui.element('ol'):
                for step in STEPS:
                    with ui.element('li'):
                        ui.label(step)
            ui.label('Keys').classes('title')
            with ui.element('div').classes('keys'):
                for key, meaning in KEYS.items():
                    ui.label(key).classes('kbd')
                    ui.label(meaning)
            ui.button('Close', on_click=self._dialog.close).props('flat no-caps')

    def open(self) -> None:
        """Show the dialog."""
        self._dialog.open()
