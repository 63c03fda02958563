"""The command line: exit codes, what is printed, usage errors in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ppi_med.data.oct.command import main
from tests.data.oct import writers

ROOT = Path(__file__).parents[3]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    writers.write_mat(tmp_path / "raw" / "a.mat", writers.volume())
    return tmp_path / "raw"


def _run(raw: Path, *more: str) -> list[str]:
    out = raw.parent / "out"
    return ["--source", str(raw), "--output", str(out), "--quiet", "--workers", "1", *more]


def test_exit_codes(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_run(raw)) == 0
    assert "1 source: 1 converted" in capsys.readouterr().out
    (raw / "b.vol").write_text("no")
    assert main(_run(raw)) == 1
    printed = capsys.readouterr().out
    assert "failed     b.vol" in printed and "1 converted before" in printed
    assert main(_run(raw / "gone")) == 2
    assert "No file or folder" in capsys.readouterr().err
    assert main(_run(raw, "--labels", str(raw / "none.csv"))) == 2
    (raw / "bad.csv").write_text("file,label\na.mat,GA\n")
    assert main(_run(raw, "--labels", str(raw / "bad.csv"))) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("convert_oct.py: bad.csv, line 2: label is 'GA', expected a class")


def test_an_unknown_column_is_told_before_the_work(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (raw / "labels.csv").write_text("file,grader\na.mat,AB\n")
    labels = ["--labels", str(raw / "labels.csv")]
    assert main(_run(raw, *labels, "--stratify", "site,vendor")) == 2
    assert "stratify is 'vendor', expected some of" in capsys.readouterr().err
    assert not (raw.parent / "out").exists()
    assert main(_run(raw, *labels, "--stratify", "site,grader")) == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--spacing", "1,2"], "LATERAL,AXIAL,BETWEEN"),
        (["--shape", "1,x,3"], "DEPTH,WIDTH,B-SCANS"),
        (["--window", "5"], "LOW,HIGH"),
        (["--fractions", "1,2"], "TRAIN,VAL,TEST"),
        (["--laterality", "L"], "invalid choice"),
        (["--no-such"], "unrecognized"),
    ],
)
def test_usage(
    raw: Path, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(_run(raw, *arguments))
    assert caught.value.code == 2 and reason in capsys.readouterr().err


def test_nonsense_values(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_run(raw, "--spacing", "0,1,1")) == 2
    assert "implausible, expected 0.0005 to" in capsys.readouterr().err
    assert main(_run(raw, "--axes", "abc")) == 2


def test_the_script_itself(raw: Path) -> None:
    """--help in a fresh process, without torch; and a run that ends with its report."""
    script = ROOT / "data_prep" / "convert_oct.py"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    help_ = subprocess.run(
        [sys.executable, "-X", "importtime", script, "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--expect-slices" in help_.stdout and ".e2e" in help_.stdout
    loaded = {line.rsplit("|", 1)[-1].strip() for line in help_.stderr.splitlines()}
    assert not loaded & {"torch", "monai", "scipy", "nibabel", "pydicom", "h5py"}
    run = subprocess.run(
        [sys.executable, script, *_run(raw)], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0 and "1 source: 1 converted" in run.stdout
