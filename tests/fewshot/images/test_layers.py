import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fewshot import messages
from fewshot.errors import JobError
from fewshot.images.layers import (
    Layer,
    choose_layers,
    ensure_rgb,
    fix_contrast,
    merge_channel,
    stretch,
)
from tests.fewshot.anything import json_values, numbers

RECORD: dict[str, Any] = {
    'id': 'one',
    'name': 'DAPI',
    'visible': True,
    'channel': 0,
    'color': '#ff8000',
    'contrast': {'mode': 'percentile', 'blackPoint': 5, 'whitePoint': 95},
}
ABSOLUTE = {'mode': 'absolute', 'blackPoint': 100, 'whitePoint': 3000}
VIEW = {'configurationId': 'c'}
ORANGE = (1, 128 / 255, 0)


def choose(records: Any, views: Any = (VIEW,), channels: int = 2) -> tuple:
    """Choose the layers of a server with these records in the configuration."""
    configurations = {'c': {'meta': {'layers': records}}}
    server: Any = SimpleNamespace(
        list_views=lambda: list(views), read_configuration=configurations.__getitem__
    )
    return choose_layers(server, channels)


# The layers that the user sees


@pytest.mark.parametrize(
    ('records', 'views', 'expected'),
    [
        ([RECORD], [VIEW], [Layer(0, ORANGE, True, 5, 95)]),
        ([{**RECORD, 'color': 'ff8000'}], [VIEW], [Layer(0, ORANGE, True, 5, 95)]),
        ([{**RECORD, 'contrast': ABSOLUTE}], [VIEW], [Layer(0, ORANGE, False, 100, 3000)]),
        # The contrast of the view overrides that of the layer.
        (
            [RECORD],
            [{**VIEW, 'layerContrasts': {'one': ABSOLUTE}}],
            [Layer(0, ORANGE, False, 100, 3000)],
        ),
        (
            [RECORD],
            [{**VIEW, 'layerContrasts': {'two': ABSOLUTE}}],
            [Layer(0, ORANGE, True, 5, 95)],
        ),
        # The last used view counts.
        (
            [RECORD],
            [{'lastViewed': 1}, {**VIEW, 'lastViewed': 3}, {'lastViewed': math.nan}, {}],
            [Layer(0, ORANGE, True, 5, 95)],
        ),
        # Hidden layers and channels that the dataset lacks are left out.
        (
            [{**RECORD, 'visible': False}, {**RECORD, 'channel': 2}, {**RECORD, 'channel': 1}],
            [VIEW],
            [Layer(1, ORANGE, True, 5, 95)],
        ),
    ],
)
def test_visible_layers(records, views, expected):
    assert choose(records, views) == (expected, None)


@pytest.mark.parametrize(
    ('records', 'views', 'problem'),
    [
        ([RECORD], [], messages.NO_VIEW),
        ([{**RECORD, 'visible': False}], [VIEW], messages.NO_VISIBLE_LAYER),
        ([], [VIEW], messages.NO_VISIBLE_LAYER),
        (None, [VIEW], messages.NO_VISIBLE_LAYER),
    ],
)
def test_default_layers(records, views, problem):
    red, green, blue = (1, 0, 0), (0, 1, 0), (0, 0, 1)
    layers = [
        Layer(channel, color, True, 0.1, 99.9) for channel, color in enumerate((red, green, blue))
    ]
    assert choose(records, views, channels=3) == (layers, problem)
    white = Layer(0, (1, 1, 1), True, 0.1, 99.9)
    assert choose(records, views, channels=1) == ([white], problem)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'channel': '0'}, "'0' is not a channel"),
        ({'channel': 0.0}, '0.0 is not a channel'),
        ({'channel': True}, 'True is not a channel'),
        ({'channel': None}, 'empty is not a channel'),
        ({'color': 'red'}, "'red' is not a colour"),
        ({'color': 7}, '7 is not a colour'),
        ({'contrast': None}, 'empty is not a contrast'),
        ({'contrast': ['mode']}, "'mode'.* is not a contrast"),
        ({'contrast': {'mode': 'dark'}}, "'dark'.* is not a contrast"),
        ({'contrast': {'mode': 'absolute'}}, 'blackPoint'),
        ({'contrast': {**ABSOLUTE, 'blackPoint': math.nan}}, 'black point nan'),
        ({'contrast': {**ABSOLUTE, 'whitePoint': 1e308}}, r'white point 1e\+308'),
        ({'contrast': {**ABSOLUTE, 'whitePoint': 10**400}}, 'too large'),
        ({'contrast': {**RECORD['contrast'], 'blackPoint': -1}}, 'black point -1.0'),
        ({'contrast': {**RECORD['contrast'], 'whitePoint': 101}}, 'white point 101.0'),
        ({'contrast': {**RECORD['contrast'], 'blackPoint': 'low'}}, "'low'"),
    ],
)
def test_bad_layer_is_named(change, words):
    with pytest.raises(JobError, match=f"The layer 'DAPI' cannot be shown: .*{words}"):
        choose([{**RECORD, **change}])


@pytest.mark.parametrize(
    ('views', 'seen'),
    [
        ([3], '3'),
        ([{}], 'empty'),
        ([{'configurationId': 7}], '7'),
        ([{**VIEW, 'layerContrasts': [1]}], r'\[1\]'),
    ],
)
def test_bad_view_is_refused(views, seen):
    with pytest.raises(JobError, match=f'The view of the dataset cannot be read.*{seen}'):
        choose([RECORD], views)


