"""The examples in the docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from ppi_med import saliency

MODULES = [m.name for m in pkgutil.walk_packages(saliency.__path__, "ppi_med.saliency.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


@pytest.mark.parametrize("name", ["base", "wbp", "completeness", "target", "engine.forward"])
def test_there_are_examples(name: str) -> None:
    module = importlib.import_module(f"ppi_med.saliency.{name}")
    assert sum(len(test.examples) for test in doctest.DocTestFinder().find(module)) > 0
