"""The LIDC phantom: DICOM that the same steps read as real data."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from ppi_med.data.lidc.annotations import AnnotationDatabase
from ppi_med.data.lidc.cases import load_cases
from ppi_med.data.lidc.zarr_store import read_patch
from ppi_med.errors import MissingFileError, UsageError
from ppi_med.phantoms.ct.lidc import heights_to_write, make_lidc_phantom, write_dicom
from ppi_med.phantoms.ct.spec import CT_SITES, MARKS, LidcPhantomSpec
from tests.data.lidc.database import HEIGHTS, PATIENTS, make_database

BOTH = (9001, 9002)
MARKED = LidcPhantomSpec(patients=BOTH, agreement=1.0, sites=CT_SITES[1:3])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("base") / "outlines.sqlite")


@pytest.fixture(scope="module")
def made(base: Path, tmp_path_factory: pytest.TempPathFactory):
    pytest.importorskip("zarr")
    output = tmp_path_factory.mktemp("phantom") / "out"
    return output, make_lidc_phantom(MARKED, output, database=base)


def planned(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "nodules_of_phantom.csv").open() as stream:
        return {row["nodule_id"]: row for row in csv.DictReader(stream)}


def rows_of(folder: Path) -> list[tuple[dict, dict]]:
    """Each patch's facts and arrays."""
    found = []
    for path in sorted((folder / "scans").glob("*.json")):
        record = json.loads(path.read_text())
        for number, row in enumerate(record["rows"]):
            arrays = read_patch(str(folder / "patches.zarr"), record["group"], number)
            found.append((row, arrays))
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.dcm"))}


def test_every_slice_with_an_outline_is_there_and_read(made) -> None:
    output, result = made
    assert result.exit_code == 0 and not result.failures
    assert result.opened == result.contour_slices == len(files(output)) == 6
    # Three heights of the first nodule, two of the second, one of the five outlines.
    assert result.patches == 6
    assert {row["patient"] for row, _ in rows_of(output)} == set(PATIENTS)


