"""The index: trees of all shapes, pseudonyms, re-runs, workers, command line."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import sqlite3
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppi_med.data.dicom import index
from ppi_med.data.dicom.command import main
from ppi_med.data.dicom.index import Chunk, find_file, index_tree
from ppi_med.data.dicom.pseudonyms import Pseudonyms, load_key
from ppi_med.data.dicom.store import HeaderStore
from ppi_med.data.dicom.table import _cell, write_table
from ppi_med.data.dicom.tree import DicomFile, FileProblem, walk_tree
from ppi_med.data.dicom.volume import GeometryError, read_volume
from ppi_med.io import exclusive

from .files import slice_dataset, write_series, write_slice


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_one_series(tmp_path: Path) -> None:
    write_series(tmp_path / "tree" / "a", [0, 2.5, 5])
    summary = index_tree(tmp_path / "tree", tmp_path / "out", scheduler="serial")
    (row,) = rows(summary.table)
    assert summary.exit_code == 0
    assert (row["status"], row["slices"], row["step_mm"]) == ("volume", "3", "2.5")
    assert (row["spacing_row_mm"], row["spacing_column_mm"]) == ("0.7", "0.5")
    assert (row["plane"], row["gaps"], row["manufacturer"], row["contrast"]) == (
        "axial", "0", "SIEMENS", "0",
    )  # fmt: skip


def test_nothing_that_identifies_leaves_the_index(tmp_path: Path) -> None:
    write_series(tmp_path / "tree" / "SECRET-7", [0, 2.5, 5])
    (tmp_path / "tree" / "SECRET-7" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM\x08\0")
    out = tmp_path / "out"
    index_tree(tmp_path / "tree", out, scheduler="serial")
    for name in ("index.csv", "errors.jsonl", "index_summary.json"):
        text = (out / name).read_text()
        assert "SECRET" not in text.upper() and "1.2.826" not in text, name
    for name in ("headers.sqlite", "project.key"):
        assert (out / name).stat().st_mode & 0o077 == 0
    token = rows(out / "index.csv")[0]["place"]
    assert find_file(out, token) == "SECRET-7/001.dcm"
    index_tree(tmp_path / "tree", out, scheduler="serial", identified=True)
    assert rows(out / "index.csv")[0]["patient"] == "SECRET-7"


def test_pseudonyms_are_a_projects_own(tmp_path: Path) -> None:
    write_series(tmp_path / "tree", [0, 2.5, 5])
    found = []
    for out, key in (("a", "k1"), ("b", "k1"), ("c", "k2")):
        path = tmp_path / "keys" / key
        summary = index_tree(tmp_path / "tree", tmp_path / out, scheduler="serial", key_file=path)
        found.append(summary.table.read_bytes())
    assert found[0] == found[1] != found[2]
    uid = Pseudonyms(load_key(tmp_path / "keys" / "k1")).uid("1.2.3")
    assert uid.startswith("2.25.") and len(uid) <= 64
    (tmp_path / "bad").write_text("short")
    with pytest.raises(ValueError, match="holds no project key"):
        load_key(tmp_path / "bad")


def test_zipped_series_are_read_in_place(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with zipfile.ZipFile(tree / "series.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            stream = io.BytesIO()
            slice_dataset(number, 2.5 * number).save_as(stream, enforce_file_format=True)
            archive.writestr(f"../../{number}.dcm", stream.getvalue())
        archive.writestr("__MACOSX/._0.dcm", b"x")
        archive.writestr("inner.zip", b"PK")
        archive.writestr("note.txt", b"text")
    (tree / "broken.zip").write_bytes(b"PK\3\4 not a zip")
    summary = index_tree(tree, tmp_path / "out", scheduler="serial")
    assert summary.series == {"volume": 1}
    assert summary.problems == {"archive": 2, "not_dicom": 1}
    assert sorted(os.listdir(tmp_path)) == ["out", "tree"]
    with HeaderStore(tmp_path / "out" / "headers.sqlite") as store:
        series = store.series(next(store.series_keys()))
    volume = read_volume(tree, series.files, series.headers)
    assert volume.values.shape == (3, 8, 6) and volume.values[1, 0, 0] == 100 - 1024


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ppi_med.data.dicom.tree as tree

    monkeypatch.setattr(tree, "MAX_ENTRY_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("large.dcm", b"\0" * 5000)
    (problem,) = walk_tree(tmp_path)
    assert isinstance(problem, FileProblem) and "expected at most 1000" in problem.reason
    with (
        pytest.raises(tree.ArchiveError, match="more than 1000 bytes"),
        tree.Opener(tmp_path) as opener,
        opener.open(DicomFile("a.zip", "large.dcm")),
    ):
        pass


def test_dicomdir(tmp_path: Path) -> None:
    from pydicom.fileset import FileSet

    paths = write_series(tmp_path / "raw", [0, 2.5, 5], StudyID="1", SeriesNumber=1,
                         StudyDate="20000101", StudyTime="000000")  # fmt: skip
    media = FileSet()
    for path in paths:
        media.add(path)
    media.write(tmp_path / "media")
    summary = index_tree(tmp_path / "media" / "DICOMDIR", tmp_path / "out", scheduler="serial")
    assert summary.series == {"volume": 1} and summary.problems == {"dicomdir": 1}
    victim = next(
        p for p in (tmp_path / "media").rglob("*") if p.is_file() and p.name != "DICOMDIR"
    )
    victim.unlink()
    index_tree(tmp_path / "media", tmp_path / "out2", scheduler="serial")
    assert "3 files, 1 of which are not here" in (tmp_path / "out2" / "errors.jsonl").read_text()


def test_a_second_run_reads_what_is_new(tmp_path: Path) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"
    paths = write_series(tree, [0, 2.5, 5])
    assert index_tree(tree, out, scheduler="serial").read == 3
    first = (out / "index.csv").read_bytes()
    again = index_tree(tree, out, scheduler="serial")
    assert (again.read, again.kept) == (0, 3) and (out / "index.csv").read_bytes() == first
    write_slice(tree / "x.dcm", 9, 10)
    paths[0].unlink()
    changed = index_tree(tree, out, scheduler="serial")
    assert (changed.read, changed.kept) == (1, 2)
    assert rows(changed.table)[0]["codes"] == "gap" or rows(changed.table)[0]["slices"] == "3"


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_the_same_table_for_any_scheduler(tmp_path: Path, scheduler: str) -> None:
    for k in range(3):
        write_series(tmp_path / "tree" / str(k), [0, 2.5, 5 + k], SeriesInstanceUID=f"1.2.{k}")
    key = tmp_path / "key"
    one = index_tree(tmp_path / "tree", tmp_path / "a", scheduler="serial", key_file=key)
    two = index_tree(
        tmp_path / "tree", tmp_path / "b", scheduler=scheduler, workers=2, key_file=key
    )
    assert one.table.read_bytes() == two.table.read_bytes()


def test_links_out_of_the_tree_are_followed_once(tmp_path: Path) -> None:
    write_series(tmp_path / "elsewhere", [0, 2.5])
    (tmp_path / "tree").mkdir()
    for name in ("a", "b"):
        (tmp_path / "tree" / name).symlink_to(tmp_path / "elsewhere")
    found = list(walk_tree(tmp_path / "tree"))
    assert [f.path for f in found if isinstance(f, DicomFile)] == ["a/001.dcm", "a/002.dcm"]
    assert [f.kind for f in found if isinstance(f, FileProblem)] == ["link"]


def odd_name(folder: Path, name: bytes) -> Path:
    """Return a path with a name that is not UTF-8, if the file system takes such names."""
    path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
    try:
        path.mkdir(parents=True)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    path.rmdir()
    return path


def test_names_that_are_not_utf8_stop_nothing(tmp_path: Path) -> None:
    tree = tmp_path / "t"
    write_series(tree / "a", [0, 2.5, 5])
    odd_name(tree, b"note\xe9.txt").write_text("no image")
    write_slice(odd_name(tree, b"folder\xff") / "1.dcm", 1, 0)
    for identified in (True, False):
        out = tmp_path / str(identified)
        summary = index_tree(tree, out, scheduler="serial", identified=identified)
        assert summary.series == {"volume": 1} and summary.exit_code == 1
        lines = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
        assert [line["kind"] for line in lines] == ["unreadable"] * 2
        assert all("not UTF-8" in line["reason"] for line in lines)
    names = {find_file(out, line["file"]) for line in lines}
    assert names == {"folder\\xff", "note\\xe9.txt"}
    (problem,) = walk_tree(os.fsdecode(os.fsencode(tree) + b"/note\xe9.txt"))
    assert isinstance(problem, FileProblem) and problem.file.path == "note\\xe9.txt"


def test_malformed_elements_are_unknown_not_fatal(tmp_path: Path) -> None:
    for k in range(3):
        path = write_slice(tmp_path / "t" / f"{k}.dcm", k, 2.5 * k)
        path.write_bytes(path.read_bytes().replace(b"0.7\\0.5 ", b"0.7;0.5 "))
    summary = index_tree(tmp_path / "t", tmp_path / "out", scheduler="serial")
    (row,) = rows(summary.table)
    assert row["codes"] == "no_geometry" and "PixelSpacing cannot be read" in row["warnings"]
    assert "0.7;0.5" not in summary.table.read_text()


def test_a_volume_lies_where_its_slices_say(tmp_path: Path) -> None:
    write_series(tmp_path / "t", [5, 0, 2.5])
    index_tree(tmp_path / "t", tmp_path / "out", scheduler="serial")
    with HeaderStore(tmp_path / "out" / "headers.sqlite") as store:
        series = store.series(next(store.series_keys()))
    volume = read_volume(tmp_path / "t", series.files, series.headers)
    assert [int(v) for v in volume.values[:, 0, 0] + 1024] == [200, 300, 100]
    assert np.allclose(volume.affine @ [2, 3, 1, 1], [-10 + 2 * 0.5, -20 + 3 * 0.7, 2.5, 1])
    with pytest.raises(GeometryError, match="a single slice is no volume"):
        read_volume(tmp_path / "t", series.files[:1], series.headers[:1])


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "t", [0, 2.5, 7.5])
    call = ["--source", str(tmp_path / "t"), "--output", str(tmp_path / "o"), "--quiet",
            "--workers", "1"]  # fmt: skip
    assert main(call) == 1
    assert "refused  1 series: gap" in capsys.readouterr().out
    assert main([*call, "--allow", "gap"]) == 0
    assert main([*call, "--allow", "gaps"]) == 2
    assert "allow names 'gaps'" in capsys.readouterr().err
    assert main(["--source", str(tmp_path / "none"), "--output", str(tmp_path / "o")]) == 2
    token = rows(tmp_path / "o" / "index.csv")[0]["place"]
    assert main(["--output", str(tmp_path / "o"), "--find", token]) == 0


def refused(call: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command; return its one line on standard error."""
    capsys.readouterr()
    assert main(call) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("index_dicom.py: ")
    return line


