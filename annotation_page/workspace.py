"""The datasets of the served folder, as the page uses them."""

from collections.abc import AsyncIterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import large_image

from annotation_page import layers, uploads
from annotation_page.outlines import COLOURS
from annotation_page.runs import Runs
from annotation_server.jobs import Jobs
from annotation_server.store import Store
from annotation_server.users import User
from fewshot.images.layers import Layer

STATE = 'annotationPage'  # key of what the page remembers, in `meta` of the configuration


class Workspace:
    """The datasets, their layers, and what the page remembers of each.

    Parameters
    ----------
    store : Store
    files : dict
        {dataset name: its files}. New images are added.
    ids : dict
        {dataset name: id}. New images are added.
    jobs : Jobs
    folder : Path
        The served folder.
    """

    def __init__(
        self,
        store: Store,
        files: dict[str, list[Path]],
        ids: dict[str, str],
        jobs: Jobs,
        folder: Path,
    ) -> None:
        self.store = store
        self.jobs = jobs
        self._files = files
        self._ids = ids
        self.folder = folder

    @cached_property
    def user(self) -> User:
        """The owner. The page does everything in this user's name."""
        user = self.store.user_of_token(self.store.tokens()['owner'])
        assert user is not None
        return user

    @cached_property
    def runs(self) -> Runs:
        """The jobs of the worker. The first use asks the worker for its form."""
        return Runs(self.jobs, self.user)

    @property
    def datasets(self) -> dict[str, str]:
        """{id: name} of the datasets with an image, sorted by name."""
        names = sorted((name for name in self._ids if self._files.get(name)), key=str.lower)
        return {self._ids[name]: name for name in names}

    def image(self, dataset_id: str) -> Path:
        """Return the file of a dataset's image. Raise a LookupError if there is no such dataset."""
        if dataset_id not in self.datasets:
            raise LookupError('There is no such dataset.')
        return self._files[self.datasets[dataset_id]][0]

    def metadata(self, dataset_id: str) -> dict[str, Any]:
        """Return large_image's metadata of a dataset's image."""
        return large_image.open(self.image(dataset_id)).getMetadata()

    def layers(self, dataset_id: str) -> list[dict[str, Any]]:
        """Return the layers of a dataset. A dataset without any gets one per channel."""
        layers.ensure_view(self.store, self.user, dataset_id, self.metadata(dataset_id))
        return layers.list_layers(self.store, self.user, dataset_id)

    def visible_layers(self, dataset_id: str) -> list[Layer]:
        """Return the layers that the worker will merge."""
        channels = self.metadata(dataset_id).get('IndexRange', {}).get('IndexC', 1)
        return layers.visible_layers(self.layers(dataset_id), channels)

    def save_layers(self, dataset_id: str, records: list[dict[str, Any]]) -> None:
        """Save the layers as the dataset's configuration, where the worker finds them."""
        view = self.store.views(dataset_id, self.user)[0]
        self.store.set_layers(view['_id'], records)

    def state(self, dataset_id: str) -> dict[str, Any]:
        """Return what the page remembers of a dataset: tags, values of the form, threshold."""
        self.layers(dataset_id)  # makes the configuration that holds it
        return dict(self._configuration(dataset_id)['meta'].get(STATE) or {})

    def roles(self, dataset_id: str) -> set[str]:
        """Return the tags of examples and counter-examples: those that the form names."""
        form = self.state(dataset_id).get('form', {})
        named = [tag for value in form.values() if isinstance(value, list) for tag in value]
        return {*COLOURS, *named}

    def save_state(self, dataset_id: str, **values: Any) -> None:
        """Remember values. They replace those of the same name."""
        state = self.state(dataset_id) | values
        self.store.merge_configuration(self._configuration(dataset_id)['_id'], {STATE: state})

    def _configuration(self, dataset_id: str) -> Mapping[str, Any]:
        view = self.store.views(dataset_id, self.user)[0]
        configuration = self.store.configuration(view['configurationId'])
        assert configuration is not None
        return configuration

    async def add_image(self, name: str, body: AsyncIterator[bytes], limit: int) -> str:
        """Save an image in the folder and return the id of its new dataset.

        Raises
        ------
        annotation_page.uploads.UploadError
            It is no image, or it is too large.
        """
        dataset, path = await uploads.receive_image(self.folder, name, body, self._ids, limit)
        self._ids[dataset] = self.store.add_dataset(dataset, [path.name], [])
        self._files[dataset] = [path]
        return self._ids[dataset]
