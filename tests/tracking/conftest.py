from __future__ import annotations

import pytest

from tests.tracking.stores import new_store


@pytest.fixture
def location(tmp_path):
    return new_store(tmp_path / "store")
