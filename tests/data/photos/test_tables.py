"""Tables and class folders become a datalist in which no patient is in two parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppi_med.data.datalist import load_parts
from ppi_med.data.photos.convert import convert_photos, part_photos
from ppi_med.data.photos.layouts import find_layout, read_photos
from ppi_med.data.photos.photo import Photo
from ppi_med.errors import UsageError
from tests.audit.conftest import write_csv, write_pictures
from tests.audit.test_sources import kermany, nih, picture


def subjects(made: dict[str, list[dict[str, object]]], part: str) -> set[object]:
    return {item["subject"] for item in made[part]}


def test_a_csv(tmp_path: Path) -> None:
    table = write_pictures(tmp_path / "d", mark=None)
    assert find_layout(table.parent) == "table"
    made = convert_photos(table, tmp_path / "out")
    assert made == convert_photos(table.parent, tmp_path / "out")
    assert sum(map(len, made.values())) == 120
    assert [len(made[part]) for part in ("validation", "test")] == [8, 24]
    whose = [subjects(made, part) for part in ("training", "validation", "test")]
    assert not whose[0] & whose[1] and not whose[0] & whose[2] and not whose[1] & whose[2]
    (item, *_) = load_parts(tmp_path / "out/datalist.json", "training")
    assert item["class_name"] == "normal" and item["site"] == "a" and item["label"] == 0


def test_kermanys_official_test_part_is_kept(tmp_path: Path) -> None:
    made = convert_photos(kermany(tmp_path / "d"), tmp_path / "out")
    assert len(made["test"]) == 1 and len(made["training"]) + len(made["validation"]) == 48
    assert not subjects(made, "training") & subjects(made, "validation")


def test_a_finding_of_nih(tmp_path: Path) -> None:
    names = {photo.class_name for photo in read_photos(nih(tmp_path), label="Edema")}
    assert names == {"no Edema", "Edema"}
    with pytest.raises(UsageError, match="not a table"):
        read_photos(kermany(tmp_path / "k"), label="Edema")


def test_parts_of_the_table_are_kept(tmp_path: Path) -> None:
    rows = []
    for number in range(40):
        picture(tmp_path / f"{number}.png")
        part = ["train", "train", "valid", "test"][number % 4]
        rows.append([f"{number}.png", number // 4 % 2, part])
    made = convert_photos(
        write_csv(tmp_path / "t.csv", ["image", "label", "split"], rows), tmp_path
    )
    assert {part: len(items) for part, items in made.items()} == {
        "training": 20,
        "validation": 10,
        "test": 10,
    }


def test_images_of_a_patient_of_the_test_part_are_not_trained_on() -> None:
    photos = [
        Photo(
            f"{n}.png", str(n), n % 2, part="test" if n == 0 else "training", patient=f"p{n // 4}"
        )
        for n in range(40)
    ]
    parts = part_photos(photos, validation=0.2, seed=0)
    assert {p.patient for p in parts["test"]} == {"p0"}
    assert "p0" not in {p.patient for p in parts["training"] + parts["validation"]}


def test_dicom_is_no_photograph(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").touch()
    (tmp_path / "b.dcm").touch()
    table = write_csv(tmp_path / "t.csv", ["image", "label"], [["a.dcm", 0], ["b.dcm", 1]])
    with pytest.raises(UsageError, match=r"a\.dcm is no photograph"):
        read_photos(table)
