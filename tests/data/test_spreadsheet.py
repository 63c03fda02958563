"""What pandas and spreadsheets make of a table is read as what was meant, or refused by line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppi_med.data.image_table import ImageTable, read_image_table
from ppi_med.data.oct.convert import convert_folder
from ppi_med.data.oct.labels import Labels
from ppi_med.data.oct.options import ConvertOptions
from ppi_med.errors import UsageError


def table(
    folder: Path, labels: list[str], patients: list[str] | None = None, part: str = ""
) -> Path:
    lines = ["image,label,patient,split"]
    for number, label in enumerate(labels):
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(folder / f"{number}.png")
        whose = patients[number] if patients else f"p{number}"
        lines.append(f"{number}.png,{label},{whose},{part}")
    path = folder / "t.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(*given: object) -> ImageTable:
    return read_image_table(table(*given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["0", "1.0", "True", "-0.0", "FALSE"], ["0", "1", "1", "0", "0"]),
        (["0", "nan", "1", "#N/A", "<NA>"], ["0", "1"]),
        (["no", "yes", "NaN", "no"], ["no", "yes", "no"]),
        (["0", "0.5", "1", "2.0"], ["0", "0.5", "1", "2"]),
        (["001", "1234567"], ["1", "1234567"]),
    ],
)
def test_labels_of_images(tmp_path: Path, labels: list[str], expected: list[str]) -> None:
    found = read(tmp_path, labels)
    assert [image.label for image in found.images] == expected
    left_out = len(labels) - len(expected)
    assert bool(left_out) == any(f"{left_out} rows without a label" in n for n in found.notes)


def test_labels_that_differ_in_case_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'normal' and 'Normal': write one class in one way"):
        read(tmp_path, ["normal", "ill", "Normal"])


def test_patients_of_images(tmp_path: Path) -> None:
    found = read(tmp_path, ["0", "1", "0", "1"], ["7.0", "7", "nan", "007"])
    assert [image.patient for image in found.images] == ["7", "7", "", "007"]
    assert found.notes == ("1 images have no patient: each counts as one of its own.",)


def test_patients_that_differ_in_spaces_or_case(tmp_path: Path) -> None:
    """Two spellings of one patient would stand in training and test: said, not guessed."""
    found = read(tmp_path, ["0", "1", "0", "1"], ["A 1", "A  1", "a1", " A\u00a01 "])
    assert [image.patient for image in found.images] == ["A 1", "A 1", "a1", "A 1"]
    (note,) = found.notes
    assert note.startswith("'A 1' and 'a1' differ only in case or spaces")
    (tmp_path / "scans").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (3, 64, 64), np.uint8)
        first, *rest = (Image.fromarray(picture) for picture in pixels)
        first.save(tmp_path / "scans" / f"{number}.tif", save_all=True, append_images=rest)
    rows = "".join(f"{n}.tif,{name}\n" for n, name in enumerate(("b1", "B 1", "b1 ")))
    (tmp_path / "l.csv").write_text("file,subject\n" + rows)
    how = ConvertOptions.of(tmp_path / "scans", tmp_path / "out", labels=tmp_path / "l.csv")
    report = convert_folder(how)
    assert report.exit_code == 0, report.table()
    assert [n for n in report.notes if n.startswith("'B 1' and 'b1' differ only in case")]


def test_a_patient_that_a_spreadsheet_has_rounded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"t.csv, line 3: patient is '1.23E\+10', a number that"):
        read(tmp_path, ["0", "1"], ["12300000001", "1.23E+10"])


def test_a_part_that_is_none(tmp_path: Path) -> None:
    path = table(tmp_path, ["0", "1"], part="Train")
    assert {image.part for image in read_image_table(path).images} == {"training"}
    path.write_text(path.read_text().replace("p1,Train", "p1,tset"))
    with pytest.raises(UsageError, match="split is 'tset' in a row, expected one of"):
        read_image_table(path)
    path.write_text(path.read_text().replace("Train", "3"))  # another kind of column
    assert {image.part for image in read_image_table(path).images} == {""}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_images_in_any_dialect(tmp_path: Path, encoding: str, separator: str) -> None:
    path = table(tmp_path, ["krank", "gesünder"])
    text = path.read_text(encoding="utf-8").replace(",", separator).replace("\n", "\r\n\r\n")
    path.write_bytes(text.encode(encoding))
    assert [image.label for image in read_image_table(path).images] == ["krank", "gesünder"]


@pytest.mark.parametrize("row", ["1.png,1", "1.png,1,p1,train,more"])
def test_a_row_of_other_cells(tmp_path: Path, row: str) -> None:
    path = table(tmp_path, ["0", "1"])
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(UsageError, match=r"t.csv, line 4: not as many cells"):
        read_image_table(path)


def labels(folder: Path, *rows: str) -> Labels:
    (folder / "l.csv").write_text("\n".join(["file,subject,label", *rows]) + "\n", "utf-8")
    return Labels(folder / "l.csv")


def test_subjects_of_oct(tmp_path: Path) -> None:
    found = labels(tmp_path, "a,7.0,1", "b,NaN,0", "c,Ko\u0308ln,0", "d,Köln,0", "e,köln,0")
    said = [facts.subject for rows in found._rows.values() for facts in rows]
    assert said == ["7", "", "Köln", "Köln", "köln"]
    with pytest.raises(UsageError, match=r"l.csv, line 2: subject is '1.2E\+11', a number"):
        labels(tmp_path, "a,1.2E+11,1")
    with pytest.raises(ValueError, match="label is '1_0'"):
        labels(tmp_path, "a,p,1_0")
