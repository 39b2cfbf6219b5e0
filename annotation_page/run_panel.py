"""The worker's form and its job: Run, progress, notices, log and Cancel."""

from typing import TYPE_CHECKING

from nicegui import ui

from annotation_page.form import Form
from annotation_page.outlines import EXAMPLE, as_location
from annotation_page.runs import IMAGE, Run, describe_job
from annotation_page.tiles import axis_lengths

if TYPE_CHECKING:
    from annotation_page.page import Page

FOUND = 'found'


class RunPanel:
    """The form, and the bar with the buttons.

    Parameters
    ----------
    page : Page
    """

    def __init__(self, page: 'Page') -> None:
        self._page = page
        self._runs = page.workspace.runs
        self.form: Form | None = None
        self._run: Run | None = self._runs.last.get(page.dataset_id)
        self._notices_shown = 0
        self._was_active = False
        self._tags: list[str] = []
        self._output = ui.input(
            'Tag of the objects that are found', value=page.state.get('output', FOUND)
        )
        self._output.props('dense outlined stack-label maxlength=60').classes('wide')
        self._fields = ui.element('div').classes('fields')
        with self._fields:
            self._waiting = ui.label('Asking the worker for its form …').classes('note')
        self._show_form()

    @property
    def output_tag(self) -> str:
        """The tag of new outlines."""
        return str(self._output.value or '').strip() or FOUND

    def build_bar(self) -> None:
        """Add the bar with Run and Cancel, the progress and the log."""
        self._notices = ui.element('div').classes('notices').props('data-testid=notices')
        with ui.element('div').classes('run-bar'):
            with ui.element('div').classes('buttons'):
                self._start = ui.button('Run', icon='play_arrow', on_click=self._start_job)
                self._start.props('unelevated no-caps text-color=dark').props('data-testid=run')
                self._start.classes('run')
                self._cancel = ui.button('Cancel', on_click=self._cancel_job)
                self._cancel.props('outline no-caps').props('data-testid=cancel')
                ui.button('Log', on_click=self._show_log).props('flat no-caps').props(
                    'data-testid=log'
                )
            self._bar = ui.linear_progress(value=0, show_value=False, size='6px')
            self._bar.props('rounded instant-feedback')
            self._text = ui.label('').classes('progress-text').props('data-testid=progress')
        with ui.dialog() as self._log_dialog, ui.element('div').classes('dialog log'):
            ui.label('Log of the last run').classes('title')
            self._log = ui.element('pre')
            with self._log:
                self._log_text = ui.label('')
            ui.button('Close', on_click=self._log_dialog.close).props('flat no-caps')
        self._show_state()

    def offer_tags(self, tags: list[str]) -> None:
        """Offer tags in the fields of the form."""
        self._tags = tags
        if self.form:
            self.form.offer_tags(tags)

    def note_results(self, has_results: bool) -> None:
        """Name the button after what it does."""
        self._start.set_text('Run again' if has_results else 'Run')

    def follow(self) -> None:
        """Show the form when it is there, and what the job has printed."""
        if self.form is None:
            self._show_form()
        latest = self._runs.last.get(self._page.dataset_id)
        if latest is not self._run:  # started in another tab
            self._run = latest
            self._clear_notices()
        self._show_state()

    def _show_form(self) -> None:
        """Build the form once the worker has posted it."""
        asked = self._runs.interface
        if asked.is_active:
            return
        page = self._page
        interface = page.workspace.store.worker_interface(IMAGE)
        if not asked.is_done or interface is None:
            self._waiting.set_text(
                f'The worker did not start. The end of its log: {asked.read_log()[-600:]}'
            )
            return
        self._waiting.delete()
        with self._fields:
            self.form = Form(
                interface,
                page.state.get('form', {}),
                self._tags,
                page.workspace.layers(page.dataset_id),
                axis_lengths(page.metadata),
            )

    def _show_state(self) -> None:
        run = self._run
        is_active = run is not None and run.is_active
        self._start.set_enabled(self.form is not None and not is_active)
        self._cancel.set_enabled(is_active)
        if run is None:
            return
        run.follow()
        if self._was_active and not is_active and run.is_done:
            self._page.tabs.set_value('look')
        self._was_active = is_active
        self._bar.set_value(run.progress)
        self._text.set_text(run.text)
        for notice in run.notices[self._notices_shown :]:
            self._show_notice(**notice)
        self._notices_shown = len(run.notices)

    def _show_notice(self, kind: str, text: str, info: str) -> None:
        """Show a warning or an error of the worker until it is closed."""
        with self._notices, ui.element('div').classes(f'notice {kind}') as card:
            with ui.element('div'):
                ui.label(text)
                ui.label(info).classes('notice-info')
            ui.button(icon='close', on_click=card.delete).props(
                'flat dense round size=sm aria-label="Close"'
            )

    def _clear_notices(self) -> None:
        self._notices.clear()
        self._notices_shown = 0

    def _start_job(self) -> None:
        """Start the worker with the values of the form."""
        page = self._page
        assert self.form is not None
        if self.form.missing:
            ui.notify(f'Fill in {", ".join(self.form.missing)} first.', type='warning')
            return
        examples = self.form.values.get('Training Tag', [EXAMPLE])
        if not any(page.tags.counts.get(tag) for tag in examples):
            names = ', '.join(examples)
            ui.notify(
                f'No outline has the tag "{names}". Press O and drag around an object.',
                type='warning',
            )
            return
        page.workspace.save_state(page.dataset_id, form=self.form.values, output=self.output_tag)
        job = describe_job(
            page.dataset_id, as_location(page.location), [self.output_tag], self.form.values
        )
        self._run = self._runs.start(page.dataset_id, job)
        self._clear_notices()
        self._show_state()

    def _cancel_job(self) -> None:
        if self._run:
            self._run.cancel()

    def _show_log(self) -> None:
        log = self._run.read_log() if self._run else ''
        self._log_text.set_text(log or 'There was no run on this image yet.')
        self._log_dialog.open()
