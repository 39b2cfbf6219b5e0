"""The errors that the user sees."""


class JobError(Exception):
    """A failure that the user can do something about.

    Parameters
    ----------
    message : str
        What happened, as one sentence.
    hint : str
        The value seen and what to do, as sentences.

    Examples
    --------
    >>> error = JobError('Model is not known.', hint='Choose one of: sam_vit_h_4b8939.')
    >>> str(error), error.hint
    ('Model is not known.', 'Choose one of: sam_vit_h_4b8939.')
    """

    def __init__(self, message: str, hint: str = '') -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BatchEndedError(JobError):
    """A frame failed, and the other frames would fail in the same way."""


class UnusablePolygonError(ValueError):
    """An annotation cannot be used. The text is the reason, as a phrase that can be counted."""
