import doctest
import importlib

import pytest

MODULES = [
    'fewshot.errors',
    'fewshot.geometry',
    'fewshot.images.layers',
    'fewshot.images.metadata',
    'fewshot.images.tiling',
    'fewshot.matching.duplicates',
    'fewshot.matching.examples',
    'fewshot.matching.prototype',
    'fewshot.polygons',
    'fewshot.settings',
]


@pytest.mark.parametrize('name', MODULES)
def test_examples_in_docstrings(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0
