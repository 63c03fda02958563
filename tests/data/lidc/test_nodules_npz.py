"""The reader of npz arrays with a table, on a small folder."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from ppi_med.data.lidc.nodules_npz import LidcNodules, nodule_splits, read_nodules_npz


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
    with pytest.raises(ValueError, match="slot 5, expected"):
        read_nodules_npz(folder)
    (folder / "masks.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"No masks\.npz"):
        read_nodules_npz(folder)
