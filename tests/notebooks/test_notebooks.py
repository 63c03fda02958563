"""The notebooks run from their first cell to the last, and are kept without outputs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_clean(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code(notebook))
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_exist(path: Path) -> None:
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return a function that runs a notebook where a user would, but for its surroundings."""
    nbclient = pytest.importorskip("nbclient")
    for name in ("PPI_MED_DATA", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))

    def run(path: Path) -> Any:
        notebook = read(path)
        resources = {"metadata": {"path": str(path.parent)}}
        nbclient.NotebookClient(notebook, timeout=1200, resources=resources).execute()
        return notebook

    return run


def outputs(notebook: Any, kind: str) -> list[str]:
    """Return the outputs of a MIME type."""
    found = [out for cell in code(notebook) for out in cell.outputs]
    return [out.data[kind] for out in found if kind in out.get("data", {})]


def files() -> set[Path]:
    """Return what a notebook could leave behind in the repository."""
    bundles = [ROOT / "bundles" / name for name in ("ga_ppi", "lidc_ppi")]
    left = [ROOT / "notebooks", ROOT / "data"]
    left += [folder for b in bundles for folder in (b, b / "models", b / "runs")]
    return {path for folder in left if folder.is_dir() for path in folder.iterdir()}


@pytest.mark.slow
def test_ga_ppi_runs_and_leaves_nothing(executed: Any, tmp_path: Path) -> None:
    before = files()
    notebook = executed(ROOT / "notebooks" / "01_ga_ppi.ipynb")
    tables = outputs(notebook, "text/html")
    assert len(tables) == 4
    assert all("plain" in table and "PPI" in table for table in tables[1:])
    assert len(outputs(notebook, "image/png")) == 3
    assert list((tmp_path / "tmpdir").glob("tmp*/data")) == []
    assert files() == before


@pytest.mark.slow
def test_which_map_runs_and_its_controls_fail(executed: Any) -> None:
    before = files()
    notebook = executed(ROOT / "notebooks" / "03_which_map.ipynb")
    tables = outputs(notebook, "text/html")
    assert len(tables) == 6
    assert len(outputs(notebook, "image/png")) == 2
    accuracy, energy, areas, sanity, _, _ = tables
    assert "tied habitat" in accuracy and "nothing known" in energy and "random" in areas
    (line,) = (row for row in sanity.split("<tr>") if "edge detector" in row)
    absolute, passes, signed, passes_signed = re.findall(r"<td>([^<]+)</td>", line)
    assert float(absolute) == float(signed) == 1
    assert passes == passes_signed == "False"
    assert files() == before
