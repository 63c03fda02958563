"""The reader of npz arrays with a table, on a small folder."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from ppi_med.data.lidc.datasets import LidcNodules
from ppi_med.data.lidc.nodules_npz import nodule_splits, read_nodules_npz
from ppi_med.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    n, size = 12, 31
    hu = np.arange(n * size * size).reshape(n, size, size).astype(np.int16)
    bits = np.zeros((n, size, size), np.uint8)
    bits[:, 12:19, 12:19] |= 1
    bits[:, 13:17, 13:17] |= 4
    np.savez(tmp_path / "images.npz", id=np.arange(n), hu=hu)
    np.savez(tmp_path / "masks.npz", id=np.arange(n), reader_bits=bits)
    rows = [
        {"id": k, "patient_id": f"p{k // 2}", "manufacturer": "AB"[k % 4 > 1],
         "pixel_spacing_mm": 0.7, "n_readers": 3 if k % 2 else 2,
         "cluster_over_four": int(k == 11)}
        for k in range(n)
    ]  # fmt: skip
    slots = [
        {"id": k, "slot": slot, "outlined_on_slice": int(slot in (1, 3))}
        for k in range(n)
        for slot in ((1, 2, 3) if k % 2 else (1, 3))
    ]
    for name, table in (("nodules.csv", rows), ("annotations.csv", slots)):
        with (tmp_path / name).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, table[0])
            writer.writeheader()
            writer.writerows(table)
    return tmp_path


def test_items(folder: Path) -> None:
    dataset = LidcNodules(folder)
    assert len(dataset) == 11  # the cluster of five is left out
    item = dataset[1]
    assert item["image"].shape == (1, 31, 31) and item["image"].dtype.is_floating_point
    assert item["image"][0, 2, 3] == read_nodules_npz(folder).hu[1, 2, 3]
    assert (item["label"], item["subject"], item["site"], item["votes"]) == (1, "p0", "A", 3)
    assert item["readers"].sum(dim=(1, 2)).tolist() == [49, 0, 16, 0]
    assert item["state"].tolist() == [2, 1, 2, 0]  # an empty mask is not a missing reader
    assert dataset[0]["state"].tolist() == [2, 0, 2, 0]
    assert (item["union"].sum(), item["majority"].sum()) == (49, 49)
    strict = LidcNodules(folder, majority=1.0, min_readers=2, over_four="keep")
    assert strict[0]["majority"].sum() == 16 and set(strict.labels) == {1} and len(strict) == 12
    assert strict.label_rule == "1 if at least 2 of 4 readers drew the nodule"


def test_crops(folder: Path) -> None:
    centred = LidcNodules(folder, crop=21)
    assert centred[0]["image"].shape == (1, 21, 21)
    assert centred[0]["image"][0, 0, 0] == read_nodules_npz(folder).hu[0, 5, 5]
    shifted = LidcNodules(folder, crop=21, crop_mode="shifted", seed=1)
    places = {
        (item["crop_row"], item["crop_column"]) for item in map(shifted.__getitem__, range(11))
    }
    assert len(places) > 5
    assert all(shifted[k]["union"].sum() == 49 for k in range(11))
    again = LidcNodules(folder, crop=21, crop_mode="shifted", seed=1)
    assert all((shifted[k]["image"] == again[k]["image"]).all() for k in range(11))


def test_splits(folder: Path, tmp_path: Path) -> None:
    nodules = read_nodules_npz(folder)
    path = tmp_path / "splits.json"
    splits = nodule_splits(nodules, fractions=(0.5, 0.25, 0.25), folds=2, path=path)
    parts = [LidcNodules(nodules, p, splits=path) for p in ("training", "validation", "test")]
    patients = [{part[k]["subject"] for k in range(len(part))} for part in parts]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 6
    assert nodule_splits(nodules, path=path).hash == splits.hash
    nodules.rows[0]["patient_id"] = "other"
    with pytest.raises(ValueError, match="do not have the same patients"):
        nodule_splits(nodules, path=path)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"part": "training"}, "needs splits"),
        ({"part": "train"}, "part train needs splits"),
        ({"min_readers": 5}, "min_readers is 5"),
        ({"over_four": "guess"}, "over_four is 'guess'"),
        ({"sites": ["C"]}, "no nodule is left"),
    ],
)
def test_wrong_options(folder: Path, options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        LidcNodules(folder, **options)


def test_files_that_do_not_fit(folder: Path) -> None:
    with np.load(folder / "masks.npz") as file:
        bits = file["reader_bits"]
    np.savez(folder / "masks.npz", id=np.arange(12)[::-1], reader_bits=bits)
    with pytest.raises(ValueError, match=r"masks\.npz has other ids"):
        read_nodules_npz(folder)
    np.savez(folder / "masks.npz", id=np.arange(12), reader_bits=bits[:, 1:])
    with pytest.raises(ValueError, match=r"masks\.npz has the shape"):
        read_nodules_npz(folder)
    (folder / "annotations.csv").write_text("id,slot,outlined_on_slice\n0,5,1\n")
    np.savez(folder / "masks.npz", id=np.arange(12), reader_bits=bits)
    with pytest.raises(ValueError, match="line 2: slot is '5', expected a slot, 1 to 4"):
        read_nodules_npz(folder)
    (folder / "masks.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"No masks\.npz"):
        read_nodules_npz(folder)


def written(folder: Path, name: str, column: str, values: list[str]) -> None:
    """Write values into the first rows of a column."""
    with (folder / name).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row, value in zip(rows, values, strict=False):
        row[column] = value
    with (folder / name).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


YES, NO = ("1", "1.0", "True", "TRUE", " true "), ("0", "0.0", "False", "FALSE", " 0 ")


def test_tables_that_went_through_pandas(folder: Path) -> None:
    plain = [LidcNodules(folder)[k] for k in range(11)]
    written(folder, "nodules.csv", "cluster_over_four", [*NO, *NO, "0", *YES[-1:]])
    written(folder, "nodules.csv", "n_readers", ["2.0", "3.0"] * 6)
    written(folder, "annotations.csv", "slot", ["1.0", "3.0", "1.0", "2.0", "3.0"] * 6)
    written(
        folder, "annotations.csv", "outlined_on_slice", ["True", "1.0", "TRUE", "False", "1"] * 6
    )
    for name in ("nodules.csv", "annotations.csv"):
        with (folder / name).open(newline="") as stream:
            ids = [f"{row['id']}.0" for row in csv.DictReader(stream)]
        written(folder, name, "id", ids)
    dataset = LidcNodules(folder)
    assert len(dataset) == 11
    for k, item in enumerate(plain):
        assert item["volume_id"] == dataset[k]["volume_id"]
        assert item["label"] == dataset[k]["label"]
        assert (item["state"] == dataset[k]["state"]).all()
    for yes in YES:
        written(folder, "nodules.csv", "cluster_over_four", [yes])
        assert len(LidcNodules(folder)) == 10


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("nodules.csv", "cluster_over_four", "2"),
        ("nodules.csv", "cluster_over_four", "yes"),
        ("nodules.csv", "cluster_over_four", ""),
        ("nodules.csv", "cluster_over_four", "nan"),
        ("nodules.csv", "n_readers", "5"),
        ("nodules.csv", "n_readers", "-1"),
        ("nodules.csv", "n_readers", "2.5"),
        ("nodules.csv", "n_readers", "three"),
        ("nodules.csv", "n_readers", "1e999"),
        ("nodules.csv", "pixel_spacing_mm", "0"),
        ("nodules.csv", "pixel_spacing_mm", "-0.7"),
        ("nodules.csv", "pixel_spacing_mm", "nan"),
        ("nodules.csv", "pixel_spacing_mm", "inf"),
        ("nodules.csv", "pixel_spacing_mm", "0,7"),
        ("nodules.csv", "patient_id", "nan"),
        ("nodules.csv", "manufacturer", ""),
        ("nodules.csv", "id", ""),
        ("annotations.csv", "slot", "0"),
        ("annotations.csv", "slot", "1.5"),
        ("annotations.csv", "outlined_on_slice", "maybe"),
        ("annotations.csv", "outlined_on_slice", ""),
    ],
)
def test_a_cell_is_refused_by_column_row_and_value(
    folder: Path, name: str, column: str, value: str
) -> None:
    written(folder, name, column, [{"patient_id": "p0"}.get(column, "1"), value])
    if column in ("cluster_over_four", "n_readers", "outlined_on_slice"):
        written(folder, name, column, ["0" if column == "cluster_over_four" else "1", value])
    with pytest.raises(UsageError) as caught:
        read_nodules_npz(folder)
    text = str(caught.value)
    assert f"{name}, line 3: {column} is {value!r}, expected" in text


def test_other_files_are_named(folder: Path) -> None:
    text = (folder / "nodules.csv").read_text()
    for content, words in (
        (b"PK\x03\x04" + text.encode(), "nodules.csv is a workbook"),
        (text.replace(",", "|").encode(), "nodules.csv has no column 'id'"),
        (text.replace("p0,A", "p0,A,B").encode(), "line 2: not as many cells"),
        (text.replace("\n1,", "\n0,").encode(), "the id '0' comes twice"),
    ):
        (folder / "nodules.csv").write_bytes(content)
        with pytest.raises(UsageError, match=words):
            read_nodules_npz(folder)
    (folder / "nodules.csv").write_bytes(text.replace(",", ";").encode("utf-16"))
    assert len(read_nodules_npz(folder).rows) == len(text.splitlines()) - 1
    (folder / "nodules.csv").write_text(text)
    sound = (folder / "images.npz").read_bytes()
    for content in (b"", b"text", sound[: len(sound) // 2]):
        (folder / "images.npz").write_bytes(content)
        with pytest.raises(UsageError, match=r"images\.npz cannot be read"):
            read_nodules_npz(folder)
    hu = np.zeros((12, 31, 31))
    np.savez(folder / "images.npz", id=np.arange(12), hu=hu)
    with pytest.raises(UsageError, match=r"images\.npz holds float64"):
        read_nodules_npz(folder)
    np.savez(folder / "images.npz", id=np.arange(12.0), hu=hu.astype(np.int16))
    assert len(read_nodules_npz(folder).rows) == 12
    np.savez(folder / "masks.npz", id=np.arange(12), reader_bits=hu.astype(np.uint8) + 16)
    with pytest.raises(UsageError, match="bits above the 4 slots"):
        read_nodules_npz(folder)


def test_a_size_is_known_before_memory_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ppi_med.data.lidc.nodules_npz.MAX_BYTES", 1000)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(UsageError, match=r"images\.npz unpacks to \d+ bytes"):
        read_nodules_npz(folder)