views = json_values | st.lists(
    json_values
    | st.fixed_dictionaries(
        {},
        optional={
            'lastViewed': json_values,
            'configurationId': st.just('c') | json_values,
            'layerContrasts': json_values,
        },
    ),
    max_size=2,
)
contrasts = st.fixed_dictionaries(
    {},
    optional={
        'mode': st.sampled_from(['percentile', 'absolute']) | json_values,
        'blackPoint': numbers | json_values,
        'whitePoint': numbers | json_values,
    },
)
records = st.fixed_dictionaries(
    {},
    optional={
        'visible': st.booleans() | json_values,
        'channel': st.integers(-1, 2) | json_values,
        'color': st.just('#ff0000') | json_values,
        'id': json_values,
        'name': json_values,
        'contrast': json_values | contrasts,
    },
)
metas = st.fixed_dictionaries(
    {}, optional={'layers': json_values | st.lists(records | json_values, max_size=2)}
)
configurations = json_values | st.fixed_dictionaries({}, optional={'meta': json_values | metas})


@given(views | st.just([VIEW]), configurations)
@settings(max_examples=300)
def test_any_view_is_shown_or_refused(views, configuration):
    server: Any = SimpleNamespace(
        list_views=lambda: views, read_configuration=lambda id: configuration
    )
    try:
        layers, problem = choose_layers(server, channels=2)
    except JobError as refused:
        message, hint = refused.message, refused.hint
        assert message.startswith(('The view', 'The layer'))
        assert hint
        return
    assert problem or views
    assert {layer.channel for layer in layers} <= {0, 1}
    rgb = np.zeros((2, 3, 3), np.uint8)
    for layer in layers:
        merge_channel(rgb, np.arange(6, dtype=np.uint16).reshape(2, 3), layer)
    assert layers
    assert rgb.shape == (2, 3, 3)


# From intensities to colours


@pytest.mark.parametrize('is_percentile', [True, False])
def test_equal_black_and_white_is_a_threshold(is_percentile):
    image = np.array([[1.0, 5.0, 9.0]])
    level = 50 if is_percentile else 5
    layer = fix_contrast(image, Layer(0, (1, 1, 1), is_percentile, level, level))
    assert stretch(image, layer.black, layer.white).ravel().tolist() == [0, 0, 1]


def test_uniform_image_is_black():
    image = np.full((3, 3), 7, np.uint16)
    layer = fix_contrast(image, Layer(0, (1, 1, 1), True, 0.1, 99.9))
    assert not stretch(image, layer.black, layer.white).any()


def test_percentiles_ignore_odd_pixels_and_a_fourth_band():
    image = np.zeros((10, 10, 4), np.float32)
    image[..., :3] = np.arange(100).reshape(10, 10, 1)
    image[0, 0], image[9, 9], image[..., 3] = np.nan, np.inf, 1e6
    layer = fix_contrast(image, Layer(0, (1, 1, 1), True, 0, 100))
    assert layer == Layer(0, (1, 1, 1), False, 1, 98)


@pytest.mark.parametrize('is_percentile', [True, False])
def test_channel_is_the_same_in_slabs(is_percentile):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 4000, (37, 20)).astype(np.uint16)
    before = rng.integers(0, 255, (37, 20, 3)).astype(np.uint8)
    black, white = (5, 90) if is_percentile else (500, 3000)
    layer = Layer(0, (1, 0.5, 0), is_percentile, black, white)

    whole, in_slabs = before.copy(), before.copy()
    merge_channel(whole, image, layer)
    merge_channel(in_slabs, image, layer, slab_pixels=100)
    np.testing.assert_array_equal(in_slabs, whole)

    fixed = fix_contrast(image, layer)
    shown = np.rint(stretch(image, fixed.black, fixed.white) * (255, 127.5, 0))
    np.testing.assert_array_equal(whole, np.maximum(before, shown))


odd_pixels = st.sampled_from([np.nan, np.inf, -np.inf])
intensities = st.floats(-(2.0**99), 2.0**99, width=32) | odd_pixels
images = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=intensities)


@given(images, st.floats(0, 100), st.floats(0, 100), st.booleans())
def test_brightness_is_from_0_to_1(image, black, white, is_percentile):
    layer = fix_contrast(image, Layer(0, (1, 1, 1), is_percentile, black, white))
    shown = stretch(image, layer.black, layer.white)
    assert shown.shape == (*image.shape, 1)
    assert ((shown >= 0) & (shown <= 1)).all()
    assert (shown[~np.isfinite(image)] == 0).all()


@pytest.mark.parametrize(
    ('image', 'expected'),
    [
        (np.array([[7, 255]], np.uint8), [7, 255]),
        (np.array([[255, 256, 65535]], np.uint16), [0, 1, 255]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 1.2, 300, -5]], np.float64), [0, 1, 255, 0]),
        (np.array([[0, np.nan, np.inf, 1]], np.float16), [0, 0, 0, 255]),
    ],
)
def test_any_type_becomes_bytes(image, expected):
    rgb = ensure_rgb(image)
    assert rgb.dtype == np.uint8
    assert rgb.tolist() == [[[value] * 3 for value in expected]]


def test_bands_become_three():
    colours = np.random.default_rng(0).integers(0, 255, (4, 5, 4)).astype(np.uint8)
    np.testing.assert_array_equal(ensure_rgb(colours), colours[..., :3])
    np.testing.assert_array_equal(ensure_rgb(colours[..., :3]), colours[..., :3])
    np.testing.assert_array_equal(ensure_rgb(colours[..., :1]), np.repeat(colours[..., :1], 3, 2))


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((4, 5, 2), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((1, 4, 5, 3), np.uint8),
        np.zeros((0, 5), np.uint8),
        np.zeros((4, 5), np.int32),
        np.zeros((4, 5), bool),
        np.zeros((4, 5), complex),
    ],
)
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match='not an image') as caught:
        ensure_rgb(image)
    assert str(image.shape) in str(caught.value)
    assert str(image.dtype) in str(caught.value)
