"""Every command that writes to a folder: alone in it, and one line where the system refuses."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppi_med import cli, io
from ppi_med.io import exclusive
from tests.audit.conftest import write_pictures
from tests.data.dicom.files import write_series
from tests.data.lidc.database import PATIENTS, make_database, write_scans
from tests.data.oct import writers
from tests.data.photos.made import make_labels_csv
from tests.export.test_export import FULL, HEIGHTS
from tests.tracking.stores import new_store

Words = list[Any]
ROOT = Path(__file__).resolve().parent.parent


def oct_scans(folder: Path) -> Words:
    (folder / "scans").mkdir()
    writers.write_mat(folder / "scans" / "a.mat", writers.volume((4, 10, 8)))
    return ["convert-oct", "--source", folder / "scans", "--workers", 1, "--quiet"]


def index(folder: Path) -> Words:
    write_series(folder / "ct", [0.0, 2.5, 5.0])
    return ["index-dicom", "--source", folder / "ct", "--scheduler", "serial", "--quiet"]


def patches(folder: Path) -> Words:
    pytest.importorskip("zarr")
    words = ["extract-lidc", "--dicom-root", write_scans(folder / "ct"), "--quiet"]
    base = make_database(folder / "base.sqlite")
    return [*words, "--database", base, "--scheduler", "serial", "--fractions", "0.5,0.5,0"]


def export(folder: Path) -> Words:
    pytest.importorskip("highdicom")
    write_series(folder / "ct", HEIGHTS, **FULL)
    mask = np.zeros((4, 8, 6), bool)
    mask[1, 2:5, 2:5] = True
    np.save(folder / "mask.npy", mask)
    return ["export-dicom", "--series", folder / "ct", "--mask", folder / "mask.npy"]


def photographs(folder: Path) -> Words:
    return ["convert-photos", "--source", make_labels_csv(folder / "photos")]


def phantom_oct(folder: Path) -> Words:
    return ["make-phantom", "oct", "--sites", "site_a", "--subjects", 10, "--workers", 1,
            "--raw-only", "--depth", 32, "--width", 40, "--slices", 8, "--folds", 0]  # fmt: skip


def phantom_lidc(folder: Path) -> Words:
    words = ["make-phantom", "lidc", "--database", make_database(folder / "base.sqlite")]
    return [*words, "--dicom-only", "--workers", 1, "--scans", int(PATIENTS[0][-4:])]


def phantom_birds(folder: Path) -> Words:
    return ["make-phantom", "birds", "--training", 12, "--test", 6, "--size", 32]


def audit(folder: Path) -> Words:
    return ["audit", write_pictures(folder / "pictures", mark=None), "--data-only"]


def demonstration(folder: Path) -> Words:
    return ["demo"]


def tables(folder: Path) -> Words:
    from ppi_med.tracking.run import RunTracker

    location = new_store(folder / "store")
    tracker = RunTracker(location, folder / "run", system_metrics=False)
    tracker.start()
    tracker.log_metrics({"test/auc": 0.5}, 1)
    tracker.finish()
    return ["tables", "--tracking-uri", location.uri]


def experiment(*words: Any) -> Callable[[Path], Words]:
    def build(folder: Path) -> Words:
        return list(words)

    return build


MAPS = ("--weights", "none.pt", "--images", "none")
CONVERTERS: dict[str, tuple[Callable[[Path], Words], str]] = {
    "convert-oct": (oct_scans, "--output"),
    "index-dicom": (index, "--output"),
    "extract-lidc": (patches, "--output"),
    "export-dicom": (export, "--output"),
    "convert-photos": (photographs, "--output"),
    "make-phantom-oct": (phantom_oct, "--output"),
    "make-phantom-lidc": (phantom_lidc, "--output"),
    "make-phantom-birds": (phantom_birds, "--output"),
    "audit": (audit, "--output"),
    "tables": (tables, "--output"),
}
COMMANDS = CONVERTERS | {
    "demo": (demonstration, "--directory"),
    "shortcut": (experiment("shortcut", "--seeds", 0), "--records"),
    "device-shortcut": (experiment("device-shortcut"), "--records"),
    "compare-methods": (
        experiment("compare-methods", "--bundle", ROOT / "bundles" / "cub_ppi"),
        "--records",
    ),
    "lidc-benchmark": (experiment("lidc-benchmark"), "--records"),
    "compare-maps": (experiment("compare-maps", *MAPS), "--records"),
    "randomise-maps": (experiment("randomise-maps", *MAPS), "--records"),
    "weak-segmentation": (experiment("weak-segmentation"), "--output"),
}
every = pytest.mark.parametrize("name", COMMANDS)


class Call:
    """A command on small inputs, run as the shell would; its output is the folder `out`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
        self.out, self.monkeypatch, self.capfd = folder / "out", monkeypatch, capfd
        self.folder = folder

    def prepare(self, name: str) -> None:
        build, option = COMMANDS[name]
        words = ["ppi-med", *build(self.folder), option, self.out]
        self.monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        self.capfd.readouterr()

    def __call__(self) -> tuple[int, list[str]]:
        """Return the exit code and the lines for the user."""
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = self.capfd.readouterr().err.splitlines()
        return int(stopped.value.code or 0), [line for line in said if line.startswith("ppi-med")]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Call:
    monkeypatch.chdir(tmp_path)
    return Call(tmp_path, monkeypatch, capfd)


@every
def test_a_second_call_on_a_folder_is_refused(call: Call, name: str) -> None:
    call.prepare(name)
    with exclusive(call.out, "test"):
        code, (line,) = call()
    assert code == 2 and f"writes to {call.out}: wait until it ends" in line
    assert not list(call.out.iterdir())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "out/a"), "No space left on device: out/a"),
        (MemoryError(), "there is not enough memory."),
        (sqlite3.OperationalError("disk I/O error"), "disk I/O error"),
    ],
)
@every
def test_what_the_system_refuses_is_one_line(
    call: Call, name: str, error: Exception, words: str
) -> None:
    call.prepare(name)

    def refuse(*_: Any, **__: Any) -> Any:
        raise error

    call.monkeypatch.setattr(io, "_lock", refuse)
    code, (line,) = call()
    assert code == 2 and words in line


@pytest.mark.parametrize("name", CONVERTERS)
def test_a_disk_that_fills_up_leaves_no_part_of_a_file(call: Call, name: str) -> None:
    call.prepare(name)
    flush, left = io._flush_to_disk, [] if name == "convert-photos" else [1]

    def full(path: Path) -> None:
        if not left:
            raise OSError(28, "No space left on device", str(path))
        left.pop()
        flush(path)

    call.monkeypatch.setattr(io, "_flush_to_disk", full)
    code, (line,) = call()
    assert code == 2 and "No space left on device" in line
    assert not [path for path in call.out.rglob("*") if ".tmp" in path.name]
    call.monkeypatch.setattr(io, "_flush_to_disk", flush)
    assert call()[0] == 0
