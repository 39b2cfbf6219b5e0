"""The layers of a dataset, as the page shows them and as the worker will see them."""

from collections.abc import Mapping
from typing import Any

from annotation_page.tiles import axis_lengths
from annotation_server.store import Store
from annotation_server.users import User
from fewshot.images.layers import DEFAULT_PERCENTILES, Layer, make_default_layers, read_layer


def describe_layers(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a layer per channel for the configuration of a new dataset.

    Parameters
    ----------
    metadata : dict
        large_image's metadata of the image.
    """
    names = metadata.get('channels') or []
    black, white = DEFAULT_PERCENTILES
    here = {'type': 'current', 'value': None}
    return [
        {
            'id': f'layer-{layer.channel}',
            'name': str(names[layer.channel])
            if layer.channel < len(names)
            else f'Channel {layer.channel + 1}',
            'channel': layer.channel,
            'color': '#' + bytes(round(255 * part) for part in layer.color).hex(),
            'visible': True,
            'contrast': {'mode': 'percentile', 'blackPoint': black, 'whitePoint': white},
            'xy': here,
            'z': here,
            'time': here,
        }
        for layer in make_default_layers(axis_lengths(metadata)['Channel'])
    ]


def ensure_view(store: Store, user: User, dataset_id: str, metadata: Mapping[str, Any]) -> None:
    """Give a dataset without a view a configuration with one layer per channel."""
    dataset = store.dataset(dataset_id)
    if dataset is not None and not store.views(dataset_id, user):
        configuration = {
            'name': f'{dataset["name"]} collection',
            'layers': describe_layers(metadata),
            'layerContrasts': {},
            'levels': {},
        }
        store.add_view(dataset_id, configuration)


def list_layers(store: Store, user: User, dataset_id: str) -> list[dict[str, Any]]:
    """Return the layers of a dataset's view, each with the contrast that the view shows."""
    view = store.views(dataset_id, user)[0]
    configuration = store.configuration(view['configurationId'])
    assert configuration is not None
    contrasts = view['layerContrasts']
    return [
        {**layer, 'contrast': contrasts.get(str(layer.get('id'))) or layer.get('contrast')}
        for layer in configuration['meta']['layers']
    ]


def visible_layers(records: list[dict[str, Any]], channels: int) -> list[Layer]:
    """Return the layers that the worker will merge. Without a visible one it takes them all.

    Raises
    ------
    fewshot.errors.JobError
        A layer cannot be read. The worker would refuse it, too.
    """
    layers = [
        read_layer(record, record['contrast'])
        for record in records
        if record.get('visible') and 0 <= record['channel'] < channels
    ]
    return layers or make_default_layers(channels)
