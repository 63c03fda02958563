"""The notebook on weak segmentation of CT: its tables, and what it says without the outlines."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from ppi_med.data.lidc.annotations import database_path
from tests.notebooks.test_notebooks import ROOT, code, executed, files, outputs

__all__ = ["executed"]  # a fixture

NOTEBOOK = ROOT / "notebooks" / "02_lidc_weak_segmentation.ipynb"


def rows(table: str) -> dict[str, list[str]]:
    """Return the cells of an HTML table by the name of the row."""
    found = {}
    for line in re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL):
        name, *cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, re.DOTALL)
        found[name] = cells
    return found


def first(table: str) -> dict[str, float]:
    """Return the number that the first column begins with, by the name of the row."""
    found = {name: re.match(r"-?[\d.]+", cells[0]) for name, cells in rows(table).items() if cells}
    return {name: float(match[0]) for name, match in found.items() if match}


@pytest.mark.slow
def test_weak_segmentation_runs_and_leaves_nothing(executed: Any, tmp_path: Path) -> None:  # noqa: F811
    for name in ("zarr", "highdicom"):
        pytest.importorskip(name)
    try:
        database_path()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    before = files()
    notebook = executed(NOTEBOOK)
    text = "".join(
        out.get("text", "") for cell in code(notebook) for out in cell.outputs if "text" in out
    )
    assert "203 slices, 616 outlines, 208 patches" in text
    assert "expected validation: a rule is chosen on validation patients alone." in text
    for name in ("mask.seg.dcm", "map.pm.dcm", "mask.nii.gz", "map.nii.gz"):
        assert f"{name}: " in text
    assert float(re.findall(r"(\d+) mm² in the mask", text)[0]) > 0

    counts, auc, centred, shifted, differences = outputs(notebook, "text/html")
    assert {name: cells[0] for name, cells in rows(counts).items() if cells[0].isdigit()} == {
        "training": "40",
        "validation": "16",
        "test": "24",
    }
    tested = {
        name: float(cells[1]) for name, cells in rows(auc).items() if name in ("plain", "PPI")
    }
    assert set(tested) == {"plain", "PPI"} and min(tested.values()) > 0.6

    names = ("WBP", "WBP averaged", "GradCAM", "gradient")
    maps = {f"{one}, {name}" for one in tested for name in names}
    floors = {"disc", "HU component", "HU component in disc", "random map"}
    ceiling = "readers among themselves"
    for table in (centred, shifted):
        dice = first(table)
        assert set(dice) == {ceiling, *floors, *maps}
        # What the readers drew, which no network changes.
        assert dice[ceiling] == pytest.approx(0.81, abs=0.01)
        assert max(dice[name] for name in maps | floors) < dice[ceiling]
        assert dice["plain, WBP"] > dice["random map"] + 0.2
        chosen = rows(table)
        assert all(chosen[name][-1] for name in maps | floors) and not chosen[ceiling][-1]
    # Knowing the place is worth much where the lesion is in the middle, and nothing elsewhere.
    assert first(centred)["disc"] > 0.5 and first(shifted)["disc"] < 0.3
    gain = first(differences)["plain, WBP - disc"]
    assert gain == pytest.approx(first(centred)["plain, WBP"] - first(centred)["disc"], abs=0.011)

    assert len(outputs(notebook, "image/png")) == 3
    assert list((tmp_path / "tmpdir").glob("tmp*/data")) == []
    assert files() == before


@pytest.mark.slow
def test_without_the_outlines_it_says_so(
    executed: Any,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exceptions = pytest.importorskip("nbclient.exceptions")
    package = tmp_path / "without" / "pylidc"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package.parent), str(ROOT)]))
    with pytest.raises(exceptions.CellExecutionError, match="This notebook is skipped. No annot"):
        executed(NOTEBOOK)
