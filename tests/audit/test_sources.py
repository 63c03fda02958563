"""Each form of data set is read, and what says nothing is refused in a sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppi_med.audit.sources import folds, read_source, split
from ppi_med.errors import MissingFileError, UsageError
from tests.audit.conftest import write_csv, write_pictures


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)


def test_a_csv(tmp_path: Path) -> None:
    found = read_source(write_pictures(tmp_path / "d", mark=None))
    assert found.classes == ("normal", "ill")
    assert len(found.cases) == 120 and len(set(found.patient)) == 60
    assert found.cases[1].label == 1 and found.cases[1].site == "a"
    assert found.notes == ()


def test_a_folder_with_a_csv_is_the_csv(tmp_path: Path) -> None:
    table = write_pictures(tmp_path / "d", mark=None)
    assert read_source(table.parent).cases == read_source(table).cases


def kermany(root: Path, count: int = 24) -> Path:
    for number in range(count):
        picture(root / f"chest_xray/train/NORMAL/IM-{number:04d}-0001.jpeg")
        picture(root / f"chest_xray/train/PNEUMONIA/person{number // 2}_virus_{number}.jpeg")
    picture(root / "chest_xray/test/NORMAL/IM-9999-0001.jpeg")
    picture(root / "chest_xray/train/NORMAL/._IM-0000-0001.jpeg")
    return root


def test_kermanys_folders_name_the_patients(tmp_path: Path) -> None:
    found = read_source(kermany(tmp_path))
    assert found.classes == ("NORMAL", "PNEUMONIA")
    assert len(found.cases) == 48
    assert len(set(found.patient)) == 24 + 12
    assert found.patients_known


def nih(root: Path, count: int = 50) -> Path:
    rows = []
    for number in range(count):
        name = f"{number // 2:08d}_{number % 2:03d}.png"
        if number:  # the first is not downloaded
            picture(root / f"images_001/images/{name}")
        finding = "Pneumonia|Edema" if number % 3 == 0 else "No Finding"
        rows.append([name, finding, number // 2, 50, "PA" if number % 3 else "AP"])
    header = ["Image Index", "Finding Labels", "Patient ID", "Patient Age", "View Position"]
    write_csv(root / "Data_Entry_2017.csv", header, rows)
    return root


def test_nih_by_any_finding_and_by_one(tmp_path: Path) -> None:
    found = read_source(nih(tmp_path))
    assert found.classes == ("No Finding", "finding")
    assert "1 images of the table are missing" in found.notes[1]
    assert found.cases[0].facts == {"View Position": "PA"}
    assert read_source(tmp_path, "Edema").classes == ("no Edema", "Edema")
    with pytest.raises(UsageError, match="no finding 'Edmea', expected one of"):
        read_source(tmp_path, "Edmea")


def test_chexpert(tmp_path: Path) -> None:
    rows = []
    for number in range(60):
        path = f"train/patient{number:05d}/study1/view1_frontal.jpg"
        picture(tmp_path / path)
        state = ["1.0", "", "-1.0", "0.0"][number % 4]
        rows.append([f"CheXpert-v1.0-small/{path}", "Frontal", "AP", state])
    write_csv(tmp_path / "train.csv", ["Path", "Frontal/Lateral", "AP/PA", "Edema"], rows)
    write_csv(tmp_path / "valid.csv", ["Path", "Frontal/Lateral", "AP/PA", "Edema"], rows[:2])
    found = read_source(tmp_path, "Edema")
    assert len(found.cases) == 45 and found.classes == ("no Edema", "Edema")
    assert found.cases[0].patient == "patient00000"
    assert found.cases[0].facts == {"Frontal/Lateral": "Frontal", "AP/PA": "AP"}


def test_isic_of_one_column_a_class(tmp_path: Path) -> None:
    rows = []
    for number in range(60):
        picture(tmp_path / f"ISIC_2019_Training_Input/ISIC_{number:07d}.jpg")
        rows.append([f"ISIC_{number:07d}", *(["1.0", "0.0"] if number % 2 else ["0.0", "1.0"])])
    found = read_source(write_csv(tmp_path / "truth.csv", ["image", "MEL", "NV"], rows))
    assert found.classes == ("MEL", "NV") and found.cases[1].label == 0
    assert not found.patients_known and "name no patient" in found.notes[0]


def datalist(root: Path, label: object = None, **changes: object) -> Path:
    items = [
        {"image": f"i/{n}.png", "label": n % 2 if label is None else label, "subject": f"s{n}"}
        for n in range(60)
    ]
    path = root / "datalist.json"
    path.write_text(json.dumps({"training": items, "testing": items[:2], **changes}))
    return path


def test_a_foreign_datalist(tmp_path: Path) -> None:
    found = read_source(datalist(tmp_path))
    assert len(found.cases) == 60 and found.cases[3].image == str(tmp_path / "i/3.png")
    assert read_source(tmp_path).cases == found.cases
    # What else a datalist lists is no part.
    more = read_source(datalist(tmp_path, size=[512, 512], modality=["CT"]))
    assert more.cases == found.cases and more.notes == found.notes


def test_parts_that_share_or_are_tests_are_said(tmp_path: Path) -> None:
    path = datalist(tmp_path)
    items = json.loads(path.read_text())["training"]
    path.write_text(json.dumps({"training": items, "validation": items[:7]}))
    assert any("7 images are listed again" in note for note in read_source(path).notes)
    path.write_text(json.dumps({"test": items}))
    assert any("a test part only" in note for note in read_source(path).notes)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = datalist(tmp_path)
    found = read_source(path)
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert read_source(path).cases == found.cases


def test_a_row_that_is_no_number(tmp_path: Path) -> None:
    path = datalist(tmp_path)
    content = json.loads(path.read_text())
    content["training"][7]["row"] = "A1"
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"item 7 of training has the row 'A1'"):
        read_source(path)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (1, "has one class only (1)"),
        ("labels/a.nii.gz", "the label 'labels/a.nii.gz' is no class"),
        ([0, 1], "the label [0, 1] is no class"),
        (0.5, "the label 0.5 is no class"),
    ],
)
def test_labels_that_are_no_classes(tmp_path: Path, label: object, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        read_source(datalist(tmp_path, label))


def test_ten_images_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"too small for an audit \(normal: 5 of"):
        read_source(write_pictures(tmp_path / "d", count=10, mark=None))


def test_a_number_for_each_image_is_no_class(tmp_path: Path) -> None:
    table = write_pictures(tmp_path / "d", mark=None)
    lines = table.read_text().splitlines()
    changed = [
        lines[0],
        *(re.sub("normal|ill", f"{n / 7:.3f}", t) for n, t in enumerate(lines[1:])),
    ]
    table.write_text("\n".join(changed))
    with pytest.raises(UsageError, match="120 different labels"):
        read_source(table)


def test_what_a_table_lacks(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="There is no"):
        read_source(tmp_path / "none.csv")
    rows = [[f"{n}.png", n % 2] for n in range(50)]
    with pytest.raises(UsageError, match="expected rows with one of"):
        read_source(write_csv(tmp_path / "a.csv", ["row", "label"], rows))
    with pytest.raises(UsageError, match="name it with --label, one of"):
        read_source(write_csv(tmp_path / "b.csv", ["image", "answer"], rows))
    with pytest.raises(UsageError, match="has no column 'anwser'"):
        read_source(write_csv(tmp_path / "b.csv", ["image", "answer"], rows), "anwser")
    with pytest.raises(MissingFileError, match=r"no image of its 50 rows .* the first, 0\.png"):
        read_source(write_csv(tmp_path / "c.csv", ["image", "label"], rows))


def test_an_image_that_comes_twice(tmp_path: Path) -> None:
    table = write_pictures(tmp_path / "d", mark=None)
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[1]]))
    with pytest.raises(UsageError, match=r"lists images/0000\.png twice"):
        read_source(table)


def test_no_patient_is_in_both_parts(tmp_path: Path) -> None:
    found = read_source(write_pictures(tmp_path / "d", mark=None))
    held, origin = split(found)
    whose = np.array(found.patient)
    assert origin.startswith("a third")
    assert not set(whose[held]) & set(whose[~held])
    assert 0.2 < held.mean() < 0.45


def test_given_parts_are_kept_unless_a_patient_is_in_both(tmp_path: Path) -> None:
    validation = [{"image": f"v/{n}.png", "label": n % 2, "subject": f"v{n}"} for n in range(40)]
    found = read_source(datalist(tmp_path, validation=validation))
    held, origin = split(found)
    assert origin == "given with the data" and held.sum() == 40
    validation[0]["subject"] = "s0"
    assert split(read_source(datalist(tmp_path, validation=validation)))[1] != origin


def test_folds_are_even_in_each_class() -> None:
    label = np.repeat([0, 1], [50, 20])
    fold = folds(label, [f"p{n}" for n in range(70)], 5)
    assert np.bincount(fold[:50]).tolist() == [10] * 5
    assert np.bincount(fold[50:]).tolist() == [4] * 5
