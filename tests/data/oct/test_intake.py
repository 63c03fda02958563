"""What comes in from outside: one rule for each kind of doubt, whatever the format."""

from __future__ import annotations

import gzip
import math
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ppi_med.data.manifest import read_manifest
from ppi_med.data.oct import volume as checks
from ppi_med.data.oct.command import main
from ppi_med.data.oct.labels import Facts, FactsError, Labels, SourceFacts
from ppi_med.data.oct.nifti import read_nifti, write_nifti
from ppi_med.data.oct.registry import Source, read_all, read_oct
from ppi_med.data.oct.sources import find_sources, picture_families
from ppi_med.data.oct.volume import OctReadError, Spacing, fault_of, plausible_spacing
from ppi_med.io import exclusive
from tests.data.oct import writers
from tests.data.oct.sites import convert


def sources(*names: str, reader: str = "heidelberg-e2e") -> list[Source]:
    return [Source(Path(name), name, reader, (Path(name),)) for name in names]


def table(folder: Path, content: str | bytes) -> Labels:
    path = folder / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Labels(path)


# --- tables of labels


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_spreadsheets(tmp_path: Path, encoding: str, separator: str) -> None:
    lines = ["File;Subject;Label", ";;", "Mu\u0308ller.vol;s1;1,0", "b.vol;s2;FALSE", ";;"]
    if separator == ",":
        lines = [line.replace("1,0", "1.0") for line in lines]
    text = "\r\n".join(lines).replace(";", separator)
    if encoding == "cp1252":
        text = text.replace("u\u0308", "\xfc")
    found = table(tmp_path, text.encode(encoding)).match(sources("M\xfcller.vol", "b.vol"))
    labels = [own.rows[0].label for own in found if isinstance(own, SourceFacts)]
    assert labels == [1, 0]