def test_the_outlines_hold_tissue_and_the_rest_is_lung(made) -> None:
    for row, arrays in rows_of(made[0]):
        inside = arrays["majority"] > 0
        # What is near the nodule was made lung; the mark lies further out.
        grown = np.zeros_like(inside)
        size = int(inside.sum() ** 0.5)
        middle = slice(64 - size // 2 - 10, 64 + size // 2 + 10)
        grown[middle, middle] = True
        around = grown & ~(arrays["union"] > 0)
        assert arrays["hu"][inside].mean() > arrays["hu"][around].mean() + 150, row["patch_id"]


def test_marks_agree_with_the_label_and_lie_where_the_site_puts_them(made) -> None:
    output, _ = made
    plan = planned(output)
    assert {(r["label"], r["artefact"]) for r in plan.values()} == {("1", "1"), ("0", "0")}
    sites = {site.name: site for site in CT_SITES}
    for row, arrays in rows_of(output):
        offset = sites[row["site"]].mark_offset_mm
        place = [round(64 + mm / 0.5) for mm in offset]
        part = arrays["hu"][place[0] - 8 : place[0] + 8, place[1] - 8 : place[1] + 8]
        marked = row["nodule_id"] in plan and plan[row["nodule_id"]]["artefact"] == "1"
        assert bool((part > 700).sum() > 20) == marked, row["patch_id"]


def test_stored_values_are_those_of_the_site(base: Path, tmp_path: Path) -> None:
    for number, site in enumerate(CT_SITES):
        spec = LidcPhantomSpec(patients=(9001,), sites=(site,), variant="nodule")
        assert write_dicom(spec, tmp_path / str(number), database=base) == 1
        (path,) = (tmp_path / str(number)).rglob("*.dcm")
        dataset = pydicom.dcmread(path)
        assert (dataset.Manufacturer, dataset.RescaleIntercept) == (site.name, site.intercept)
        stored = dataset.pixel_array
        hu = stored.astype(int) + site.intercept
        assert (stored == -2000).any() == site.padding
        assert -1024 <= np.median(hu[stored != -2000]) < -500 and hu.max() > 200
        assert "Phantom" in dataset.ImageComments


def test_the_same_bytes_for_any_number_of_workers_and_after_a_stop(
    base: Path, tmp_path: Path
) -> None:
    spec = LidcPhantomSpec(patients=BOTH, variant="nodule")
    write_dicom(spec, tmp_path / "a", database=base, workers=1)
    write_dicom(spec, tmp_path / "b", database=base, workers=2)
    wanted = files(tmp_path / "a")
    assert files(tmp_path / "b") == wanted
    lost = next((tmp_path / "b" / "dicom").rglob("series_0001"))
    kept = {
        p: p.stat().st_mtime_ns for p in (tmp_path / "b").rglob("*.dcm") if lost not in p.parents
    }
    for path in lost.iterdir():
        path.unlink()
    lost.rename(lost.with_name(".series_0001.partial"))
    write_dicom(spec, tmp_path / "b", database=base)
    assert files(tmp_path / "b") == wanted
    assert kept == {p: p.stat().st_mtime_ns for p in kept}
    other = files_of_seed(spec, 1, tmp_path / "c", base)
    assert other.keys() == wanted.keys() and all(other[k] != wanted[k] for k in wanted)


def files_of_seed(spec: LidcPhantomSpec, seed: int, folder: Path, base: Path) -> dict[str, bytes]:
    write_dicom(replace(spec, seed=seed), folder, database=base)
    return files(folder)


def test_slices_to_write(base: Path) -> None:
    database = AnnotationDatabase(base)
    for spec, wanted in (
        (LidcPhantomSpec(patients=(9001,)), [5.0, 7.5, 10.0]),
        (LidcPhantomSpec(patients=(9001,), padding_slices=1), [2.5, 5.0, 7.5, 10.0, 12.5]),
        (LidcPhantomSpec(patients=(9001,), whole=True), HEIGHTS),
    ):
        (scan,) = spec.scans(database)
        assert list(heights_to_write(spec, scan.scan, scan.nodules)) == wanted


def test_a_whole_scan_is_a_volume(base: Path, tmp_path: Path) -> None:
    from ppi_med.data.dicom.index import index_tree

    spec = LidcPhantomSpec(patients=(9001,), whole=True)
    write_dicom(spec, tmp_path / "phantom", database=base)
    summary = index_tree(tmp_path / "phantom" / "dicom", tmp_path / "index", scheduler="serial")
    with summary.table.open() as stream:
        (row,) = csv.DictReader(stream)
    assert summary.exit_code == 0
    assert (row["status"], row["slices"], row["step_mm"]) == ("volume", str(len(HEIGHTS)), "2.5")


def test_what_makes_no_sense_is_refused(base: Path, made, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="parameters"):
        write_dicom(replace(MARKED, seed=5), made[0], database=base)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="not empty"):
        write_dicom(MARKED, tmp_path, database=base)
    with pytest.raises(UsageError, match="LIDC-IDRI-0001"):
        write_dicom(LidcPhantomSpec(patients=(1,)), tmp_path / "x", database=base)
    with pytest.raises(UsageError, match="cannot be parted"):
        write_dicom(replace(MARKED, test_agreement=0.5), tmp_path / "x", database=base)
    with pytest.raises(UsageError, match="2 patients have nodules"):
        write_dicom(LidcPhantomSpec(count=3), tmp_path / "x", database=base)
    with pytest.raises(UsageError, match="'ACME'"):
        write_dicom(replace(MARKED, agreement={"ACME": 1.0}), tmp_path / "x", database=base)
    with pytest.raises(MissingFileError, match=r"none\.sqlite"):
        write_dicom(MARKED, tmp_path / "x", database=tmp_path / "none.sqlite")
    assert not (tmp_path / "x").exists()


def test_marks_have_a_shape_of_their_own() -> None:
    down, right = np.meshgrid(*[np.arange(-4, 4, 0.5)] * 2, indexing="ij")
    shapes = [MARKS[site.mark](down, right) for site in CT_SITES]
    assert all(20 < shape.sum() < 200 for shape in shapes)
    assert all((a != b).any() for k, a in enumerate(shapes) for b in shapes[:k])
    assert all((abs(down[s]).max() <= 4) and (abs(right[s]).max() <= 4) for s in shapes)


@pytest.mark.slow
def test_real_scans_of_the_database(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    try:
        database = AnnotationDatabase()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    spec = LidcPhantomSpec(patients=(1, 3))
    assert sum(len(heights_to_write(spec, p.scan, p.nodules)) for p in spec.scans(database)) == 35
    result = make_lidc_phantom(replace(spec, patients=(1,)), tmp_path / "out")
    assert result.contours == 32 and result.exit_code == 0
    (case,) = {c["subject"] for c in load_cases(tmp_path / "out", "all")}
    assert case == "LIDC-IDRI-0001"


@pytest.mark.slow
def test_sites_are_dealt_by_their_shares_and_splits_hold_the_marks() -> None:
    try:
        database = AnnotationDatabase()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    spec = LidcPhantomSpec(count=40, agreement=1.0, test_agreement=0.0)
    scans = spec.scans(database)
    names = [p.site.name for p in scans]
    assert [names.count(site.name) for site in CT_SITES] == [16, 10, 8, 6]
    nodules, splits = spec.plan(scans)
    assert splits is not None
    for nodule in nodules:
        test = nodule.subject in splits.parts["test"]
        assert nodule.artefact == (bool(nodule.label) != test)
