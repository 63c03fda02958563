"""The conversion run again: what is kept, what is redone, and after a kill the same files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ppi_med.data.datalist import load_parts
from ppi_med.data.manifest import read_manifest
from ppi_med.data.oct.convert import ConversionError
from ppi_med.data.splits import read_splits
from tests.data.oct import writers
from tests.data.oct.sites import convert, hashes, make_sites

ROOT = Path(__file__).parents[3]


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    raw = make_sites(tmp_path / "raw", subjects=6)
    (raw / "north" / "bad.vol").write_text("no")
    (raw / "south" / "copy.mat").write_bytes((raw / "south" / "p01_OD_v1.mat").read_bytes())
    for workers in (1, 2):
        convert(raw, tmp_path / str(workers), labels=raw / "labels.csv", workers=workers)
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")


def test_a_second_run_keeps_what_is_done(tmp_path: Path) -> None:
    raw, out = make_sites(tmp_path / "raw", subjects=6), tmp_path / "out"
    convert(raw, out, labels=raw / "labels.csv")
    first = hashes(out)
    times = {path: path.stat().st_mtime_ns for path in (out / "volumes").iterdir()}
    again = convert(raw, out, labels=raw / "labels.csv")
    assert again.count("kept") == 12 and again.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "volumes").iterdir()} == times
    after = hashes(out)
    del first["conversion_report.json"], after["conversion_report.json"]
    assert after == first

    victim = out / "volumes" / "north__p00_OD_v1.nii.gz"
    victim.unlink()  # one lost, one source changed, one damaged
    writers.write_mat(raw / "north" / "p00_OD_v2.mat", writers.volume((4, 10, 8), seed=99))
    damaged = out / "volumes" / "north__p02_OS_v1.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    third = convert(raw, out, labels=raw / "labels.csv")
    assert third.count("ok") == 3 and third.count("kept") == 9
    assert victim.exists()
    padded = convert(raw, out, labels=raw / "labels.csv", pad_width=9)
    assert padded.count("ok") == 12
    assert convert(raw, out, labels=raw / "labels.csv", pad_width=9, overwrite=True).count(
        "ok"
    ) == 12  # fmt: skip


def test_a_source_that_went_bad_leaves_no_old_volume(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    for name in "ab":
        writers.write_mat(raw / f"{name}.mat", writers.volume(seed=ord(name)))
    convert(raw, out)
    (raw / "a.mat").write_text("gone")
    assert convert(raw, out).exit_code == 1
    assert [path.name for path in (out / "volumes").iterdir()] == ["b.nii.gz"]
    assert [row.volume_id for row in read_manifest(out / "manifest.csv")] == ["b"]


def test_nothing_names_volumes_that_are_gone(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    writers.write_mat(raw / "a.mat", writers.volume())
    convert(raw, out)
    report = convert(raw, out, expect_slices=9)
    assert not list((out / "volumes").iterdir())
    assert not (out / "manifest.csv").exists() and not (out / "datalist.json").exists()
    assert "no volume is left: manifest.csv and datalist.json of the earlier" in report.table()


@pytest.mark.slow
def test_killed_and_run_again(tmp_path: Path) -> None:
    """Kill -9 in the middle; the next run gives the bytes of an undisturbed one."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(12):
        writers.write_mat(raw / f"{number}.mat", writers.volume((40, 200, 150), seed=number))
    command = [sys.executable, str(ROOT / "data_prep" / "convert_oct.py"), "--source", str(raw)]
    command += ["--quiet", "--workers", "1", "--output"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, str(tmp_path / "out")], env=environment)
    volumes = tmp_path / "out" / "volumes"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if volumes.is_dir() and len(list(volumes.glob("[0-9]*.nii.gz"))) >= 3:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (volumes / ".7.nii.gz.abc.tmp.nii.gz").write_bytes(b"half")  # as a kill can leave it
    assert 3 <= len(list(volumes.glob("[0-9]*.nii.gz"))) < 12
    assert not (tmp_path / "out" / "manifest.csv").exists()
    again = convert(raw, tmp_path / "out")
    assert again.count("kept") >= 2 and again.exit_code == 0
    convert(raw, tmp_path / "whole")
    one, two = hashes(tmp_path / "out"), hashes(tmp_path / "whole")
    del one["conversion_report.json"], two["conversion_report.json"]  # kept or ok
    assert one == two


