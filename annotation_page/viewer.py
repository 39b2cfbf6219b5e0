"""The two elements of the page that are drawn in the browser."""

from pathlib import Path

from nicegui import ui
from nicegui.elements import leaflet

# NiceGUI's wheel has Leaflet. Importing its package makes it known to the browser.
LEAFLET = Path(leaflet.__file__).parent / 'dist' / 'leaflet'


class Viewer(ui.element, component='viewer.js'):
    """The image with its outlines.

    Its events are `ready`, `mode` (the tool), `outline` (the points of a new outline), `select`
    (ids), `mark` (the id of an outline, and the tool), `key` (the name of a key) and `toosmall`.

    Parameters
    ----------
    image : dict
        width, height, levels (how often it is halved until it fits a tile) and side (of a tile).
    colours : dict
        {tag: colour}.
    score : str
        Name of the score that colours the results.
    threshold : float
        Results with a lower score are hidden.
    modes : dict
        {key: the tool that it chooses}.
    """

    def __init__(
        self,
        image: dict[str, int],
        colours: dict[str, str],
        score: str,
        threshold: float,
        modes: dict[str, str],
    ) -> None:
        super().__init__()
        self._props['image'] = image
        self._props['colours'] = colours
        self._props['score'] = score
        self._props['threshold'] = threshold
        self._props['modes'] = modes


class Histogram(ui.element, component='histogram.js'):
    """The histogram of a score. Its event `change` has the threshold.

    Parameters
    ----------
    score : str
        Name of the score.
    threshold : float
    """

    def __init__(self, score: str, threshold: float) -> None:
        super().__init__()
        self._props['score'] = score
        self._props['threshold'] = threshold


class DropZone(ui.element, component='dropzone.js'):
    """Sends dropped images to the server.

    Its events are `added` (the id of the new dataset) and `failed` (the reason).

    Parameters
    ----------
    limit : int
        Bytes that an image may have.
    too_large : str
        Why a larger one is refused, after its name.
    """

    def __init__(self, limit: int, too_large: str) -> None:
        super().__init__()
        self._props['limit'] = limit
        self._props['tooLarge'] = too_large
