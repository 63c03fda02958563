"""Files of several volumes: one that is refused costs the others nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppi_med.data.manifest import read_manifest
from ppi_med.data.oct import heidelberg_e2e
from ppi_med.data.oct import worker as module
from ppi_med.data.oct.registry import Source
from ppi_med.data.oct.volume import OctVolume
from tests.data.oct import writers
from tests.data.oct.sites import convert


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One `.e2e` whose volumes have as many B-scans as its text says."""

    def read(source: Source, options: object) -> list[OctVolume]:
        path = source.path
        sizes = [int(text) for text in path.read_text().split()]
        pixels = [writers.volume((n, 6, 5), seed=seed) for seed, n in enumerate(sizes)]
        return [OctVolume(array, "heidelberg-e2e", path) for array in pixels]

    monkeypatch.setattr(heidelberg_e2e, "read", read)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "scan.e2e").write_text("2 5 5")
    return tmp_path / "raw"


def files(output: Path) -> list[str]:
    return sorted(path.name for path in output.glob("*/*.nii.gz"))


def test_the_volumes_of_the_right_length_stay(raw: Path, tmp_path: Path) -> None:
    for _ in range(2):  # converted, then kept
        report = convert(raw, tmp_path / "out", expect_slices=5)
        (outcome,) = report.failed
        assert outcome.reason == "volume 1 of 3: 2 B-scans, expected 5 (--expect-slices)."
        assert outcome.volume_ids == ("scan_2", "scan_3") and report.exit_code == 1
        rows = read_manifest(tmp_path / "out" / "manifest.csv")
        assert [row.volume_id for row in rows] == ["scan_2", "scan_3"]
        assert files(tmp_path / "out") == ["scan_2.nii.gz", "scan_3.nii.gz"]


def test_a_source_fails_if_no_volume_is_left(raw: Path, tmp_path: Path) -> None:
    (outcome,) = convert(raw, tmp_path / "out", expect_slices=7).failed
    assert "volume 1 of 3" in outcome.reason and "volume 3 of 3" in outcome.reason
    assert files(tmp_path / "out") == []


def test_a_failed_source_leaves_no_volume(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.write_nifti

    def full(path: Path, *rest: object) -> Path:
        if path.name.startswith("scan_3"):
            raise OSError(28, "No space left on device")
        return real(path, *rest)

    monkeypatch.setattr(module, "write_nifti", full)
    with pytest.raises(module.OutputError, match=r"cannot be written \(No space left on device\)"):
        convert(raw, tmp_path / "out")
    assert files(tmp_path / "out") == []


def test_a_record_goes_with_the_volumes_that_were_removed(raw: Path, tmp_path: Path) -> None:
    records = tmp_path / "out" / module.RECORDS
    convert(raw, tmp_path / "out", expect_slices=5)
    assert [path.name for path in records.iterdir()] == ["scan.json"]
    (raw / "copy.e2e").write_text("5 5 5")  # its first volume is new, the others are the same
    convert(raw, tmp_path / "out", expect_slices=5)
    assert [path.name for path in records.iterdir()] == ["copy.json"]
