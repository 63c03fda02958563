"""Published CT series of LIDC-IDRI and published nodules of the same patients."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ppi_med.data.lidc.scan_worker as scan_worker
from ppi_med.data.lidc.annotations import AnnotationDatabase, find_nodules
from ppi_med.data.lidc.datasets import LidcNodules
from ppi_med.data.lidc.extract import extract_patches
from ppi_med.data.lidc.nodules_npz import nodule_splits, read_nodules_npz
from ppi_med.data.lidc.report import Extraction
from ppi_med.data.lidc.zarr_store import read_patch

pytestmark = pytest.mark.data

CONTOURS = {"LIDC-IDRI-0001": 32, "LIDC-IDRI-0003": 76}


@pytest.fixture(scope="module")
def database() -> AnnotationDatabase:
    pytest.importorskip("zarr")
    try:
        return AnnotationDatabase()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def extracted(
    database: AnnotationDatabase, data_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Extraction, list[str]]:
    output = tmp_path_factory.mktemp("lidc") / "out"
    opened: list[str] = []
    read = scan_worker.read_slice
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            scan_worker,
            "read_slice",
            lambda base, file: opened.append(file.name) or read(base, file),
        )
        result = extract_patches(data_root / "lidc_dicom", output, scheduler="serial")
    return output, result, opened


def records(output: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in (output / "scans").glob("*.json")]
    return {record["patient"]: record for record in found}


def test_every_contour_slice_of_the_database(
    database: AnnotationDatabase, extracted: tuple[Path, Extraction, list[str]]
) -> None:
    output, result, opened = extracted
    found = records(output)
    assert {patient: record["contours"] for patient, record in found.items()} == CONTOURS
    assert not result.failures and result.exit_code == 0
    for record in found.values():
        scan = database.scan(record["series_uid"])
        assert scan is not None
        nodules = find_nodules(scan, database.annotations(scan))
        wanted = {(n.nodule_id, z) for n in nodules for z in n.heights}
        assert {(row["nodule_id"], row["z_mm"]) for row in record["rows"]} == wanted
    slices = sum(record["contour_slices"] for record in found.values())
    assert len(opened) == len(set(opened)) == slices == result.opened


def test_missing_slices_are_in_the_report(
    extracted: tuple[Path, Extraction, list[str]],
) -> None:
    page = (extracted[0] / "report.html").read_text()
    assert "LIDC-IDRI-0003: 33 of 140 slices are here, 107 are missing; 76 contours" in page
    assert "LIDC-IDRI-0001: " not in page


def test_nodules_equal_the_published_ones(
    data_root: Path, extracted: tuple[Path, Extraction, list[str]]
) -> None:
    nodules = read_nodules_npz(data_root / "lidc_nodules")
    with (data_root / "lidc_nodules" / "annotations.csv").open() as stream:
        slots = [(row["id"], int(row["annotation_id"])) for row in csv.DictReader(stream)]
    found, compared = records(extracted[0]), 0
    for index, row in enumerate(nodules.rows):
        record = found.get(row["patient_id"])
        if record is None:
            continue
        annotations = [number for name, number in slots if name == row["id"]]
        (number,) = (
            k
            for k, patch in enumerate(record["rows"])
            if patch["annotation_ids"] == annotations and patch["z_mm"] == float(row["z_mm"])
        )
        patch = record["rows"][number]
        arrays = read_patch(str(extracted[0] / "patches.zarr"), record["group"], number)
        top, left = int(row["row0"]) - int(patch["row0"]), int(row["col0"]) - int(patch["column0"])
        own, theirs = common(top, left, 71, 128)
        assert own[0].stop - own[0].start >= 60
        assert (arrays["hu"][own] == nodules.hu[index][theirs]).all()
        readers = nodules.readers(index)
        assert (arrays["readers"][(slice(None), *own)] == readers[(slice(None), *theirs)]).all()
        assert arrays["readers"].sum() == readers.sum()
        assert (arrays["state"] == nodules.state[index]).all()
        assert patch["label"] == int(row["label_3of4"]) and patch["site"] == row["manufacturer"]
        assert patch["contrast"] == int(row["contrast"])
        compared += 1
    assert compared == 4


def common(top: int, left: int, small: int, large: int) -> tuple[Any, Any]:
    """Slices of the area that both patches show, in the large and in the small one."""
    own, theirs = [], []
    for start in (top, left):
        low, high = max(0, start), min(large, start + small)
        own.append(slice(low, high))
        theirs.append(slice(low - start, high - start))
    return tuple(own), tuple(theirs)


def test_published_nodules_as_a_data_set(data_root: Path, tmp_path: Path) -> None:
    nodules = read_nodules_npz(data_root / "lidc_nodules")
    assert len(nodules.rows) == 2680
    assert [
        nodules.label(k, 3) == int(row["label_3of4"]) for k, row in enumerate(nodules.rows)
    ].count(False) == 0
    sizes = [int(nodules.readers(k).any(axis=0).sum()) for k in range(0, 2680, 40)]
    assert sizes == [int(row["union_px"]) for row in nodules.rows[::40]]
    dataset = LidcNodules(nodules, over_four="keep")
    majority = [int(dataset[k]["majority"].sum()) for k in range(0, 2680, 40)]
    assert majority == [int(row["majority_px"]) for row in nodules.rows[::40]]
    splits = nodule_splits(nodules, fractions=(0.8, 0.2, 0.0), path=tmp_path / "splits.json")
    assert len(splits.folds) == 5
    parts = [
        LidcNodules(nodules, "validation", splits=splits, fold=k, over_four="keep")
        for k in range(5)
    ]
    patients = [{part.nodules.rows[i]["patient_id"] for i in part.indices} for part in parts]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 866
    assert sum(map(len, parts)) == 2680 and len(LidcNodules(nodules)) == 2680 - 24
    shares = [np.mean(part.labels) for part in parts]
    assert max(shares) - min(shares) < 0.1
