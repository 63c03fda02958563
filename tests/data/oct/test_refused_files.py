"""Names that are no text and files that the system refuses: named, and the rest goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ppi_med.data.manifest import read_manifest
from ppi_med.data.oct.registry import natural_key
from ppi_med.data.oct.sources import find_sources
from ppi_med.data.oct.volume import OctReadError
from ppi_med.inference.volumes import find_inputs, output_names, read_volumes
from tests.data.oct import writers
from tests.data.oct.sites import convert


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    writers.write_heyex_xml(tmp_path / "raw", writers.volume(seed=1))
    writers.write_mat(tmp_path / "raw" / "good.mat", writers.volume(seed=2))
    return tmp_path / "raw"


def failures(raw: Path, output: Path) -> dict[str, str]:
    report = convert(raw, output)
    assert [row.volume_id for row in read_manifest(output / "manifest.csv")] == ["export", "good"]
    assert json.loads((output / "conversion_report.json").read_text())["exit_code"] == 1
    report.table().encode()
    return {outcome.source: outcome.reason for outcome in report.failed}


def test_names_that_are_not_utf8(raw: Path, tmp_path: Path) -> None:
    try:
        writers.write_mat(raw / os.fsdecode(b"M\xfcller.mat"), writers.volume(seed=3))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    stack = writers.write_pictures(raw / "a" / "stack", writers.volume(seed=4))
    (stack / "1.tif").rename(stack / os.fsdecode(b"\xe4.tif"))
    (raw / os.fsdecode(b"notes.\xfc")).write_text("x")
    assert failures(raw, tmp_path / "out") == {
        "M\\udcfcller.mat": "the name M\\udcfcller.mat is not UTF-8: rename it and run again.",
        "a/stack": "the name \\udce4.tif is not UTF-8: rename it and run again.",
    }
    inputs = find_inputs(raw)
    assert len(set(output_names(inputs))) == 4
    source = next(item for item in inputs if item.relative.startswith("M"))
    with pytest.raises(OctReadError) as caught:
        read_volumes(source)
    assert "not UTF-8" in caught.value.reason


def test_a_link_to_nowhere(raw: Path, tmp_path: Path) -> None:
    (raw / "x.xml").symlink_to(raw / "gone.xml")
    assert failures(raw, tmp_path / "out") == {
        "x.xml": "FileNotFoundError: No such file or directory."
    }


def test_folders_that_cannot_be_read(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (raw / "locked").mkdir()
    for module_function in ("scandir", "listdir"):
        real = getattr(os, module_function)

        def refuse(path: str = ".", real=real):
            if Path(path).name == "locked":
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(os, module_function, refuse)
    assert failures(raw, tmp_path / "out") == {"locked": "PermissionError: Permission denied."}


def test_an_unreadable_export_below_keeps_its_pictures(tmp_path: Path) -> None:
    writers.write_heyex_xml(tmp_path, writers.volume(), names="{}.tif")
    below = writers.write_pictures(tmp_path / "below", writers.volume(seed=2))
    (below / "own.xml").symlink_to(tmp_path / "gone.xml")
    found = {source.relative: source for source in find_sources(tmp_path).sources}
    assert all(file.parent == tmp_path for file in found["export.xml"].files)
    assert found["below/own.xml"].fault and len(found["below"].files) == 5


def test_a_superscript_is_no_number() -> None:
    assert sorted(["10²", "9²"], key=natural_key) == ["9²", "10²"]
