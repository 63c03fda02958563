"""Past the device: cells, datalists of the source's lists, and tables by hand."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ppi_med.errors import MissingFileError
from ppi_med.experiments.device import CEILING, Devices, _of_label_1

LISTS = {
    "train_small": [0, 1],
    "train_small_half": [0, 2],
    "val": [3],
    "test_normal": [4],
    "test_beside": [5],
    "test_elsewhere": [6],
}


def source_of(folder: Path) -> Path:
    folder.mkdir()
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for row in range(7):
            held = io.BytesIO()
            Image.fromarray(np.full((8, 8), row, np.uint8)).save(held, "JPEG")
            archive.writestr(f"{row:04d}.jpg", held.getvalue())
    with (folder / "images.csv").open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["row", "group", "label", "marker"])
        writer.writerows([row, f"g{row}", int(row in (1, 2, 5, 6)), ""] for row in range(7))
    (folder / "splits.json").write_text(json.dumps({"0": LISTS}))
    return folder


def devices(tmp_path: Path, **options: Any) -> Devices:
    return Devices(
        Path("bundle"), tmp_path / "source", tmp_path / "data", tmp_path / "work", **options
    )


def test_every_split_has_its_ceiling_and_the_methods(tmp_path: Path) -> None:
    cells = devices(tmp_path, methods=("plain", "auto"), splits=(0, 2)).cells()
    assert [cell.name for cell in cells[:3]] == [
        "ceiling-plain-split0",
        "train-plain-split0",
        "train-auto-split0",
    ]
    assert len({cell.name for cell in cells}) == 6
    assert cells[0].keys["method"] == CEILING
    assert {cell.overrides["seed"] for cell in cells} == {0, 2}


def test_further_runs_have_seeds_and_names_of_their_own(tmp_path: Path) -> None:
    cells = devices(tmp_path, methods=("plain",), splits=(0, 2), runs=2).cells()
    assert [cell.name for cell in cells[-2:]] == [
        "ceiling-plain-split2-run1",
        "train-plain-split2-run1",
    ]
    assert [cell.keys["seed"] for cell in cells[::2]] == [0, 2, 100, 102]


def test_datalists_hold_the_lists_and_the_tests_by_device(tmp_path: Path) -> None:
    source_of(tmp_path / "source")
    made = devices(tmp_path, splits=(0,))
    made.prepare(1)
    made.prepare(1)
    for training, rows in (("train", ["0000", "0001"]), ("ceiling", ["0000", "0002"])):
        folder = tmp_path / "data" / f"split0-{training}"
        found = json.loads((folder / "datalist.json").read_text())
        assert [item["volume_id"] for item in found["training"]] == rows
        assert {item["site"]: item["label"] for item in found["test"]} == {
            "normal": 0,
            "beside": 1,
            "elsewhere": 1,
        }
        assert all((folder / item["image"]).is_file() for item in found["test"])


def cells_of(folder: Path) -> Path:
    folder.mkdir()
    with zipfile.ZipFile(folder / "cells.zip", "w") as archive:
        for row in range(24):
            held = io.BytesIO()
            Image.fromarray(np.full((8, 8, 3), row, np.uint8)).save(held, "PNG")
            archive.writestr(f"image/{row:03d}.png", held.getvalue())
    with (folder / "cells.csv").open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["row", "group", "lobed"])
        writer.writerows([row, f"g{row}", row % 2] for row in range(24))
    lists = {
        "train_aligned": list(range(20)),
        "train_both": list(range(10)),
        "test_lab1": [20, 21],
        "test_lab2": [22, 23],
    }
    (folder / "splits.json").write_text(json.dumps({"0": lists}))
    return folder


def test_cells_are_validated_on_groups_of_the_training(tmp_path: Path) -> None:
    cells_of(tmp_path / "source")
    made = devices(tmp_path, splits=(0,))
    made.prepare(1)
    assert {cell.overrides["channels"] for cell in made.cells()} == {3}
    folder = tmp_path / "data" / "split0-train"
    found = json.loads((folder / "datalist.json").read_text())
    by_part = {part: {item["subject"] for item in items} for part, items in found.items()}
    assert len(by_part["training"]) == 16 and len(by_part["validation"]) == 4
    assert not by_part["training"] & by_part["validation"]
    assert {item["label"] for item in found["validation"]} == {0, 1}
    assert {item["site"] for item in found["test"]} == {"lab1", "lab2"}
    assert (folder / found["test"][0]["image"]).is_file()


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"images\.zip.*--source"):
        devices(tmp_path).prepare(1)


def test_the_score_is_the_probability_of_label_1() -> None:
    assert _of_label_1({"label": "1", "score": "0.7"}) == 0.7
    assert _of_label_1({"label": "0", "score": "0.7"}) == 0.3


def record(
    method: str, beside: list[float], elsewhere: list[float], seed: int = 0
) -> dict[str, Any]:
    normal = [0.1, 0.2, 0.3, 0.4]
    sites = ["normal"] * 4 + ["beside"] * len(beside) + ["elsewhere"] * len(elsewhere)
    names = [f"{seed}-{k:04d}" for k in range(len(sites))]
    predictions = {
        "volume_id": names,
        "subject": names,
        "site": sites,
        "label": [int(site != "normal") for site in sites],
        "score": normal + beside + elsewhere,
    }
    return {"method": method, "seed": seed, "test/auc": 0.0, "predictions": predictions}


def test_table_has_both_tests_and_the_gap_that_is_closed() -> None:
    records = [
        record("plain", [0.05, 0.35], [0.9, 0.8]),
        record("neutral", [0.25, 0.35], [0.9, 0.8]),
        record(CEILING, [0.35, 0.5], [0.9, 0.35]),
    ]
    (table,) = Devices.tables(records, repeats=50)
    by_method = {row[0]: row for row in table.texts()}
    assert by_method["plain"][1].startswith("0.375")
    assert by_method["neutral"][1].startswith("0.625")
    assert by_method[CEILING][1].startswith("0.875")
    assert by_method["neutral"][4].startswith("1.000")
    assert by_method["neutral"][3] == "50%"
    assert by_method["neutral"][-1] == "", "no gap on the other devices"
    assert by_method["plain"][3] == by_method[CEILING][3] == ""


def test_splits_with_other_patients_are_averaged() -> None:
    records = [
        record(method, scores, [0.9, 0.8], seed)
        for seed in (0, 1)
        for method, scores in (("plain", [0.05, 0.35]), ("neutral", [0.25, 0.35 + seed]))
    ]
    (table,) = Devices.tables(records, repeats=50)
    by_method = {row[0]: row for row in table.texts()}
    assert by_method["neutral"][1].startswith("0.688")
    assert by_method["neutral"][2].startswith("+0.312 [")