def test_the_machine_says_no_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "t", [0, 2.5, 5])
    out = tmp_path / "o"
    call = ["--source", str(tmp_path / "t"), "--output", str(out), "--quiet", "--workers", "1"]
    out.write_text("a file")
    assert "File exists" in refused(call, capsys)
    out.unlink()
    (tmp_path / "f").write_text("a file")
    assert "Not a directory" in refused([*call[:3], str(tmp_path / "f" / "o")], capsys)
    assert main(call) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with exclusive(out, "index"):
        assert "Another index writes to" in refused(call, capsys)
    for code in (errno.ENOSPC, errno.EROFS, errno.EIO):

        def full(*_: Any, code: int = code) -> None:
            raise OSError(code, os.strerror(code), "index.csv")

        with monkeypatch.context() as patch:
            patch.setattr("ppi_med.io.os.replace", full)
            assert os.strerror(code) in refused(call, capsys)
        after = {path.name: path.read_bytes() for path in out.iterdir()}
        assert {name: after[name] for name in ("index.csv", "errors.jsonl")} == {
            name: before[name] for name in ("index.csv", "errors.jsonl")
        }
    with monkeypatch.context() as patch:
        patch.setattr(HeaderStore, "add", lambda *_: (_ for _ in ()).throw(MemoryError))
        (out / "headers.sqlite").unlink()
        assert "not enough memory" in refused(call, capsys)


