"""Whose series it is: one patient, one study; names in any character set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from ppi_med.data.dicom.index import index_tree
from ppi_med.data.dicom.pseudonyms import Pseudonyms, load_key
from ppi_med.data.dicom.verdict import Policy
from ppi_med.errors import UsageError
from ppi_med.export.command import main, write_all
from ppi_med.export.source import read_source
from tests.data.dicom.files import slice_dataset, write_series
from tests.export.test_export import FULL, HEIGHTS, arrays, dciodvfy

highdicom = pytest.importorskip("highdicom")
OF_THE_FILE = {"SOPClassUID", "SOPInstanceUID"}


def write_changed(folder: Path, changes: list[dict[str, Any]]) -> None:
    folder.mkdir()
    for number, (z, own) in enumerate(zip(HEIGHTS, changes, strict=True)):
        dataset = slice_dataset(number, z, **(FULL | own))
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=not own.keys() & OF_THE_FILE)


def test_several_patients_are_refused_by_pseudonym(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["MARY-1", "MARY-1", "OTTO-2", ""]
    write_changed(tmp_path / "ct", [{"PatientID": name} for name in names])
    np.save(tmp_path / "mask.npy", np.ones((4, 8, 6), bool))
    key = tmp_path / "project.key"
    words = ["--series", tmp_path / "ct", "--mask", tmp_path / "mask.npy",
             "--output", tmp_path / "out"]  # fmt: skip
    assert main([str(word) for word in words]) == 2
    message = capsys.readouterr().err
    assert "slices of 3 patients" in message and len(message.splitlines()) == 1
    assert "MARY" not in message and "OTTO" not in message and "unknown" in message
    # With the index's key the names are the index's.
    expected = Pseudonyms(load_key(key)).patient("MARY-1")
    assert main([str(word) for word in [*words, "--key-file", key]]) == 2
    assert f"{expected} (2 files: 0.dcm)" in capsys.readouterr().err
    assert main([str(word) for word in [*words, "--key-file", tmp_path / "none"]]) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ([{}, {}, {}, {"StudyInstanceUID": "1.2.3"}], "slices of 2 studies"),
        ([{"PatientName": "One"}, {}, {}, {"PatientName": "Other"}], "PatientName"),
        ([{"PatientSex": "F"}, {}, {}, {"PatientSex": "M"}], "PatientSex"),
        ([{}, {}, {}, {"FrameOfReferenceUID": "1.2.9"}], "FrameOfReferenceUID"),
        ([{}, {}, {}, {"FrameOfReferenceUID": None}], "lacks FrameOfReferenceUID"),
        ([{"StudyInstanceUID": None}] * 4, "lacks StudyInstanceUID"),
        ([{}, {}, {}, {"SOPInstanceUID": ""}], "lacks SOPInstanceUID"),
        ([{"SOPClassUID": None}] * 4, "lacks SOPClassUID"),
    ],
)
def test_what_is_not_one_series(tmp_path: Path, changes: list[dict[str, Any]], text: str) -> None:
    write_changed(tmp_path / "ct", changes)
    with pytest.raises(UsageError, match=text):
        read_source(tmp_path / "ct")


def test_patients_that_share_a_study(tmp_path: Path) -> None:
    """A reference by study would lead to both; the index warns of it."""
    write_series(tmp_path / "ct" / "a", HEIGHTS, **FULL)
    other = FULL | {"SeriesInstanceUID": "1.2.9", "PatientID": "SECRET-8"}
    write_series(tmp_path / "ct" / "b", HEIGHTS, **other)
    for series in ("1.2.9", "1.2.826.0.1.3680043.8.498.1"):
        with pytest.raises(UsageError, match="one StudyInstanceUID holds slices of 2 patients, P-"):
            read_source(tmp_path / "ct", series)
    assert read_source(tmp_path / "ct" / "b").series == "1.2.9"
    table = index_tree(tmp_path / "ct", tmp_path / "index", scheduler="serial").table
    assert table.read_text().count("other patients have a study of the same UID.") == 2


@pytest.mark.parametrize(
    ("names", "patients"),
    [
        (["A 1", "A 1 ", " A 1", "A  1"], 1),  # spaces outside tell nothing, as DICOM says
        (["a1", "A1", "A1", "A1"], 2),
        (["A 1", "A1", "A1", "A1"], 2),
    ],
)
def test_ids_that_differ_in_spaces_or_case(tmp_path: Path, names: list[str], patients: int) -> None:
    write_changed(tmp_path / "ct", [{"PatientID": name} for name in names])
    if patients == 1:
        assert read_source(tmp_path / "ct").shape == (4, 8, 6)
        return
    with pytest.raises(UsageError, match=f"slices of {patients} patients"):
        read_source(tmp_path / "ct")


COPY = ("lenient", ()), ("strict", ("duplicate_instances",))


@pytest.mark.parametrize(("mode", "allow"), COPY)
@pytest.mark.parametrize("kind", ["copy", "conflict", "damaged"])
def test_two_files_of_one_instance(tmp_path: Path, mode: Any, allow: Any, kind: str) -> None:
    """Headers cannot tell a copy from another picture: index and export compare the pixels."""
    first = write_series(tmp_path / "ct", HEIGHTS, **FULL)[0]
    dataset = pydicom.dcmread(first)
    if kind == "conflict":
        dataset.PixelData = np.full(48, 7, "<i2").tobytes()
    if kind == "damaged":
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.PixelData = encapsulate([b"\2\0\0\0" + bytes([255]) * 60])
    dataset.save_as(tmp_path / "ct" / "z.dcm")
    policy = Policy(mode, allow)
    index = index_tree(tmp_path / "ct", tmp_path / "index", scheduler="serial", policy=policy)
    row = index.table.read_text()
    if kind == "copy" or (kind == "conflict" and allow):
        assert index.series == {"volume": 1}
        assert ("different pixels" in row) == (kind == "conflict")
        assert len(read_source(tmp_path / "ct", policy=policy).volume.values) == len(HEIGHTS)
        return
    text = "different pixels" if kind == "conflict" else "damaged"
    assert index.series == {"refused": 1} and text in row
    with pytest.raises(UsageError, match=text):
        read_source(tmp_path / "ct", policy=policy)
    assert index_tree(tmp_path / "ct", tmp_path / "strict", scheduler="serial").exit_code == 1


def test_what_differs_and_names_nobody_is_left_empty(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {}, {}, {"StudyTime": "130000", "BodyPartExamined": "LEG"}]
    write_changed(tmp_path / "ct", changes)
    source = read_source(tmp_path / "ct")
    values, mask = arrays(source)
    files = write_all(tmp_path / "out", source, values, mask)
    for path in files:
        if path.suffix == ".dcm":
            dataset = pydicom.dcmread(path)
            assert dataset.StudyTime == "" and "BodyPartExamined" not in dataset
            assert dciodvfy(path) == []


# Names as their character sets write them.
NAMES = {
    "none": ("", b"Doe^Jane"),
    "latin": ("ISO_IR 100", "Müller^Änne".encode("latin-1")),
    "UTF-8": ("ISO_IR 192", "山田^太郎=やまだ".encode()),
    "GB18030": ("GB18030", "王^小東".encode("gb18030")),
    "GBK": ("GBK", "王^小东".encode("gbk")),
    "Greek": ("ISO_IR 126", "Διονυσιος".encode("iso8859_7")),
    "Japanese, first empty": (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B",
    ),
    "Japanese, half width": (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
    ),
    "Korean": (
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
    ),
    "unknown, name in ASCII": ("ISO_IR 999", b"Doe^Jane"),
    "unknown": ("ISO_IR 999", b"M\xfcller^J\xe4n"),
    "no set": ("", b"M\xfcller^J\xe4n"),
    "a set of one too many": ("ISO_IR 192\\ISO 2022 IR 87", "Müller".encode()),
    "misspelt": ("ISO IR 100", "Müller".encode("latin-1")),
}
# Names that dciodvfy reads too.
KNOWN = ("none", "latin", "UTF-8", "GB18030", "Greek", "Korean", "unknown, name in ASCII")
KNOWN = (*KNOWN, "Japanese, first empty", "Japanese, half width")


def write_named(folder: Path, charset: str, name: bytes) -> None:
    """Slices whose set and name are replaced byte by byte: no library writes what is wrong."""
    for path in write_series(folder, HEIGHTS, **FULL):
        dataset = pydicom.dcmread(path)
        even = name + b" " * (len(name) % 2)
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.PatientName = "x" * len(even)
        dataset.PatientComments = "y" * (len(charset) + len(charset) % 2)
        dataset.save_as(path)
        content = path.read_bytes().replace(b"x" * len(even), even)
        padded = charset.encode() + b" " * (len(charset) % 2)
        old = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"
        new = b"\x08\x00\x05\x00CS" + len(padded).to_bytes(2, "little") + padded
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, new if charset else b""))


@pytest.mark.parametrize("case", NAMES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_names_in_any_character_set(tmp_path: Path, case: str) -> None:
    charset, name = NAMES[case]
    write_named(tmp_path / "ct", charset, name)
    source = read_source(tmp_path / "ct")
    values, mask = arrays(source)
    expected = pydicom.dcmread(next((tmp_path / "ct").iterdir())).PatientName
    files = write_all(tmp_path / "out", source, values, mask)
    for path in files:
        if path.suffix == ".dcm":
            dataset = pydicom.dcmread(path)
            assert dataset.PatientName == expected
            assert name in path.read_bytes()
    assert highdicom.seg.segread(tmp_path / "out" / "mask.seg.dcm").PatientName == expected
    if case in KNOWN:
        assert dciodvfy(tmp_path / "out" / "map.pm.dcm") == []


@pytest.mark.parametrize(
    "values",
    [
        {"PatientBirthDate": "19991399"},
        {"PatientSex": "female"},
        {"StudyTime": "25 o'clock"},
        {"PatientName": "A" * 80},
        {"AccessionNumber": "1\\2"},
        {"StudyInstanceUID": "1.02.003"},
        {"SOPClassUID": "1.02.003"},
        {"FrameOfReferenceUID": "1.02.003"},
        {"BodyPartExamined": "chest, left"},
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_malformed_values_are_copied(tmp_path: Path, values: dict[str, str]) -> None:
    """Archives hold them: the viewer finds patient and study by the very same values."""
    from pydicom.config import disable_value_validation

    with disable_value_validation():
        write_series(tmp_path / "ct", HEIGHTS, **(FULL | values))
        source = read_source(tmp_path / "ct")
    _, mask = arrays(source)
    write_all(tmp_path / "out", source, None, mask)
    found = pydicom.dcmread(tmp_path / "out" / "mask.seg.dcm")
    original = pydicom.dcmread(next((tmp_path / "ct").iterdir()))
    for keyword in values:
        if keyword != "SOPClassUID":
            assert found[keyword].value == original[keyword].value
