from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ppi_med.experiments.cross_site import start
from tests.bundles.tiny import SITES
from tests.experiments.cross_site.tiny import request_for
from tests.tracking.stores import new_store


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ppi_med.phantoms.oct.grid import Size
    from ppi_med.phantoms.oct.spec import OctPhantomSpec, choose_sites
    from ppi_med.phantoms.oct.write import make_oct_phantom

    folder = tmp_path_factory.mktemp("sweep") / "data"
    sites = choose_sites(SITES)
    size = Size(32, 40, 8)
    make_oct_phantom(OctPhantomSpec(sites, 14, (1, 1), size=size, seed=1, folds=3), folder)
    return folder


@pytest.fixture(scope="session")
def swept(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole sweep: 2 sites, 2 methods, 1 seed."""
    folder = tmp_path_factory.mktemp("swept")
    new_store(folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        _as_before(patch)
        result = start(request_for(phantom, folder))
    assert result.failed == {} and len(result.records) == 4
    return folder


@pytest.fixture(autouse=True)
def interpreter_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A bundle puts its folder on the path and says errors in its own way; a test leaves none."""
    _as_before(monkeypatch)
    yield


def _as_before(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sys, "path", list(sys.path))
    patch.setattr(sys, "excepthook", sys.excepthook)