@pytest.mark.parametrize(("option", "words"), [("size=48k", "full"), ("ro", "Read-only")])
def test_a_small_or_read_only_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, words: str
) -> None:
    for k in range(60):
        write_series(tmp_path / "t" / str(k), [0, 2.5, 5], SeriesInstanceUID=f"1.2.{k + 1}")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        call = ["--source", str(tmp_path / "t"), "--output", str(disk / "o"), "--quiet",
                "--workers", "1"]  # fmt: skip
        assert words in refused(call, capsys)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("damage", ["no database", "a page", "cut off", "other tables"])
def test_a_damaged_store_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    for k in range(40):
        write_series(tmp_path / "t" / str(k), [0, 2.5, 5], SeriesInstanceUID=f"1.2.{k + 1}")
    call = ["--source", str(tmp_path / "t"), "--output", str(tmp_path / "o"), "--quiet",
            "--workers", "1"]  # fmt: skip
    assert main(call) == 0
    path = tmp_path / "o" / "headers.sqlite"
    content = path.read_bytes()
    if damage == "no database":
        path.write_bytes(b"text" * 4000)
    elif damage == "a page":
        path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    elif damage == "cut off":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.unlink()
        base = sqlite3.connect(path)
        base.execute("CREATE TABLE files (path TEXT)")
        base.commit()
        base.close()
    assert "headers.sqlite" in refused(call, capsys)
    path.unlink()
    assert main(call) == 0


