"""Published OCT files through readers and conversion: sizes, order, spacing, pixels' hashes."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppi_med.data.manifest import read_manifest
from ppi_med.data.oct.convert import convert_folder
from ppi_med.data.oct.nifti import read_nifti
from ppi_med.data.oct.options import ConvertOptions, ReadOptions
from ppi_med.data.oct.registry import read_oct
from ppi_med.data.oct.volume import OctReadError

pytestmark = pytest.mark.data

SPECTRALIS = "b1733f60cc182a516f1affe379160e3ef5da055538f890d3cf54557bb374e32a"
BIOPTIGEN = [
    "068277c010b3051f", "97f8faa48dfef964", "6ae6323dc2ea868b", "bf07a8e4c82492d3",
    "16af41167d5d442e",
]  # fmt: skip


def _hash(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def test_spectralis(data_root: Path) -> None:
    folder = data_root / "oct_spectralis"
    volume = read_oct(folder / "OCT-Info.xml")
    assert volume.shape == (145, 496, 512) and volume.pixels.dtype == np.uint8
    assert _hash(volume.pixels) == SPECTRALIS
    with (folder / "PIXELS.csv").open() as stream:
        for index, row in enumerate(csv.DictReader(stream)):
            assert row["file"] == f"{index + 1}-Input.tif"
            assert _hash(volume.pixels[index]) == row["sha256_pixels"]
    assert volume.spacing == pytest.approx((0.011182, 0.003872, 0.029819), abs=1e-6)
    assert volume.laterality is None and volume.subject_key is None


def test_spectralis_converted(data_root: Path, tmp_path: Path) -> None:
    report = convert_folder(
        ConvertOptions.of(
            data_root / "oct_spectralis", tmp_path, workers=1, progress=False, expect_slices=145
        )
    )
    assert report.exit_code == 0 and report.count("ok") == 1, report.table()
    row = read_manifest(tmp_path / "manifest.csv")[0]
    assert (row.n_slices, row.rows_px, row.columns_px, row.extra["eye"]) == (145, 496, 512, "")
    assert row.spacing_slices_mm == pytest.approx(0.029819, abs=1e-6)
    assert any("not among its B-scans" in warning for warning in row.warnings)
    pixels, spacing = read_nifti(tmp_path / "volumes" / f"{row.volume_id}.nii.gz")
    assert _hash(pixels) == SPECTRALIS
    assert spacing == pytest.approx((0.011182, 0.003872, 0.029819), abs=1e-6)


def test_spectralis_as_published_is_grey(data_root: Path) -> None:
    """B-scan 73 in the form it was published in: RGB, LZW with predictor."""
    volume = read_oct(data_root / "oct_spectralis" / "original_rgb")
    assert _hash(volume.pixels) == _hash(
        np.asarray(Image.open(data_root / "oct_spectralis/OCT-Volume-Scan/73-Input.tif"))
    )


def test_bioptigen_frames(data_root: Path) -> None:
    folder = data_root / "oct_bioptigen" / "eye03"
    volume = read_oct(folder / "octt3.mat")
    assert volume.shape == (5, 450, 900)
    assert [_hash(plane)[:16] for plane in volume.pixels] == BIOPTIGEN
    stack = read_oct(folder)  # sorted by name: 1, 2, 3, 4, test
    np.testing.assert_array_equal(stack.pixels, volume.pixels[[1, 2, 3, 4, 0]])
    for read in (volume, stack):
        assert read.spacing == (None, None, None) and read.laterality is None


def test_bioptigen_converted(data_root: Path, tmp_path: Path) -> None:
    report = convert_folder(
        ConvertOptions.of(data_root / "oct_bioptigen", tmp_path, workers=2, progress=False)
    )
    assert report.exit_code == 0
    rows = {row.volume_id: row for row in read_manifest(tmp_path / "manifest.csv")}
    assert set(rows) == {"eye03", "eye03__octt3", "eye09", "eye11"}
    assert rows["eye09"].rows_px == 401
    for row in rows.values():
        spacing = (row.spacing_columns_mm, row.spacing_rows_mm, row.spacing_slices_mm)
        assert spacing == (None, None, None) and row.extra["eye"] == "" and row.label is None
        assert any("spacing unknown" in warning for warning in row.warnings)
    assert any("another order" in warning for warning in rows["eye03"].warnings)


@pytest.mark.parametrize(
    "name", ["heyex_vol/test_volume.vol", "heyex_xml/test_volume/test_dummy.xml"]
)
def test_heyex_dummies_as_eyepy_reads_them(name: str, data_root: Path) -> None:
    eyepy = pytest.importorskip("eyepy")
    path = data_root / "oct_other" / "eyepy_dummy" / name
    volume = read_oct(path)
    reads = eyepy.import_heyex_vol if path.suffix == ".vol" else eyepy.import_heyex_xml
    oracle = reads(path if path.suffix == ".vol" else path.parent)
    np.testing.assert_array_equal(volume.pixels, oracle.data)
    assert volume.shape == (10, 40, 50) and volume.laterality == "OD"
    assert volume.spacing == pytest.approx((oracle.scale_x, oracle.scale_y, oracle.scale_z))
    assert volume.spacing == pytest.approx((0.011819, 0.003872, 0.0314444), abs=1e-7)


def test_drawn_pictures_are_refused(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(OctReadError, match="coloured pixels"):
        read_oct(data_root / "oct_other" / "burned_in")
    for path in sorted((data_root / "oct_other" / "burned_in").iterdir()):
        with pytest.raises(OctReadError, match="coloured pixels"):
            read_oct(path)
        assert "coloured" in read_oct(path, ReadOptions(colour="warn")).warnings[0]


def test_single_pictures(data_root: Path, tmp_path: Path) -> None:
    folder = data_root / "oct_other" / "kermany"
    with pytest.raises(OctReadError, match="--images single"):
        read_oct(folder)
    pattern = r"(?P<subject>\d+)-\d+\.jpeg"
    report = convert_folder(
        ConvertOptions.of(
            folder, tmp_path, images="single", pattern=pattern, workers=1, progress=False
        )
    )
    assert report.exit_code == 0 and report.count("ok") == 4
    rows = read_manifest(tmp_path / "manifest.csv")
    assert [row.subject for row in rows] == ["81630", "82328", "95633", "1384"]
    assert {row.n_slices for row in rows} == {1}


def test_real_files_spoilt(data_root: Path, tmp_path: Path) -> None:
    """Truncated .mat, text named .vol, empty folder, 99 slices, a copy: a line each, no stop."""
    raw = tmp_path / "raw"
    raw.mkdir()
    octt = (data_root / "oct_bioptigen" / "eye03" / "octt3.mat").read_bytes()
    (raw / "good.mat").write_bytes(octt)
    (raw / "copy.mat").write_bytes(octt)
    (raw / "cut.mat").write_bytes(octt[: len(octt) // 2])
    (raw / "text.vol").write_text("not a volume")
    (raw / "empty").mkdir()
    scans = data_root / "oct_spectralis" / "OCT-Volume-Scan"
    (raw / "short").mkdir()
    for number in range(1, 100):
        (raw / "short" / f"{number}.tif").symlink_to(scans / f"{number}-Input.tif")
    report = convert_folder(
        ConvertOptions.of(raw, tmp_path / "out", workers=2, progress=False, expect_slices=5)
    )
    lines = {outcome.source: (outcome.status, outcome.reason) for outcome in report.outcomes}
    assert lines["copy.mat"] == ("ok", "")  # the first of the two by name
    assert lines["good.mat"] == ("duplicate", "same pixels as copy.mat.")
    assert lines["cut.mat"][0] == "failed" and "truncated" in lines["cut.mat"][1]
    assert lines["text.vol"][0] == "failed" and "not a HEYEX .vol" in lines["text.vol"][1]
    assert lines["empty"] == ("failed", "the folder is empty.")
    assert lines["short"] == ("failed", "99 B-scans, expected 5 (--expect-slices).")
    assert report.exit_code == 1
    assert [row.volume_id for row in read_manifest(tmp_path / "out/manifest.csv")] == ["copy"]
