"""The datalist: parts, sites and folds as the splits tell, never against them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ppi_med.data.datalist import load_parts, make_datalist, write_datalist
from ppi_med.data.manifest import ManifestRow
from ppi_med.data.splits import PARTS, VALIDATION_SHARE, make_splits, write_splits

ROWS = [
    ManifestRow(
        f"s{n}_{eye}",
        subject=f"s{n}",
        site=f"site{n % 3}",
        label=n // 3 % 2,
        extra={"eye": eye, "artefact": "x"},
    )
    for n in range(30)
    for eye in ("OD", "OS")
] + [ManifestRow("loose", subject="s99"), ManifestRow("nameless", label=1)]


@pytest.fixture
def datalist(tmp_path: Path) -> Path:
    splits = make_splits(ROWS)
    write_splits(tmp_path / "splits.json", splits)
    content = make_datalist(ROWS, splits, has_mask=lambda name: name.endswith("OD"))
    return write_datalist(tmp_path / "datalist.json", content)


def test_items(datalist: Path) -> None:
    content = json.loads(datalist.read_text())
    item = next(i for i in content["training"] if i["volume_id"].endswith("OD"))
    name = item["volume_id"]
    assert item == {
        "image": f"volumes/{name}.nii.gz",
        "label": item["label"],
        "lesion": f"masks/{name}.nii.gz",
        "volume_id": name,
        "subject": name.split("_")[0],
        "eye": "OD",
        "visit": "",
        "site": item["site"],
        "artefact": "x",
    }
    other = next(i for i in content["training"] if i["volume_id"].endswith("OS"))
    assert "lesion" not in other
    assert [i["volume_id"] for i in content["unassigned"]] == ["loose", "nameless"]
    assert "label" not in content["unassigned"][0]
    assert make_datalist(ROWS, None)["training"] == []


def test_parts_hold_each_volume_once(datalist: Path) -> None:
    names = [i["volume_id"] for part in PARTS for i in load_parts(datalist, part)]
    assert len(names) == len(set(names)) == 60
    both = load_parts(datalist, ["training", "validation"])
    assert len(both) == 60 - len(load_parts(datalist, "test"))


def test_paths_are_absolute(datalist: Path) -> None:
    item = load_parts(datalist, "training")[0]
    assert Path(item["image"]).is_absolute()
    assert Path(item["image"]).parent == (datalist.parent / "volumes").resolve()


def test_folds_part_training_and_validation(datalist: Path) -> None:
    test = {i["volume_id"] for i in load_parts(datalist, "test")}
    seen: list[str] = []
    for fold in range(5):
        validation = {i["subject"] for i in load_parts(datalist, "validation", fold=fold)}
        training = {i["subject"] for i in load_parts(datalist, "training", fold=fold)}
        assert not validation & training
        assert {i["volume_id"] for i in load_parts(datalist, "test", fold=fold)} == test
        seen += sorted(validation)
    assert len(seen) == len(set(seen)) == 24


def test_a_test_fold_leaves_the_test_part_out_and_tests_each_subject_once(datalist: Path) -> None:
    held = {i["subject"] for i in load_parts(datalist, "test")}
    seen: list[str] = []
    for fold in range(5):
        parts = {
            part: {i["subject"] for i in load_parts(datalist, part, test_fold=fold)}
            for part in PARTS
        }
        assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == 24
        assert not held & set().union(*parts.values())
        rest = len(parts["training"]) + len(parts["validation"])
        least = round(VALIDATION_SHARE * rest)
        assert least <= len(parts["validation"]) <= least + 1, "one more where a class was missing"
        found = {i["label"] for i in load_parts(datalist, "validation", test_fold=fold)}
        assert found == {0, 1}
        seen += sorted(parts["test"])
    assert len(seen) == len(set(seen)) == 24
    with pytest.raises(ValueError, match="expected one of them"):
        load_parts(datalist, "test", fold=1, test_fold=1)


def test_sites(datalist: Path) -> None:
    assert {i["site"] for i in load_parts(datalist, "training", sites="site1")} == {"site1"}
    left = load_parts(datalist, "training", exclude_sites=["site1"])
    assert {i["site"] for i in left} == {"site0", "site2"}
    everything = load_parts(datalist, "training")
    assert load_parts(datalist, "training", sites=[], exclude_sites="") == everything
    with pytest.raises(ValueError, match="no site 'site9', expected some of"):
        load_parts(datalist, "training", sites="site9")
    with pytest.raises(ValueError, match="nothing is left"):
        load_parts(datalist, "training", sites="site1", exclude_sites="site1")


def test_contradictions_are_refused(datalist: Path) -> None:
    content = json.loads(datalist.read_text())
    moved = content["training"].pop()
    content["test"].append(moved)
    datalist.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"subject .* is in training and in test|splits say"):
        load_parts(datalist, "training")
    again = [i for i in content["training"] if i["subject"] == moved["subject"]]
    content["training"] = [i for i in content["training"] if i not in again]
    content["test"] += again
    datalist.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="but the splits say training"):
        load_parts(datalist, "training")
    (datalist.parent / "splits.json").unlink()
    assert load_parts(datalist, "test")  # without splits only the datalist itself can be checked
    with pytest.raises(FileNotFoundError, match="fold 1 needs splits.json"):
        load_parts(datalist, "training", fold=1)


def test_errors(tmp_path: Path, datalist: Path) -> None:
    with pytest.raises(ValueError, match="part is 'train'"):
        load_parts(datalist, "train")
    with pytest.raises(FileNotFoundError, match="convert a folder first"):
        load_parts(tmp_path / "gone.json", "training")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ValueError, match="no key 'training'"):
        load_parts(tmp_path / "x.json", "training")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        load_parts(tmp_path / "x.json", "training")
