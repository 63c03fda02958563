"""What a wrong key or value is answered with: one clear line, the last of the output."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.bundles.tiny import ROOT, run_bundle, settings

EVALUATE = ["train.json", "evaluate.json"]


def answer(
    files: str | list[str], overrides: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Run what fails; return the lines that Python then prints."""
    with pytest.raises(Exception) as caught:
        run_bundle(files, overrides)
    capsys.readouterr()
    with suppress(SystemExit):
        # What the user can put right becomes the exit status.
        sys.excepthook(caught.type, caught.value, caught.tb)
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("files", "changes", "wanted"),
    [
        ("train.json", {"method": "ppi_wbp_shraed"}, "method is 'ppi_wbp_shraed', expected one of"),
        ("train.json", {"method_options": {"evry": 2}}, "method 'ppi_wbp_shared' .*'evry'"),
        ("train.json", {"sites": ["site_x"]}, r"no site 'site_x', .* \['site_a', 'site_b'\]"),
        ("train.json", {"exclude_sites": ["site_a", "site_b"]}, "nothing is left in training"),
        ("train.json", {"fold": 7}, "fold is 7, expected 0 to 1"),
        ("train.json", {"fold": "a"}, "fold is 'a', expected 0 to 1"),
        ("train.json", {"max_epoch": 3}, "no key 'max_epoch' .* did you mean max_epochs"),
        ("train.json", {"image_size": [64]}, r"image_size is \[64\], expected \[depth, width\]"),
        ("train.json", {"image_size": "64,80"}, "image_size is '64,80', expected"),
        ("train.json", {"batch_size": 100}, "training has 17 volumes, .* --batch_size"),
        ("train.json", {"tracking_uri": "some/folder"}, "Got the tracking address 'some/folder'"),
        (EVALUATE, {"part": "tset"}, "part is 'tset', expected one of"),
        (EVALUATE, {}, r"No weights .*model\.pt: train the bundle first"),
    ],
)
def test_one_line_without_a_traceback(
    phantom: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    files: str | list[str],
    changes: dict[str, Any],
    wanted: str,
) -> None:
    lines = answer(files, settings(phantom, tmp_path, **changes), capsys)
    assert len(lines) == 1
    assert lines[0].startswith("ga_ppi: ")
    assert re.search(wanted, lines[0]), lines[0]
    # Found before anything was made.
    assert not (tmp_path / "run").exists() and not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"num_slices": 0}, "ValueError: num_slices is 0, expected 1 or more"),
        ({"network_def#backbone": "resnet81"}, "ValueError: There is no network 'resnet81'"),
        ({"train#trainer#max_epoch": 3}, "TypeError: .* unexpected keyword argument 'max_epoch'"),
        ({"seed": -1}, "ValueError: Got seed=-1, expected 0 or more"),
    ],
)
def test_one_line_behind_the_traceback(
    phantom: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    wanted: str,
) -> None:
    lines = answer("train.json", settings(phantom, tmp_path, **changes), capsys)
    # A process that has been one of several puts its rank before each line.
    assert "Traceback" in lines[0]
    assert re.match(f"ga_ppi: {wanted}", lines[-1]), lines[-1]


def test_a_missing_data_set_names_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    overrides = settings(Path("data/no_such_phantom"), tmp_path)
    (line,) = answer("train.json", overrides, capsys)
    command = "ppi-med make-phantom oct --output data/no_such_phantom"
    assert f"`{command}`" in line and "--dataset_dir" in line


def test_a_fold_without_splits(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(phantom, tmp_path / "data")
    (tmp_path / "data" / "splits.json").unlink()
    (line,) = answer("train.json", settings(tmp_path / "data", tmp_path, fold=0), capsys)
    assert "fold 0 needs splits.json" in line


def test_a_part_of_one_class(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(phantom, tmp_path / "data")
    datalist = tmp_path / "data" / "datalist.json"
    content = json.loads(datalist.read_text())
    content["validation"] = [item for item in content["validation"] if item["label"] == 0]
    datalist.write_text(json.dumps(content))
    (line,) = answer("train.json", settings(tmp_path / "data", tmp_path), capsys)
    assert "The part validation has 4 volumes, all of label 0, expected both 0 and 1" in line


def test_resuming_with_other_settings(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = settings(phantom, tmp_path, method="plain", max_epochs=1)
    run_bundle("train.json", plain)
    lines = answer("train.json", {**plain, "batch_size": 8, "resume": True}, capsys)
    assert "4 iterations an epoch, this run 2: resume with the same data" in lines[-1]
    lines = answer("train.json", {**plain, "method": "ppi_wbp_box", "resume": True}, capsys)
    assert "lacks the state of ['PPIHandler']" in lines[-1]


@pytest.mark.slow
def test_the_last_line_of_a_users_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "monai.bundle", "run"),
            *("--config_file", "bundles/ga_ppi/train.json", "--method", "plian"),
            *("--dataset_dir", str(tmp_path)),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("ga_ppi: method is 'plian', expected one of")
    assert "Traceback" not in done.stderr