def test_the_separator_that_excel_names(tmp_path: Path) -> None:
    (own,) = table(tmp_path, "sep=;\r\nfile;label\r\na;1\r\n").match(sources("a"))
    assert isinstance(own, SourceFacts) and own.rows[0].label == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04rest", "t.csv is a workbook: save the sheet as CSV"),
        (b"\xff\xfe\x00", "t.csv is no text of utf-16"),
        (b'file,label\n"a\0,1\n', "t.csv"),
        (b"file,label\n,1\n", "line 2: no name in the column 'file'"),
        (b"file,label\na,1\na,0\n", r"line 3: 'a' comes twice \(line 2\)"),
        (b"file,eye,label\na,OD,1\na,,0\n", "comes twice"),
        (b"file,label\n", "t.csv has no rows"),
        (b"file,label\nA,1\n", "none of its 1 files is there, first 'A'; did you mean 'a'"),
    ],
)
def test_tables_that_are_refused_by_name(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        table(tmp_path, content).match(sources("a"))


def test_a_row_that_comes_twice_alike_is_taken_once(tmp_path: Path) -> None:
    labels = table(tmp_path, "file,label\na,1\na,1\n")
    (own,) = labels.match(sources("a"))
    assert isinstance(own, SourceFacts) and len(own.rows) == 1
    assert labels.notes == ["t.csv, line 3 repeats line 2: taken once."]


# --- sources of several volumes

OD, OS, BOTH = Facts(eye="OD", label=1), Facts(eye="OS", label=0), Facts(subject="s", label=1)


@pytest.mark.parametrize(
    ("rows", "eyes", "labels"),
    [
        ((OD, OS), ("OS", "OD"), (0, 1)),
        ((OD, OS), ("OD", "OD", "OS"), (1, 1, 0)),
        ((OD,), ("OD", "OS"), (1, None)),
        ((BOTH,), ("OD", "OD"), (1, 1)),  # one eye, twice recorded
        ((BOTH,), (None,), (1,)),
        ((Facts(subject="s"),), ("OD", None), (None, None)),
        ((), ("OD", "OS"), (None, None)),
        ((BOTH,), ("OD", "OS"), None),
        ((BOTH,), (None, None), None),
        ((OD, OS), (None,), None),
        ((OD,), ("OS", None), None),
    ],
)
def test_each_volume_has_the_label_of_its_own_eye(rows: Any, eyes: Any, labels: Any) -> None:
    facts = SourceFacts(rows)
    if labels is None:
        with pytest.raises(FactsError):
            [facts.of(number, eyes) for number in range(len(eyes))]
    else:
        assert tuple(facts.of(n, eyes).label for n in range(len(eyes))) == labels


def test_rows_by_number_and_a_file_of_that_very_name(tmp_path: Path) -> None:
    labels = table(tmp_path, "file,label\na.e2e,1\na_2.e2e,0\n")
    (own,) = labels.match(sources("a.e2e"))
    assert isinstance(own, SourceFacts)
    assert [own.of(n, ("OD", "OS", None)).label for n in range(3)] == [1, 0, None]
    first, second = labels.match(sources("a.e2e", "a_2.e2e"))
    assert isinstance(first, SourceFacts) and not first.numbered
    assert isinstance(second, SourceFacts) and second.rows[0].label == 0


def test_the_pattern_gives_no_eye_to_the_other(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    raw_pixels = np.linspace(0.1, 1, 2 * 6 * 5, dtype=np.float32).reshape(2, 6, 5)
    writers.write_e2e(raw / "s1_OD.e2e", raw_pixels, series=1)
    pattern = r"(?P<subject>s\d)_(?P<eye>OD|OS)"
    convert(raw, tmp_path / "out", pattern=pattern)
    (row,) = read_manifest(tmp_path / "out" / "manifest.csv")
    assert (row.subject, row.extra["eye"]) == ("s1", "OD")


def test_several_recordings_in_one_fda(tmp_path: Path) -> None:
    pixels = writers.volume((40, 8, 6))
    path = writers.write_fda(tmp_path / "a.fda", pixels)
    one = path.read_bytes()
    path.write_bytes(
        one[:-1] + writers.write_fda(tmp_path / "b.fda", pixels[:, ::-1]).read_bytes()[15:]
    )
    first, second = read_all(path)
    np.testing.assert_array_equal(first.pixels, second.pixels[:, ::-1])
    assert first.spacing == second.spacing == read_oct(tmp_path / "b.fda").spacing


def test_bits_of_a_dicom_that_are_no_pixels(tmp_path: Path) -> None:
    pixels = writers.volume((3, 6, 5), high=4096)
    overlay = pixels | np.uint16(0xA000)
    changes = {"BitsStored": 12, "HighBit": 11, "PixelPaddingValue": 4095}
    overlay[0, 0, 0] = pixels[0, 0, 0] = 4095
    path = writers.write_dicom(tmp_path / "a.dcm", overlay, changes=changes)
    pixels[pixels == 4095] = 0
    np.testing.assert_array_equal(read_oct(path).pixels, pixels)


def test_stacks_in_one_dicom_are_refused(tmp_path: Path) -> None:
    from pydicom import dcmread

    path = writers.write_dicom(tmp_path / "a.dcm", writers.volume())
    data = dcmread(path)
    for number, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        frame.FrameContentSequence[0].StackID = str(number // 3)
    data.save_as(path)
    with pytest.raises(OctReadError, match="2 stacks of frames in one object"):
        read_oct(path)


# --- pictures


@pytest.mark.parametrize(
    ("names", "families"),
    [
        (["1.png", "2.png", "10.png"], 1),
        (["p1_OD_1.png", "p1_OD_2.png", "p1_OS_1.png", "p1_OS_2.png"], 2),
        (["v1_b1.png", "v1_b2.png", "v2_b1.png", "v2_b2.png"], 2),
        (["t1200_b1.png", "t1201_b2.png", "t1202_b3.png"], 1),
        (["b1.png", "b2.png", "b1.jpg", "b2.jpg"], 2),
        (["B1.png", "b2.png"], 1),
    ],
)
def test_families_of_names(names: list[str], families: int) -> None:
    assert len(picture_families(map(Path, names))) == families


def stack(folder: Path, *names: str) -> list[Source]:
    writers.write_pictures(folder, writers.volume((len(names), 6, 5)), names, ".png")
    return find_sources(folder).sources


def test_a_picture_that_is_alone_in_its_family(tmp_path: Path) -> None:
    (one,) = stack(tmp_path / "a", "p1_OD_1", "p1_OD_2", "p1_OS_1", "p1_OS_2", "fundus")
    assert "fundus.png is alone" in one.fault
    (two,) = stack(tmp_path / "b", "OD", "OS")
    assert "alone in its own" in two.fault
    (three,) = stack(tmp_path / "c", "1", "2", "test")
    assert not three.fault
    assert read_oct(tmp_path / "c").warnings == [
        "test.png is named unlike 1.png: is it one of the B-scans?"
    ]


def test_a_folder_of_several_volumes_is_none(tmp_path: Path) -> None:
    stack(tmp_path, "p1_OD_1", "p1_OD_2", "p1_OS_1", "p1_OS_2")
    with pytest.raises(OctReadError, match=r"several families \(p1_OD_#.png, p1_OS_#.png\)"):
        read_oct(tmp_path)


def test_numbers_with_gaps_and_twice(tmp_path: Path) -> None:
    stack(tmp_path / "a", "b1", "b2", "b4", "b9")
    gap = "no picture between b2.png and b4.png (and 1 more gaps): B-scans may be missing."
    assert read_oct(tmp_path / "a").warnings == [gap]
    stack(tmp_path / "b", "5", "10", "15")
    assert read_oct(tmp_path / "b").warnings == []
    (twice,) = stack(tmp_path / "c", "1", "01", "2")
    assert twice.fault == "01.png and 1.png have one number: which comes first?"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_pictures_turned_by_exif(tmp_path: Path, suffix: str) -> None:
    plane = np.zeros((6, 8), np.uint8)
    plane[0] = 255
    exif = Image.Exif()
    exif[274] = 3  # upside down
    Image.fromarray(plane).save(tmp_path / f"1{suffix}", exif=exif)
    volume = read_oct(tmp_path / f"1{suffix}")
    assert volume.pixels[0, 5].min() > 200 and volume.pixels[0, 0].max() < 50
    assert "EXIF orientation" in volume.warnings[0]


@pytest.mark.parametrize("mode", ["I;16", "L"])
def test_bit_depth_inside_containers(tmp_path: Path, mode: str) -> None:
    high = 60_000 if mode == "I;16" else 256
    pixels = writers.volume((3, 16, 16), high=high)
    read = read_oct(writers.write_fda(tmp_path / "a.fda", pixels)).pixels
    np.testing.assert_array_equal(read, pixels)


# --- spacing


@pytest.mark.parametrize("value", [0.0, -0.01, math.nan, math.inf, 11.7, 1e-9, 1.0])
@pytest.mark.parametrize("kind", ["vol", "dicom", "xml", "nifti", "fda"])
def test_one_rule_of_spacings(tmp_path: Path, kind: str, value: float) -> None:
    if kind == "nifti":
        write_nifti(tmp_path / "a.nii", writers.volume(), Spacing(0.01, 0.004, 0.05))
        content = bytearray((tmp_path / "a.nii").read_bytes())
        struct.pack_into("<f", content, 80, value)
        (tmp_path / "a.nii").write_bytes(content)
        path = tmp_path / "a.nii"
    elif kind == "vol":
        raw = np.full((3, 6, 5), 0.5, np.float32)
        path = writers.write_vol(tmp_path / "a.vol", raw, scales=(value, 0.0039, 0.06))
    elif kind == "dicom":
        if not math.isfinite(value):
            pytest.skip("DICOM's decimal strings hold no such number")
        path = writers.write_dicom(tmp_path / "a.dcm", writers.volume(), spacing=(0.0039, value))
    elif kind == "xml":
        path = writers.write_heyex_xml(tmp_path, writers.volume())
        text = path.read_text()
        path.write_text(__import__("re").sub(r"(<ScaleX>)[^<]*", rf"\g<1>{value}", text))
    else:
        pixels = writers.volume((40, 8, 6))
        path = writers.write_fda(tmp_path / "a.fda", pixels, extent=(6 * value, 6.0, 2.6))
    volume = read_oct(path)
    assert volume.spacing.lateral is None
    if kind != "xml" or math.isfinite(value):
        assert any("lateral spacing of" in text for text in volume.warnings), volume.warnings


def test_plausible_spacings_stay() -> None:
    known = Spacing(0.0117, 0.0039, 0.24)
    assert plausible_spacing(known) == (known, [])
    assert plausible_spacing(Spacing()) == (Spacing(), [])


# --- sizes, checksums


@pytest.mark.parametrize("packed", [False, True])
def test_sizes_before_memory(tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    suffix = ".nii.gz" if packed else ".nii"
    path = write_nifti(tmp_path / f"a{suffix}", writers.volume((8, 50, 60)), Spacing())
    monkeypatch.setattr(checks, "MAX_BYTES", 20_000)
    with pytest.raises(OctReadError, match="the limit is"):
        read_nifti(path)


def test_scaled_pixels_count_as_floats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nifti(tmp_path / "a.nii", writers.volume((8, 10, 10)), Spacing())
    content = bytearray(path.read_bytes())
    struct.pack_into("<2f", content, 112, 2.0, 0.0)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_nifti(path)[0], 2.0 * writers.volume((8, 10, 10)))
    monkeypatch.setattr(checks, "MAX_BYTES", 4000)
    with pytest.raises(OctReadError, match="the limit is"):
        read_nifti(path)


def test_a_gzip_that_unpacks_to_more_than_it_claims(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", writers.volume(), Spacing())
    with gzip.open(tmp_path / "a.nii.gz", "wb") as stream:
        stream.write(path.read_bytes())
        stream.write(bytes(8 * 2**20))
    with pytest.raises(OctReadError, match="unpacks to more than"):
        read_nifti(tmp_path / "a.nii.gz")
    with gzip.open(tmp_path / "zeros.nii.gz", "wb") as stream:
        stream.write(bytes(8 * 2**20))
    with pytest.raises(OctReadError, match="not a NIfTI file"):
        read_nifti(tmp_path / "zeros.nii.gz")


@pytest.mark.parametrize("place", [-1, -5, -9, 200])
def test_a_flipped_bit_in_a_gzip(tmp_path: Path, place: int) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", writers.volume((8, 50, 60)), Spacing())
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    with pytest.raises(OctReadError, match="damaged|truncated|more than"):
        read_nifti(path)
    path.write_bytes(content[:-20])
    with pytest.raises(OctReadError, match="damaged|truncated"):
        read_nifti(path)


def test_the_checksum_of_a_matlab_array(tmp_path: Path) -> None:
    path = writers.write_mat(tmp_path / "a.mat", writers.volume(), do_compression=True)
    content = bytearray(path.read_bytes())
    np.testing.assert_array_equal(read_oct(path).pixels, writers.volume())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(OctReadError, match="damaged"):
        read_oct(path)


def test_a_flipped_bit_in_a_png(tmp_path: Path) -> None:
    path = tmp_path / "1.png"
    Image.fromarray(writers.volume((1, 40, 50))[0]).save(path)
    content = bytearray(path.read_bytes())
    place = content.index(b"IDAT") + 4 + 100
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(OctReadError, match="no readable picture"):
        read_oct(path)


def test_a_deflated_dicom_that_is_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom import dcmread
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    from ppi_med.data.dicom import pixels as deflated

    path = writers.write_dicom(tmp_path / "a.dcm", writers.volume())
    data = dcmread(path)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    np.testing.assert_array_equal(read_oct(path).pixels, writers.volume())
    monkeypatch.setattr(deflated, "MAX_INFLATED_BYTES", 1000)
    with pytest.raises(OctReadError, match="inflated"):
        read_oct(path)


@pytest.mark.parametrize("place", [4, 8, 48, 52, 100])
def test_sizes_in_headers_beyond_the_file(tmp_path: Path, place: int) -> None:
    raw = np.full((3, 6, 5), 0.5, np.float32)
    path = writers.write_vol(tmp_path / "a.vol", raw)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 12 + place - 4 if place < 48 else place, 0xFFFFFFF0)
    path.write_bytes(content)
    try:
        read_oct(path)
    except OctReadError as error:
        assert "claims" in error.reason or "should take" in error.reason


def test_a_picture_in_an_fda_beyond_its_chunk(tmp_path: Path) -> None:
    path = writers.write_fda(tmp_path / "a.fda", writers.volume((2, 8, 6)))
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"@IMG_JPEG") + 9 + 4 + 25, 0x7FFFFFFF)
    path.write_bytes(content)
    with pytest.raises(OctReadError, match="B-scan 1 should take 2147483647 bytes"):
        read_oct(path)


# --- what libraries raise and warn


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("x"), SystemExit(1), zipfile.BadZipFile("x")]
)
def test_any_error_of_a_library_is_the_files(error: BaseException) -> None:
    assert fault_of(error)


