"""The benchmark of the extraction: what it compares, what misses its bar, and a small whole run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import _lidc_extract_child, lidc_extract
from ppi_med.data.lidc.annotations import database_path


def record(**changes: Any) -> dict[str, Any]:
    memory = [{"series": 15, "peak_mib": 300.0}, {"series": 60, "peak_mib": 310.0}]
    found = {"same_bytes": True, "memory": memory, "runs": [{"run": "one", "failures": 0}]}
    return {"pylidc": {"faster": 9.0}, "throughput": {**found, **changes}}


def test_nothing_is_missed() -> None:
    assert lidc_extract.verdicts(record()) == []


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"same_bytes": False}, "bytes"),
        ({"memory": [{"peak_mib": 300.0}, {"peak_mib": 316.0}]}, "300 to 316 MiB"),
        ({"runs": [{"run": "two", "failures": 1}]}, "two: 1 failures"),
    ],
)
def test_a_missed_bar_is_a_sentence(changed: dict[str, Any], sentence: str) -> None:
    (line,) = lidc_extract.verdicts(record(**changed))
    assert sentence in line


def test_too_slow_beside_pylidc() -> None:
    (line,) = lidc_extract.verdicts({"pylidc": {"faster": 7.96}})
    assert "8.0 x as fast as pylidc, below 8" in line


def test_differences_are_named() -> None:
    ours = {"a": np.zeros(2), "b": np.zeros(2), "c": np.zeros(2)}
    theirs = {"a": np.zeros(2), "b": np.ones(2), "d": np.zeros(2)}
    assert lidc_extract.differences(ours, ours) == []
    assert lidc_extract.differences(ours, theirs) == [
        "only one has c",
        "only one has d",
        "b differs",
    ]


def test_the_digest_sees_names_and_bytes(tmp_path: Path) -> None:
    def made(name: str, content: str) -> str:
        folder = tmp_path / name / content
        folder.mkdir(parents=True)
        (folder / name).write_text(content)
        return lidc_extract.digest(folder)

    assert len({made("a", "x"), made("b", "x"), made("a", "y")}) == 3


def test_the_window_is_filled_outside_the_slice() -> None:
    image = np.arange(200 * 200).reshape(200, 200)
    patch = _lidc_extract_child.window(image, (10, 190), -2000)
    assert patch.shape == (128, 128) and patch[64, 64] == image[10, 190]
    assert (patch[:54] == -2000).all() and (patch[:, 74:] == -2000).all()


def test_without_a_series_the_part_is_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PPI_MED_DATA", raising=False)
    assert lidc_extract.main(["--parts", "pylidc"]) == 0
    assert "give --dicom DIR" in capsys.readouterr().err
    assert lidc_extract.main(["--parts", "pylidc", "--check"]) == 1


@pytest.mark.slow
def test_a_small_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("distributed")
    try:
        database_path()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    file = tmp_path / "figures.json"
    lidc_extract.main(["--parts", "throughput", "--series", "8", "--json", str(file)])
    found = json.loads(file.read_text())["throughput"]
    assert found["same_bytes"] and set(found["digests"]) == {*lidc_extract.RUNS, "killed twice"}
    assert [run["scans"] for run in found["runs"]] == [8, 8, 8]
    assert "the same bytes" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.data
def test_the_patches_are_pylidcs(data_root: Path, tmp_path: Path) -> None:
    tree = data_root / "lidc_dicom" / "LIDC-IDRI-0001"
    found = lidc_extract.beside_pylidc(tree, 1, tmp_path)
    assert (found["patches"], found["opened"], found["files"]) == (9, 9, 133)
    assert found["faster"] > 1