def test_find_needs_an_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["--output", str(tmp_path / "none"), "--find", "F-0123456789abcdef"]
    assert "holds no headers.sqlite" in refused(call, capsys)
    assert not (tmp_path / "none").exists()


def test_parquet(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    write_series(tmp_path / "t", [0, 2.5, 5])
    summary = index_tree(tmp_path / "t", tmp_path / "o", table="index.parquet", scheduler="serial")
    assert pq.read_table(summary.table).to_pylist()[0]["step_mm"] == "2.5"
    with pytest.raises(ValueError, match=r"\.csv or \.parquet"):
        write_table(tmp_path / "a.txt", [])


@pytest.mark.parametrize(
    ("value", "cell"), [("=1+1", "'=1+1"), ("", ""), (None, ""), ("-5 x", "-5 x"), ("-a", "'-a")]
)
def test_no_cell_is_a_formula(value: str | None, cell: str) -> None:
    assert _cell(value) == cell


def die_at_b(chunk: Chunk) -> list[tuple[DicomFile, str]]:
    if any(file.path == "b" for file in chunk.files):
        os._exit(9)
    return [(file, "read") for file in chunk.files]


@pytest.mark.slow
def test_of_the_files_beside_a_deadly_one_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "read_chunk", die_at_b)
    files = tuple(DicomFile(name) for name in "abc")
    found = index._died(Chunk(Path(), files))
    assert [file.path for file, _ in found] == ["a", "b", "c"]
    assert (found[0][1], found[2][1]) == ("read", "read")
    problem = found[1][1]
    assert isinstance(problem, FileProblem) and problem.reason == "the process that read it died."


def test_a_deadly_chunk_is_read_file_by_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def tasks(_: Any, items: list[Chunk], **options: Any) -> Any:
        assert (options["scheduler"], options["workers"]) == ("processes", 2)
        return [options["on_death"](item) for item in items]

    monkeypatch.setattr(index, "run_tasks", tasks)
    files = tuple(DicomFile(name) for name in "ab")
    found = index._died(Chunk(Path(), files))
    assert found == [
        (file, FileProblem(file, "unreadable", "the process that read it died.")) for file in files
    ]


def test_what_shares_uids_is_said(tmp_path: Path) -> None:
    """One series UID under three patients; one SOPInstanceUID in two series."""
    for patient in "abc":
        write_series(tmp_path / "t" / patient, [0, 2.5, 5], PatientID=patient)
    other = {"SeriesInstanceUID": "1.2.9", "PatientID": "d"}
    write_series(tmp_path / "t" / "d", [0, 2.5, 5], SOPInstanceUID="1.2.3.4", **other)
    write_slice(tmp_path / "t" / "e.dcm", 1, 0, SOPInstanceUID="1.2.3.4",
                SeriesInstanceUID="1.2.10")  # fmt: skip
    summary = index_tree(tmp_path / "t", tmp_path / "o", scheduler="serial")
    found = rows(summary.table)
    same_series = [row for row in found if "a series of the same UID" in row["warnings"]]
    same_instance = [row for row in found if "have a SOPInstanceUID of this" in row["warnings"]]
    assert [row["slices"] for row in same_series] == ["3", "3", "3"]
    assert len({row["patient"] for row in same_series}) == 3
    assert len(same_instance) == 2


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    full = {"FrameOfReferenceUID": "1.2.3"}
    write_series(tmp_path / "full", [0, 2.5, 5], **full, SeriesInstanceUID="1.2.1")
    write_series(tmp_path / "lacking", [0, 2.5, 5], SeriesInstanceUID="1.2.2")
    for k, name in enumerate(("A^B", "A^B", "C^D")):
        write_slice(tmp_path / "two" / f"{k}.dcm", k, 2.5 * k, PatientName=name, **full)
    found = {}
    for name in ("full", "lacking", "two"):
        summary = index_tree(tmp_path / name, tmp_path / "o" / name, scheduler="serial")
        (found[name],) = rows(summary.table)
    assert {row["status"] for row in found.values()} == {"volume"}
    assert found["full"]["warnings"] == ""
    assert "exported: its series lacks FrameOfReferenceUID." in found["lacking"]["warnings"]
    assert "differ in PatientName, PatientBirthDate" in found["two"]["warnings"]


def test_summary_is_json(tmp_path: Path) -> None:
    summary = index_tree(tmp_path, tmp_path / "o", scheduler="serial")
    assert summary.exit_code == 1 and "the folder holds none" in summary.notes[0]
    assert json.loads((tmp_path / "o" / "index_summary.json").read_text())["identified"] is False