def test_a_stop_goes_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        fault_of(KeyboardInterrupt())


def test_warnings_of_libraries_go_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ppi_med.data.oct import matlab

    def warn(source: Source, options: object) -> Any:
        warnings.warn("odd value: 'Doe^Jane'", stacklevel=2)
        return real(source, options)

    real = matlab.read
    monkeypatch.setattr(matlab, "read", warn)
    volume = read_oct(writers.write_mat(tmp_path / "a.mat", writers.volume()))
    assert volume.warnings == ["UserWarning: odd value: '...'"]


# --- the output


def test_two_conversions_into_one_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writers.write_mat(tmp_path / "a.mat", writers.volume())
    call = ["--source", str(tmp_path / "a.mat"), "--output", str(tmp_path / "out"), "--quiet"]
    with exclusive(tmp_path / "out", "conversion"):
        assert main(call) == 2
    assert "Another conversion writes to" in capsys.readouterr().err
    assert not (tmp_path / "out" / "volumes").exists()
    assert main([*call, "--workers", "1"]) == 0


@pytest.mark.parametrize("number", [28, 30, 13], ids=["full", "read-only", "refused"])
@pytest.mark.parametrize("what", ["volumes", "manifest.csv", ".conversion"])
def test_a_disk_that_takes_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    what: str,
) -> None:
    import os

    writers.write_mat(tmp_path / "a.mat", writers.volume())
    real = os.replace

    def refuse(before: Any, after: Any) -> None:
        if what in str(after):
            raise OSError(number, os.strerror(number), str(after))
        real(before, after)

    monkeypatch.setattr(os, "replace", refuse)
    code = main(
        ["--source", str(tmp_path / "a.mat"), "--output", str(tmp_path / "out")]
        + ["--quiet", "--workers", "1"]
    )
    text = capsys.readouterr().err
    assert code == 2 and os.strerror(number) in text and text.count("\n") == 1
    monkeypatch.undo()
    assert main(["--source", str(tmp_path / "a.mat"), "--output", str(tmp_path / "out")]) == 0


def test_an_output_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writers.write_mat(tmp_path / "a.mat", writers.volume())
    (tmp_path / "out").write_text("x")
    assert main(["--source", str(tmp_path / "a.mat"), "--output", str(tmp_path / "out")]) == 2
    assert "File exists" in capsys.readouterr().err
