"""The notebook that compares sites: a tiny sweep, its tables, and the same from its database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.notebooks.test_notebooks import ROOT, code, executed, files, outputs

__all__ = ["executed"]  # a fixture


@pytest.mark.slow
def test_compare_sites_runs_and_leaves_nothing(executed: Any, tmp_path: Path) -> None:  # noqa: F811
    before = files()
    notebook = executed(ROOT / "notebooks" / "04_compare_sites.ipynb")
    text = "".join(
        out.get("text", "") for cell in code(notebook) for out in cell.outputs if "text" in out
    )
    assert "4 cells, 0 failed" in text
    assert "nothing was trained: True" in text
    assert "the same tables: True" in text
    assert "python -m monai.bundle run" in text
    (table,) = outputs(notebook, "text/markdown")
    assert "ppi_wbp_shared" in table and "other sites" in table
    assert len(outputs(notebook, "image/png")) == 1
    assert list((tmp_path / "tmpdir").glob("tmp*/data")) == []
    assert files() == before
