"""Every name that a package offers can be imported from it."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

import ppi_med

PACKAGES = sorted(
    ["ppi_med"]
    + [found.name for found in pkgutil.walk_packages(ppi_med.__path__, "ppi_med.") if found.ispkg]
)


@pytest.mark.parametrize("name", PACKAGES)
def test_every_exported_name_is_there(name: str) -> None:
    package = import_module(name)
    missing = [one for one in getattr(package, "__all__", ()) if not hasattr(package, one)]
    assert not missing


def test_the_packages_are_found() -> None:
    assert {"ppi_med.data", "ppi_med.data.oct", "ppi_med.saliency.lrp"} <= set(PACKAGES)
