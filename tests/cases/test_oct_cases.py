"""The inputs of `cases/oct` beside the real data: each gives what its table expects."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppi_med.data.manifest import ManifestRow, read_manifest
from ppi_med.data.oct.command import main
from ppi_med.data.oct.nifti import read_nifti
from ppi_med.data.oct.registry import read_oct
from ppi_med.data.oct.volume import OctReadError
from tests.data.oct.sites import convert

pytestmark = pytest.mark.data


@pytest.fixture(scope="session")
def cases(data_root: Path) -> Path:
    folder = data_root.parent / "cases" / "oct"
    if not folder.is_dir():
        pytest.skip("no folder cases/oct beside PPI_MED_DATA")
    return folder


def rows(output: Path) -> list[ManifestRow]:
    path = output / "manifest.csv"
    return read_manifest(path) if path.exists() else []


def command(source: Path, output: Path, *more: Any) -> int:
    known = ["--source", source, "--output", output, "--workers", 1, "--quiet"]
    return main([str(part) for part in (*known, *more)])


@pytest.mark.parametrize(
    ("table", "code", "labels"),
    [
        ("one.csv", 1, {}),
        ("two.csv", 0, {"OD": 1, "OS": 0}),
        ("names.csv", 0, {"OD": 1, "OS": 0}),
        ("oneeye.csv", 0, {"OD": 1, "OS": None}),
    ],
)
def test_e2e_two_eyes_one_label(
    cases: Path, tmp_path: Path, table: str, code: int, labels: dict[str, int | None]
) -> None:
    folder = cases / "e2e_two_eyes_one_label"
    assert command(folder, tmp_path, "--labels", folder / table) == code
    assert {row.extra["eye"]: row.label for row in rows(tmp_path)} == labels
    assert all(row.subject == "S1" for row in rows(tmp_path))


def test_pictures_of_several_eyes_one_stack(cases: Path, tmp_path: Path) -> None:
    folder = cases / "pictures_of_several_eyes_one_stack"
    pattern = r"(?P<subject>p\d+)_(?P<eye>OD|OS)_\d+\.png"
    assert command(folder, tmp_path, "--pattern", pattern) == 0
    found = [(row.subject, row.extra["eye"], row.n_slices) for row in rows(tmp_path)]
    assert found == [("p01", "OD", 2), ("p01", "OS", 2), ("p02", "OD", 2)]


def test_fda_16bit_jpeg2000_white(cases: Path) -> None:
    pixels = read_oct(cases / "fda_16bit_jpeg2000_white" / "jp2_16bit.fda").pixels
    assert pixels.dtype == np.uint16 and len(np.unique(pixels)) > 1000
    assert (pixels == pixels.max()).mean() < 0.01


def test_two_conversions_one_folder(cases: Path, tmp_path: Path) -> None:
    source = str(cases / "labels_excel" / "scans")
    call = [sys.executable, "data_prep/convert_oct.py", "--source", source, "--quiet"]
    call += ["--workers", "1", "--output", str(tmp_path / "out")]
    root = Path(__file__).parents[2]
    both = [subprocess.Popen(call, cwd=root, env=os.environ | {"PYTHONPATH": "."}) for _ in "ab"]
    codes = sorted(process.wait() for process in both)
    assert codes in ([0, 0], [0, 2])  # one after the other, or the second refused
    assert len(rows(tmp_path / "out")) == len(list((tmp_path / "out" / "volumes").iterdir())) == 9


def test_nifti_gz_crc_not_checked(cases: Path) -> None:
    with pytest.raises(OctReadError, match="damaged: its checksum or content is wrong"):
        read_nifti(cases / "nifti_gz_crc_not_checked" / "flip.nii.gz")


@pytest.mark.parametrize("name", ["huge2.nii", "huge2gz.nii.gz"])
def test_nifti_memory_not_bounded(cases: Path, name: str) -> None:
    with pytest.raises(OctReadError, match=r"take [\d.]+ GiB; the limit is 4 GiB"):
        read_nifti(cases / "nifti_memory_not_bounded" / name)


@pytest.mark.parametrize(
    ("name", "unknown"), [("um_scale.vol", (0, 1, 2)), ("one_spacing.dcm", (0, 1))]
)
def test_spacing_in_micrometres(cases: Path, name: str, unknown: tuple[int, ...]) -> None:
    volume = read_oct(cases / "spacing_in_micrometres" / name)
    assert [i for i in range(3) if volume.spacing[i] is None] == list(unknown)
    assert sum("implausible" in text for text in volume.warnings) == len(unknown)


@pytest.mark.parametrize("table", ["emptyrows", "latin1", "nfc", "semicolon", "utf16"])
def test_labels_excel(cases: Path, tmp_path: Path, table: str) -> None:
    folder = cases / "labels_excel"
    assert command(folder / "scans", tmp_path, "--labels", folder / f"{table}.csv") == 0
    known = {row.subject: row.label for row in rows(tmp_path) if row.label is not None}
    assert {f"S{n}": n % 2 for n in range(8)}.items() <= known.items()
    assert known.get("SM", 1) == 1 and ("SM" in known) == (table in ("latin1", "nfc"))


def test_labels_excel_that_fit_nothing(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cases / "labels_excel"
    assert command(folder / "scans", tmp_path / "out", "--labels", folder / "case.csv") == 2
    assert "case.csv: none of its 8 files is there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_vol_huge_fundus_oserror(cases: Path, tmp_path: Path) -> None:
    (outcome,) = convert(cases / "vol_huge_fundus_oserror", tmp_path).failed
    assert "the fundus picture should take 4611686018427387904 bytes" in outcome.reason


def test_nifti_inf_spacing_ends_run(cases: Path, tmp_path: Path) -> None:
    from ppi_med.inference import GaOutputs
    from ppi_med.networks.multiview import MultiViewClassifier
    from tests.inference.test_batch import evaluator

    network = MultiViewClassifier("small_cnn", backbone_options={"widths": (4, 8)})
    outputs = GaOutputs(tmp_path, report=False)
    evaluator(network, cases / "nifti_inf_spacing_ends_run", outputs).run()
    with (tmp_path / "predictions.csv").open(newline="") as stream:
        found = {row["source"]: row for row in csv.DictReader(stream)}
    assert found["ok.nii.gz"]["status"] == "ok" and set(found) == {"inf.nii", "ok.nii.gz"}
