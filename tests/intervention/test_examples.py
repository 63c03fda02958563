"""The examples in the docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from ppi_med import intervention

MODULES = [m.name for m in pkgutil.iter_modules(intervention.__path__, "ppi_med.intervention.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    count = sum(len(t.examples) for n in MODULES for t in finder.find(importlib.import_module(n)))
    assert count > 40