def test_interrupt_leaves_a_data_set_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ppi_med.data.oct.convert as module

    raw, out = make_sites(tmp_path / "raw", subjects=6), tmp_path / "out"
    real, calls = module.convert_source, []

    def stop_at_third(task):
        calls.append(task)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(task)

    monkeypatch.setattr(module, "convert_source", stop_at_third)
    report = convert(raw, out, labels=raw / "labels.csv")
    assert report.interrupted and report.exit_code == 130
    assert "run the same command again" in report.table()
    assert not (out / "manifest.csv").exists()
    monkeypatch.setattr(module, "convert_source", real)
    again = convert(raw, out, labels=raw / "labels.csv")
    assert again.count("kept") == 2 and again.count("ok") == 10


def test_splits_are_written_once(tmp_path: Path) -> None:
    raw, out = make_sites(tmp_path / "raw"), tmp_path / "out"
    convert(raw, out, labels=raw / "labels.csv")
    first = (out / "splits.json").read_bytes()
    writers.write_mat(raw / "north" / "new.mat", writers.volume(seed=500))
    with (raw / "labels.csv").open("a") as stream:
        stream.write("north/new.mat,p99,OD,v1,north,1,no\n")
    report = convert(raw, out, labels=raw / "labels.csv", seed=5)
    assert (out / "splits.json").read_bytes() == first
    assert "1 subjects are not in splits.json" in report.table()
    items = load_parts(out / "datalist.json", "unassigned")
    assert [item["subject"] for item in items] == ["p99"]
    convert(raw, out, labels=raw / "labels.csv", seed=5, new_splits=True)
    assert read_splits(out / "splits.json").part_of("p99") is not None


def test_another_source_into_the_same_output(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        writers.write_mat(
            tmp_path / name / f"{name}.mat", writers.volume(seed=len(name) + ord(name[0]))
        )
    out = tmp_path / "out"
    convert(tmp_path / "one", out)
    with pytest.raises(ConversionError, match=r"1 volumes whose source is not in two.*--prune"):
        convert(tmp_path / "two", out)
    assert read_manifest(out / "manifest.csv")[0].volume_id == "one"
    report = convert(tmp_path / "two", out, prune=True)
    assert "1 volumes without a source removed" in report.table()
    assert [path.name for path in (out / "volumes").iterdir()] == ["two.nii.gz"]


def test_a_worker_that_dies_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash in a decoder ends a process, not the run; a reader is made to crash for this."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in "abc":
        writers.write_mat(raw / f"{name}.mat", writers.volume(seed=ord(name)))
    crash = tmp_path / "site"
    crash.mkdir()
    (crash / "sitecustomize.py").write_text(
        "import os, pathlib\n"
        "real = pathlib.Path.open\n"
        "def open_(self, *a, **k):\n"
        "    if self.name == 'b.mat': os._exit(11)\n"
        "    return real(self, *a, **k)\n"
        "pathlib.Path.open = open_\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{crash}{os.pathsep}{ROOT}")
    report = convert(raw, tmp_path / "out", workers=2)
    outcomes = {outcome.source: outcome for outcome in report.outcomes}
    assert outcomes["b.mat"].status == "failed" and "died" in outcomes["b.mat"].reason
    assert outcomes["a.mat"].status in ("ok", "kept") and outcomes["c.mat"].status in ("ok", "kept")


def test_an_unexpected_error_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ppi_med.data.oct.worker as module

    raw = tmp_path / "raw"
    raw.mkdir()
    writers.write_mat(raw / "a.mat", writers.volume())
    monkeypatch.setattr(module, "read_source", lambda source, options: 1 / 0)
    report = convert(raw, tmp_path / "out")
    assert "unexpected ZeroDivisionError" in report.failed[0].reason
