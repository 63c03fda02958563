"""What each vendor's reader takes from the file, what it leaves unknown, what it refuses."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.registry import read_all, read_oct
from ppi_med.data.oct.volume import NotOctError, OctReadError, OctVolume
from tests.data.oct import writers

PIXELS = writers.volume((5, 12, 9))
DEEP = writers.volume((5, 12, 9), seed=2, high=4096)
RAW = np.random.default_rng(0).random((4, 7, 6)).astype(np.float32)


def _warning(volume: OctVolume) -> str:
    return " ".join(volume.warnings)


# --- Heidelberg .vol


def test_vol(tmp_path: Path) -> None:
    raw = RAW.copy()
    raw[1, 2, 3] = np.finfo(np.float32).max
    volume = read_oct(writers.write_vol(tmp_path / "a.vol", raw))
    for index in np.ndindex(raw.shape):
        x = float(raw[index])
        grey = 0 if x > 1 else 255 * min(max((math.log(x + 2.44e-4) + 8.3) / 8.285, 0), 1)
        assert abs(int(volume.pixels[index]) - grey) <= 0.51
    assert volume.spacing == (0.0117, 0.0039, 0.06)
    assert volume.laterality == "OS" and volume.subject_key == "P-7"
    assert volume.meta["exam"].startswith("2000-04-12")
    assert "P-7" not in repr(volume)


@pytest.mark.parametrize(("pattern", "word"), [(2, "circle"), (5, "radial")])
def test_vol_refuses(pattern: int, word: str, tmp_path: Path) -> None:
    with pytest.raises(OctReadError, match=word):
        read_oct(writers.write_vol(tmp_path / "a.vol", RAW, pattern=pattern))


def test_vol_without_eye_and_distance(tmp_path: Path) -> None:
    path = writers.write_vol(tmp_path / "a.vol", RAW[:1], eye=b"", scales=(0.01, 0.004, 0.0))
    volume = read_oct(path)
    assert volume.laterality is None and volume.spacing == (0.01, 0.004, None)


def test_vol_uneven_steps_are_not_averaged(tmp_path: Path) -> None:
    path = writers.write_vol(tmp_path / "a.vol", RAW, starts=[0.0, 0.06, 0.15, 0.18])
    volume = read_oct(path)
    assert volume.spacing.between is None
    assert "uneven steps" in _warning(volume) and "B-scan" in _warning(volume)
    path = writers.write_vol(tmp_path / "b.vol", RAW, starts=[0.0, 0.12, 0.24, 0.36])
    assert "positions 0.1200" in _warning(read_oct(path))
    assert read_oct(path).spacing.between is None


# --- Heidelberg XML


@pytest.mark.parametrize("urls", [True, False])
def test_xml(urls: bool, tmp_path: Path) -> None:
    pixels = writers.volume((12, 6, 5))
    path = writers.write_heyex_xml(tmp_path, pixels, urls=urls, eyes=["R"], patient="P-1")
    volume = read_oct(path)
    np.testing.assert_array_equal(volume.pixels, pixels)
    assert volume.spacing == pytest.approx((0.0112, 0.0039, 0.06))
    assert volume.laterality == "OD" and volume.subject_key == "P-1"


def test_xml_leaves_unknown_what_is_not_there(tmp_path: Path) -> None:
    volume = read_oct(writers.write_heyex_xml(tmp_path, PIXELS))
    assert volume.laterality is None and volume.subject_key is None
    both = read_oct(writers.write_heyex_xml(tmp_path / "b", PIXELS, eyes=["L", "R"]))
    assert both.laterality is None and "both eyes" in _warning(both)
    bumpy = read_oct(writers.write_heyex_xml(tmp_path / "c", PIXELS, bumps={3: 0.01}))
    assert bumpy.spacing.between is None and bumpy.spacing.lateral == 0.0112
    assert "from B-scan 2 to 3" in _warning(bumpy)


def test_xml_pictures_are_looked_for_below_and_nowhere_else(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    writers.write_pictures(outside, PIXELS, [f"B{n}" for n in range(1, 6)])
    inside = tmp_path / "inside"
    path = writers.write_heyex_xml(inside, PIXELS, urls=True, names="scans/B{}.tif")
    path.write_text(path.read_text().replace("\\\\host\\share", "..\\outside"))
    np.testing.assert_array_equal(read_oct(path).pixels, PIXELS)  # by their last part, inside
    for file in (inside / "scans").iterdir():
        file.unlink()
    with pytest.raises(OctReadError, match="B-scan 1: the picture B1.tif is missing"):
        read_oct(path)


def test_xml_missing_and_ambiguous_pictures(tmp_path: Path) -> None:
    path = writers.write_heyex_xml(tmp_path, PIXELS)
    (tmp_path / "scans" / "4-Input.tif").unlink()
    with pytest.raises(OctReadError, match="1 of 5 B-scan pictures are missing, first number 4"):
        read_oct(path)
    path = writers.write_heyex_xml(tmp_path, PIXELS)
    writers.write_pictures(tmp_path / "other", PIXELS)
    with pytest.raises(OctReadError, match="several families"):
        read_oct(path)


def test_xml_refuses(tmp_path: Path) -> None:
    with pytest.raises(OctReadError, match="'Radial'"):
        read_oct(writers.write_heyex_xml(tmp_path, PIXELS, kind="Radial"))
    path = tmp_path / "bomb.xml"
    path.write_text('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><HEDX>&b;</HEDX>')
    with pytest.raises(OctReadError, match="refused"):
        read_oct(path)
    path.write_text('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hosts">]><HEDX>&a;</HEDX>')
    with pytest.raises(OctReadError, match="refused"):
        read_oct(path)
    path.write_text("<HEDX><BODY/></HEDX>")
    with pytest.raises(NotOctError):
        read_oct(path)
    path = writers.write_heyex_xml(tmp_path / "sizes", PIXELS)
    path.write_text(path.read_text().replace("<Height>12<", "<Height>13<"))
    with pytest.raises(OctReadError, match="as the XML tells"):
        read_oct(path)


# --- Heidelberg .e2e


def _smooth(shape: tuple[int, int, int] = (4, 20, 30)) -> np.ndarray:
    _, depth, width = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    return (0.02 + 0.9 * (0.5 + 0.5 * np.sin(9 * depth + 2 * width)) ** 3).astype(np.float32)


@pytest.mark.parametrize("reverse", [False, True])
def test_e2e_keeps_only_what_is_known(reverse: bool, tmp_path: Path) -> None:
    pytest.importorskip("eyepy")
    raw = _smooth()
    volume = read_oct(writers.write_e2e(tmp_path / "a.e2e", raw, reverse=reverse))
    grey = np.clip(255 * (np.log(raw + 2.44e-4) + 8.3) / 8.285, 0, 255)
    assert np.abs(volume.pixels - grey).max() <= 1  # ten bits of mantissa
    assert ("least" in volume.provenance["pixels"]) == reverse
    assert volume.spacing.lateral is None and volume.spacing.between is None
    assert volume.spacing.axial == pytest.approx(0.0039)
    assert volume.laterality == "OD" and volume.subject_key == "P-9"
    assert read_oct(writers.write_e2e(tmp_path / "b.e2e", raw, eye=None)).laterality is None


def test_e2e_decodes_as_eyepy_where_the_mantissa_is_reversed() -> None:
    e2e_format = pytest.importorskip("eyepy.io.he.e2e_format")
    from ppi_med.data.oct.heidelberg_e2e import _decode

    codes = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    oracle = e2e_format.Bscan.LUT[codes]
    np.testing.assert_array_equal(_decode(codes, reverse=True), oracle.astype(np.float32))


def test_e2e_series(tmp_path: Path) -> None:
    pytest.importorskip("eyepy")
    raw = np.clip(RAW, 0.01, 1)
    path = writers.write_e2e(tmp_path / "a.e2e", raw, series=3, patterns=[3, 5, 3])
    volumes = read_all(path)
    assert len(volumes) == 2
    assert "series 2 of 3 left out: a radial scan" in _warning(volumes[0])
    with pytest.raises(OctReadError, match="circle"):
        read_all(writers.write_e2e(path, raw, pattern=2))
    whole = writers.write_e2e(path, raw).read_bytes()
    for part in (0.02, 0.3, 0.8):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(OctReadError, match="damaged or truncated"):
            read_all(path)


def test_e2e_without_eyepy_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(name)

    path = writers.write_e2e(tmp_path / "a.e2e", np.clip(RAW, 0.01, 1))
    monkeypatch.setattr("ppi_med.data.oct.heidelberg_e2e.import_module", fail)
    with pytest.raises(OctReadError, match=r"ppi_med\[oct\]"):
        read_all(path)


# --- Bioptigen


def test_bioptigen_spacing(tmp_path: Path) -> None:
    volume = read_oct(writers.write_bioptigen(tmp_path / "a.OCT", DEEP))
    assert volume.spacing == (None, 2.4 / 12, 10.0 / 5) or volume.spacing.lateral is None
    fine = writers.write_bioptigen(tmp_path / "b.OCT", DEEP, millimetres=(0.09, 0.024, 0.3))
    volume = read_oct(fine)
    assert volume.spacing == pytest.approx((0.01, 0.002, 0.06))
    assert volume.provenance["spacing_lateral_mm"].startswith("file: AZSCANLENGTH 0.09 mm over 9")
    line = read_oct(writers.write_bioptigen(tmp_path / "c.OCT", DEEP, scan_type=0))
    assert line.spacing.between is None and "line scan" in _warning(line)


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        (3, {}, "radial"),
        (6, {}, "mixed density"),
        (1, {"FRAMES": 2}, "2 frames at each of 5 places"),
        (1, {"LINECOUNT": 0}, "no LINECOUNT"),
        (1, {"LINECOUNT": 10**6}, "truncated or not of this format"),
        (1, {"FRAMECOUNT": 2**31}, "GiB"),
        (1, {"LINELENGTH": 13}, "bytes, expected"),
    ],
)
def test_bioptigen_refuses(kind: int, changes: dict[str, int], reason: str, tmp_path: Path) -> None:
    path = writers.write_bioptigen(tmp_path / "a.OCT", DEEP, scan_type=kind, changes=changes)
    with pytest.raises(OctReadError, match=reason):
        read_oct(path)


# --- Zeiss


def test_zeiss_shape_and_eye(tmp_path: Path) -> None:
    vendor = "P1_Macular Cube 9x5_3-4-2012_10-11-12_OS_sn123_cube_z.img"
    path = writers.write_cirrus(tmp_path / vendor, np.zeros((5, 1024, 9), np.uint8))
    volume = read_oct(path)
    assert volume.shape == (5, 1024, 9) and volume.laterality == "OS"
    assert volume.spacing == (None, None, None)
    assert volume.provenance == {
        "shape": "rule: vendor's file name",
        "eye": "rule: vendor's file name",
    }
    plain = writers.write_cirrus(tmp_path / "x_OD.img", PIXELS)
    with pytest.raises(OctReadError, match="--shape"):
        read_oct(plain)
    with pytest.raises(OctReadError, match="holds only 540"):
        read_oct(plain, ReadOptions(shape=(12, 9, 10)))
    with pytest.raises(OctReadError, match="540 bytes, expected 432"):
        read_oct(plain, ReadOptions(shape=(12, 9, 4)))
    volume = read_oct(plain, ReadOptions(shape=(12, 9, 5)))
    assert volume.laterality is None and volume.provenance["shape"] == "user: --shape"


# --- Topcon


def test_topcon_spacing_and_eye(tmp_path: Path) -> None:
    wide = writers.volume((40, 12, 9), seed=1)
    path = writers.write_fda(tmp_path / "a.fda", wide, extent=(0.09, 2.4, 3.5))
    volume = read_oct(path)
    assert volume.spacing == pytest.approx((0.01, 0.0035, 0.06))
    assert volume.laterality is None and "says OS" in _warning(volume)
    few = read_oct(writers.write_fda(tmp_path / "b.fda", PIXELS, extent=(0.09, 0.3, 3.5)))
    assert few.spacing.between is None and "radial or line" in _warning(few)


# --- DICOM


def test_dicom_geometry(tmp_path: Path) -> None:
    volume = read_oct(writers.write_dicom(tmp_path / "a.dcm", PIXELS, stated=0.05))
    assert volume.spacing == pytest.approx((0.0112, 0.0039, 0.05))
    assert volume.laterality == "OS" and volume.subject_key == "P-3"
    bare = read_oct(
        writers.write_dicom(tmp_path / "b.dcm", PIXELS, spacing=None, step=None, eye=None)
    )
    assert bare.spacing == (None, None, None) and bare.laterality is None
    stated = read_oct(writers.write_dicom(tmp_path / "c.dcm", PIXELS, step=None, stated=0.07))
    assert stated.spacing.between == 0.07
    odd = read_oct(writers.write_dicom(tmp_path / "d.dcm", PIXELS, stated=0.06))
    assert odd.spacing.between is None and "SpacingBetweenSlices" in _warning(odd)
    bumpy = read_oct(writers.write_dicom(tmp_path / "e.dcm", PIXELS, bumps={2: 0.02}))
    assert bumpy.spacing.between is None and "uneven" in _warning(bumpy)


def test_dicom_order(tmp_path: Path) -> None:
    places = [3, 1, 5, 2, 4]
    volume = read_oct(writers.write_dicom(tmp_path / "a.dcm", PIXELS, places=places))
    np.testing.assert_array_equal(volume.pixels, PIXELS[np.argsort(places)])
    assert volume.spacing.between == pytest.approx(0.05)


def test_dicom_compressed(tmp_path: Path) -> None:
    from pydicom import dcmread
    from pydicom.uid import RLELossless

    path = writers.write_dicom(tmp_path / "a.dcm", PIXELS)
    data = dcmread(path)
    data.compress(RLELossless)
    data.save_as(path)
    np.testing.assert_array_equal(read_oct(path).pixels, PIXELS)
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    with pytest.raises(OctReadError):
        read_oct(path)


def test_dicom_refuses(tmp_path: Path) -> None:
    other = writers.write_dicom(tmp_path / "a.dcm", PIXELS, sop_class="1.2.840.10008.5.1.4.1.1.7")
    with pytest.raises(NotOctError, match="Secondary Capture"):
        read_oct(other)
    more = writers.write_dicom(tmp_path / "b.dcm", PIXELS, changes={"NumberOfFrames": 50})
    with pytest.raises(OctReadError, match="truncated or not of this format"):
        read_oct(more)
    colour = writers.write_dicom(
        tmp_path / "c.dcm", PIXELS, changes={"PhotometricInterpretation": "RGB"}
    )
    with pytest.raises(OctReadError, match="RGB pixels"):
        read_oct(colour)
    inverse = writers.write_dicom(
        tmp_path / "d.dcm", PIXELS, changes={"PhotometricInterpretation": "MONOCHROME1"}
    )
    np.testing.assert_array_equal(read_oct(inverse).pixels, 255 - PIXELS)


# --- pictures


def test_stack_refuses_colour_and_sizes(tmp_path: Path) -> None:
    folder = writers.write_pictures(tmp_path / "s", PIXELS)
    grey = np.repeat(PIXELS[0][..., None], 3, axis=2)
    Image.fromarray(grey).save(folder / "1.tif")
    np.testing.assert_array_equal(read_oct(folder).pixels, PIXELS)
    drawn = grey.copy()
    drawn[3, 4] = (250, 20, 20)
    Image.fromarray(drawn).save(folder / "1.tif")
    with pytest.raises(OctReadError, match=r"1\.tif has coloured pixels"):
        read_oct(folder)
    allowed = read_oct(folder, ReadOptions(colour="warn"))
    assert "1 coloured pictures" in _warning(allowed)
    Image.fromarray(PIXELS[0][:10]).save(folder / "1.tif")
    with pytest.raises(OctReadError, match=r"2\.tif has 12 x 9 pixels, expected .* 10 x 9"):
        read_oct(folder)
    Image.fromarray(DEEP[0]).save(folder / "1.tif")
    with pytest.raises(OctReadError, match="mixed"):
        read_oct(folder)


def test_stack_names_the_damaged_picture(tmp_path: Path) -> None:
    folder = writers.write_pictures(tmp_path / "s", PIXELS, suffix=".png")
    path = folder / "3.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(OctReadError, match=r"^s: 3\.png is no readable picture"):
        read_oct(folder)
