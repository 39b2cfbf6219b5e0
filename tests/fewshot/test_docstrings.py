"""The examples in the docstrings, run."""

import doctest
import importlib

import pytest

from tests.worker import REPOSITORY

FILES = sorted((REPOSITORY / 'fewshot').rglob('*.py'))
MODULES = [
    '.'.join(file.relative_to(REPOSITORY).with_suffix('').parts)
    for file in FILES
    if '>>> ' in file.read_text()
]


@pytest.mark.parametrize('name', MODULES)
def test_examples_in_docstrings_are_true(name):
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0
    assert failed == 0


def test_examples_are_found():
    assert len(MODULES) > 10
