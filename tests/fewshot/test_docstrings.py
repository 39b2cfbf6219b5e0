"""The examples in the docstrings, run."""

import doctest
import importlib

import pytest

MODULES = [
    'fewshot.errors',
    'fewshot.geometry',
    'fewshot.sam.batches',
    'fewshot.sam.crops',
    'fewshot.sam.features',
    'fewshot.sam.masks',
    'fewshot.sam.proposals',
]


@pytest.mark.parametrize('name', MODULES)
def test_examples_in_docstrings_run(name):
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0
    assert failed == 0
