"""Names of volumes: no two alike, further volumes of one file counted in."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppi_med.data.manifest import read_manifest
from ppi_med.data.oct import heidelberg_e2e
from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.registry import Source, reader_for
from ppi_med.data.oct.sources import unique_names, volume_name
from ppi_med.data.oct.volume import OctVolume
from tests.data.oct import writers
from tests.data.oct.sites import convert


def names(*files: str) -> list[str]:
    sources = [Source(Path(f), f, reader_for(f) or "", (Path(f),)) for f in files]
    return unique_names(sources, lambda source: volume_name(source.relative))


def test_a_further_volume_of_another_file_is_taken() -> None:
    assert names("scan.e2e", "Scan_2.e2e", "scan_1.e2e") == ["scan", "Scan_2-e2e", "scan_1"]
    assert names("scan_2.mat", "scan.e2e") == ["scan_2", "scan-e2e"]
    assert names("scan.mat", "scan_2.mat", "a_2.e2e") == ["scan", "scan_2", "a_2"]
    assert names("a.mat", "a.vol", "a.vol") == ["a", "a-vol", "a-vol-2"]


def two_eyes(source: Source, options: ReadOptions) -> list[OctVolume]:
    path = source.path
    seeds = (path.stat().st_size, path.stat().st_size + 100)
    return [OctVolume(writers.volume(seed=seed), "heidelberg-e2e", path) for seed in seeds]


def test_two_files_of_several_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heidelberg_e2e, "read", two_eyes)
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "scan.e2e").write_text("1")
    (raw / "scan_2.e2e").write_text("12")
    assert convert(raw, tmp_path / "out").exit_code == 0
    rows = read_manifest(tmp_path / "out" / "manifest.csv")
    ids = ["scan", "scan_2", "scan_2-e2e", "scan_2-e2e_2"]
    assert [row.volume_id for row in rows] == ids
    written = {path.name for path in (tmp_path / "out" / "volumes").iterdir()}
    assert written == {f"{name}.nii.gz" for name in ids}
