from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ppi_med.io import atomic_path, remove_left_overs, whole_files, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_on_leaving(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("all")
        assert not target.exists()
        assert temporary.parent == target.parent
    assert target.read_text() == "all"
    assert names(target.parent) == ["a.txt"]


def test_an_error_leaves_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="disk"), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("name", "ending"), [("v.nii.gz", ".nii.gz"), ("a.json", ".json"), ("plain", ".tmp")]
)
def test_the_temporary_name_ends_alike_and_is_hidden(
    tmp_path: Path, name: str, ending: str
) -> None:
    with atomic_path(tmp_path / name) as temporary:
        temporary.write_text("x")
        assert temporary.name.endswith(ending)
        assert temporary.name.startswith(".")


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.txt"), atomic_path(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == []


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder"), atomic_path(tmp_path):
        pass


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with atomic_path(target) as one, atomic_path(target) as two:
        one.write_text("one")
        two.write_text("two")
    assert target.read_text() == "one"
    assert names(tmp_path) == ["a.txt"]


def test_file_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("x")
    write_text(tmp_path / "atomic", "x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_kill_while_writing_leaves_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    code = (
        "import os, sys, signal; from ppi_med.io import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).resolve().parent.parent
    result = subprocess.run([sys.executable, "-c", code, str(target)], cwd=root, check=False)
    assert result.returncode == -signal.SIGKILL
    assert target.read_text() == "old"


def test_the_content_is_on_the_disk_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b))[1])
    write_text(tmp_path / "a.txt", "x")
    assert calls[:2] == ["fsync", "replace"]


def test_json_round_trip_and_no_nan(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": "ä"}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"x": math.nan})
    assert names(tmp_path) == ["a.json"]


def test_what_a_killed_writer_left_is_no_whole_file(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", ".c.json.x1.tmp.json", "d.txt"):
        (tmp_path / name).write_text("x")
    assert whole_files(tmp_path, ".json") == [tmp_path / "a.json", tmp_path / "b.json"]
    assert whole_files(tmp_path / "none", ".json") == []
    remove_left_overs(tmp_path)
    assert names(tmp_path) == ["a.json", "b.json", "d.txt"]
    remove_left_overs(tmp_path / "none")
