"""Extraction on small scans: values, masks, resume, kill, schedulers, stores, report."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

import ppi_med.data.lidc.scan_worker as scan_worker
from ppi_med.data.lidc.annotations import AnnotationDatabase, contour_mask, find_nodules
from ppi_med.data.lidc.datasets import LidcPatches
from ppi_med.data.lidc.extract import extract_patches
from ppi_med.data.lidc.job import ExtractionJob, main
from ppi_med.data.lidc.report import Extraction
from ppi_med.data.lidc.zarr_store import read_patch
from ppi_med.data.manifest import read_manifest
from ppi_med.data.splits import read_splits
from ppi_med.io import exclusive

from .database import PATIENTS, SERIES, make_database, stored, write_scans

FEW = {"fractions": (0.5, 0.5, 0.0), "folds": 2}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lidc")
    make_database(folder / "outlines.sqlite")
    write_scans(folder / "dicom")
    return folder


def run(source: Path, output: Path, **options: Any) -> Extraction:
    arguments = {"scheduler": "serial", **FEW} | options
    tree = arguments.pop("tree", source / "dicom")
    return extract_patches(tree, output, database=source / "outlines.sqlite", **arguments)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def done(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("done") / "out"
    assert run(source, output).exit_code == 0
    return output


def test_values_and_masks_are_the_slices_own(source: Path, done: Path) -> None:
    database = AnnotationDatabase(source / "outlines.sqlite")
    rows = read_manifest(done / "manifest.csv")
    assert len(rows) == 3 + 2 + 1 and len({row.volume_id for row in rows}) == 6
    for item in json.loads((done / "datalist.json").read_text())["training"]:
        scan_index = PATIENTS.index(item["subject"])
        arrays = read_patch(str(done / item["image"]), item["group"], item["row"])
        row = next(r for r in rows if r.volume_id == item["volume_id"])
        top, left = round(float(row.extra["row0"])), round(float(row.extra["column0"]))
        number = round(item["z_mm"] / 2.5)
        whole = stored(scan_index, number).astype(int) - 1024
        whole[:2] = -2000
        wide = np.pad(whole, 128, constant_values=-2000)
        expected = wide[top + 128 : top + 256, left + 128 : left + 256]
        assert (arrays["hu"] == expected).all()
        assert int(row.extra["padding_px"]) == (expected == -2000).sum()
        scan = database.scan(SERIES[scan_index])
        nodule = next(
            n
            for n in find_nodules(scan, database.annotations(scan))
            if n.nodule_id == item["nodule_id"]
        )
        for slot, reader in enumerate(nodule.readers):
            contours = reader.on_slice(item["z_mm"])
            mask = contour_mask(contours, (top, left), (128, 128))
            assert (arrays["readers"][slot] == mask).all()
            assert arrays["state"][slot] == (2 if contours else 1)
        assert (arrays["state"][len(nodule.readers) :] == 0).all()


def test_votes_labels_and_masks_of_several(done: Path) -> None:
    rows = {row.volume_id: row for row in read_manifest(done / "manifest.csv")}
    high = rows["LIDC-IDRI-9001-a0001_z+0010.000"]
    assert (high.label, high.extra["votes"], high.extra["votes_on_slice"]) == (1, "4", "2")
    low = rows["LIDC-IDRI-9002-a0005_z+0012.500"]
    assert (low.label, low.extra["votes"], low.extra["votes_on_slice"]) == (0, "2", "1")
    five = rows["LIDC-IDRI-9002-a0007_z+0015.000"]
    assert five.label is None and five.extra["cluster_over_four"] == "1"
    assert "at least 3 of 4" in high.label_rule and high.site == "SIEMENS"
    records = [json.loads(p.read_text()) for p in sorted((done / "scans").glob("*.json"))]
    row = next(r for r in records[0]["rows"] if r["patch_id"] == high.volume_id)
    arrays = read_patch(
        str(done / "patches.zarr"), records[0]["group"], records[0]["rows"].index(row)
    )
    assert (arrays["union"] == arrays["readers"].any(axis=0)).all()
    assert (arrays["majority"] == (arrays["readers"].sum(axis=0) >= 1)).all()


def test_patients_are_disjoint_and_headers_names_go_nowhere(done: Path) -> None:
    splits = read_splits(done / "splits.json")
    assert sorted([*splits.parts["training"], *splits.parts["validation"]]) == PATIENTS
    for path in done.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"SECRET" not in data and b"Secret" not in data, path
    assert not (done / ".work").exists()


def test_only_slices_with_a_contour_are_opened(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    read = scan_worker.read_slice
    monkeypatch.setattr(
        scan_worker, "read_slice", lambda base, file: opened.append(file.name) or read(base, file)
    )
    result = run(source, tmp_path / "out")
    assert len(opened) == len(set(opened)) == result.opened == result.contour_slices == 6


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_the_same_bytes_for_any_workers(
    source: Path, done: Path, tmp_path: Path, scheduler: str
) -> None:
    run(source, tmp_path / "out", scheduler=scheduler, workers=2)
    assert contents(tmp_path / "out") == contents(done)


@pytest.mark.slow
def test_the_same_bytes_on_a_dask_cluster(source: Path, done: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None,
        host="127.0.0.1",
    ) as cluster:  # fmt: skip
        run(source, tmp_path / "out", scheduler=cluster.scheduler_address)
    assert contents(tmp_path / "out") == contents(done)


def test_a_second_run_keeps_and_a_damaged_scan_is_cut_again(
    source: Path, done: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(source, out)
    before = contents(out)
    assert run(source, out).scans == {"ok": 0, "kept": 2, "failed": 0}
    assert contents(out) == before
    next((out / "patches.zarr").glob("*9001*/hu/c/0/0/0")).unlink()
    assert run(source, out).scans == {"ok": 1, "kept": 1, "failed": 0}
    assert contents(out) == before
    assert run(source, out, options={"size": 64}).scans["ok"] == 2


@pytest.mark.slow
def test_after_a_kill_the_result_is_the_same(source: Path, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import sys, os, signal\n"
        "import ppi_med.data.lidc.scan_worker as w\n"
        "from ppi_med.data.lidc.extract import extract_patches\n"
        "write = w.write_json\n"
        "def killed(path, value):\n"
        "    if sys.argv[4] in str(path): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(path, value)\n"
        "w.write_json = killed\n"
        "extract_patches(sys.argv[1], sys.argv[2], database=sys.argv[3], scheduler='serial')\n"
    )
    for victim in SERIES:  # twice: before either record
        arguments = [str(source / "dicom"), str(out), str(source / "outlines.sqlite"), victim]
        done_process = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=Path(__file__).parents[3], check=False
        )
        assert done_process.returncode == -signal.SIGKILL
        assert not (out / "manifest.csv").exists()
    assert run(source, out).scans == {"ok": 1, "kept": 1, "failed": 0}
    assert contents(out) == contents(done)


def test_what_a_kill_left_half_written_is_removed(source: Path, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "scans").mkdir(parents=True)
    (out / "scans" / f".{SERIES[0]}.json.a1b2.tmp.json").write_text('{"patient": "LI')
    (out / ".manifest.csv.c3d4.tmp.csv").write_text("volume_id,sub")
    assert run(source, out).scans == {"ok": 2, "kept": 0, "failed": 0}
    assert contents(out) == contents(done)


def test_missing_and_damaged_slices_are_named_and_the_rest_is_cut(
    source: Path, tmp_path: Path
) -> None:
    tree = write_scans(tmp_path / "tree", skip=(7.5,))
    damaged = tree / "hospital-1" / "005.dcm"  # z = 12.5
    damaged.write_bytes(damaged.read_bytes()[:-100])
    result = run(source, tmp_path / "out", tree=tree)
    assert result.exit_code == 1 and result.patches == 4
    assert {(f["patient"], f["z_mm"]) for f in result.failures} == {
        (PATIENTS[0], 7.5),
        (PATIENTS[1], 12.5),
    }
    assert "9 of 10 slices are here" in " ".join(result.notes)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "pixel data shorter than rows x columns" in page and "the slice is not here" in page


def test_report_is_escaped_and_asks_nothing_of_the_network(done: Path) -> None:
    page = (done / "report.html").read_text()
    assert "Other" not in page and "X-" in page  # a maker that is not known here
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    assert page.count("data:image/png;base64,") == 3


def test_half_millimetre_patches(source: Path, tmp_path: Path) -> None:
    """Twice the pixels: every second one is the slice's own, the others lie between."""
    run(source, tmp_path / "fine", options={"spacing_mm": 0.25, "size": 64})
    run(source, tmp_path / "native", options={"size": 64})
    group = "LIDC-IDRI-9001_s0001"
    fine = read_patch(str(tmp_path / "fine" / "patches.zarr"), group, 0)
    native = read_patch(str(tmp_path / "native" / "patches.zarr"), group, 0)
    assert (fine["hu"][::2, ::2] == native["hu"][16:48, 16:48]).all()
    between = (fine["hu"][::2, :-2:2].astype(int) + fine["hu"][::2, 2::2]) / 2
    assert np.abs(fine["hu"][::2, 1:-2:2] - between).max() <= 0.5
    assert (fine["union"][::2, ::2] == native["union"][16:48, 16:48]).all()
    row = read_manifest(tmp_path / "fine" / "manifest.csv")[0]
    assert row.spacing_columns_mm == 0.25 and "resampled" in row.provenance["spacing"]


def test_one_patch_a_nodule(source: Path, tmp_path: Path) -> None:
    result = run(source, tmp_path / "out", options={"variant": "nodule"})
    assert result.patches == 3


def test_a_store_of_fsspec(source: Path, done: Path, tmp_path: Path) -> None:
    store = f"memory://{tmp_path.name}/patches.zarr"
    run(source, tmp_path / "out", store=store)
    assert run(source, tmp_path / "out", store=store).scans["kept"] == 2
    item = LidcPatches(tmp_path / "out" / "datalist.json", ["training", "validation"])[0]
    same = LidcPatches(done / "datalist.json", ["training", "validation"])[0]
    assert (item["image"] == same["image"]).all()


def test_a_relative_store_is_found_again(
    source: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(source, tmp_path / "out", store="big/p.zarr")
    assert (tmp_path / "big" / "p.zarr").is_dir() and not (tmp_path / "out" / "big").exists()
    monkeypatch.chdir(source)
    item = LidcPatches(tmp_path / "out" / "datalist.json", ["training", "validation"])[0]
    same = LidcPatches(done / "datalist.json", ["training", "validation"])[0]
    assert (item["image"] == same["image"]).all()


def test_dataset(done: Path) -> None:
    both = LidcPatches(done / "datalist.json", ["training", "validation"], crop=40)
    assert len(both) == 5
    item = both[0]
    assert item["image"].shape == (1, 40, 40) and item["readers"].shape == (4, 40, 40)
    assert {"label", "subject", "site", "nodule_id"} <= set(item)
    with pytest.raises(ValueError, match="no site 'X'"):
        LidcPatches(done / "datalist.json", "training", sites=["X"])


def test_an_output_of_another_tree_is_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(source, out)
    half = tmp_path / "half"
    half.mkdir()
    (half / "a").symlink_to(source / "dicom" / "hospital-0")
    with pytest.raises(ValueError, match="1 scans that are not in the tree"):
        run(source, out, tree=half)
    result = run(source, out, tree=half, prune=True, new_splits=True)
    assert result.patches == 3
    assert [p.name for p in (out / "patches.zarr").iterdir() if p.is_dir()] == [
        "LIDC-IDRI-9001_s0001"
    ]


def test_patients_that_come_later_are_told(source: Path, tmp_path: Path) -> None:
    half, out = tmp_path / "half", tmp_path / "out"
    half.mkdir()
    (half / "a").symlink_to(source / "dicom" / "hospital-0")
    run(source, out, tree=half, fractions=(1.0, 0.0, 0.0), folds=0)
    note = "1 patients are not in splits.json"
    result = run(source, out)
    assert any(note in line and "new_splits" in line for line in result.notes)
    items = json.loads((out / "datalist.json").read_text())
    assert PATIENTS[1] in {item["subject"] for item in items["unassigned"]}
    assert not any(note in line for line in run(source, out, new_splits=True).notes)


def test_what_is_gone_is_no_longer_named(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run(source, tmp_path / "out")
    run(source, tmp_path / "out", tree=tmp_path / "empty", prune=True)
    assert not (tmp_path / "out" / "manifest.csv").exists()
    assert not (tmp_path / "out" / "datalist.json").exists()
    assert (tmp_path / "out" / "splits.json").exists()


def test_a_tree_without_lidc(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run(source, tmp_path / "out", tree=tmp_path / "empty")
    assert result.exit_code == 1 and "no series of LIDC-IDRI" in result.notes[0]
    assert (tmp_path / "out" / "report.html").exists()


def change(tree: Path, name: str, edit: Callable[[pydicom.Dataset], None]) -> Path:
    """Edit the files of a tree that fit a pattern; return the tree."""
    for path in tree.glob(name):
        dataset = pydicom.dcmread(path)
        edit(dataset)
        dataset.save_as(path, enforce_file_format=True)
    return tree


def halve(dataset: pydicom.Dataset) -> None:
    pixels = dataset.pixel_array[::2, ::2]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = pixels.tobytes()


def wider(dataset: pydicom.Dataset) -> None:
    dataset.PixelSpacing = [1.0, 1.0]


def halve_all(dataset: pydicom.Dataset) -> None:
    halve(dataset)
    wider(dataset)


SECOND = "hospital-1/*.dcm"
AT_TEN = "hospital-1/006.dcm"


@pytest.mark.parametrize(
    ("files", "edit", "words", "left"),
    [
        (SECOND, halve, "outside the slice of 80 x 80 pixels", 3),
        (SECOND, halve_all, "outside the slice of 80 x 80 pixels", 3),
        (AT_TEN, halve, "2 sizes of slices in one series", 3),
        (SECOND, wider, "its pixels are 1 x 1 mm, those of the outlines 0.5 mm", 3),
        (AT_TEN, wider, "its pixels are 1 x 1 mm, those of the outlines 0.5 mm", 5),
        (AT_TEN, lambda d: setattr(d, "PixelSpacing", [0.5, 0.6]), "its pixels are 0.5 x 0.6", 5),
        (AT_TEN, lambda d: delattr(d, "RescaleSlope"), "no RescaleSlope", 5),
        (AT_TEN, lambda d: setattr(d, "RescaleType", "US"), "RescaleType is US", 5),
        (AT_TEN, lambda d: setattr(d, "RescaleSlope", 0), "RescaleSlope is 0", 5),
        (AT_TEN, lambda d: setattr(d, "RescaleIntercept", 32000), "values up to 32", 5),
        (AT_TEN, lambda d: d.add_new("PixelPaddingValue", "SS", -2000), "", 6),
    ],
)
def test_outlines_and_pixels_that_do_not_belong_together(
    source: Path, tmp_path: Path, files: str, edit: Any, words: str, left: int
) -> None:
    tree = change(write_scans(tmp_path / "tree"), files, edit)
    result = run(source, tmp_path / "out", tree=tree)
    assert result.patches == left and result.exit_code == int(left < 6)
    assert all(words in f["reason"] and f["patient"] == PATIENTS[1] for f in result.failures)


def test_a_nodule_where_nothing_was_scanned_is_named(source: Path, tmp_path: Path) -> None:
    def declare(dataset: pydicom.Dataset) -> None:
        dataset.add_new("PixelPaddingValue", "SS", -2000)
        dataset.add_new("PixelPaddingRangeLimit", "SS", 2000)

    tree = change(write_scans(tmp_path / "tree"), AT_TEN, declare)
    result = run(source, tmp_path / "out", tree=tree)
    (failure,) = result.failures
    assert result.patches == 5 and failure["z_mm"] == 10
    assert failure["reason"] == "nothing was scanned where the readers drew"


def test_a_series_is_one_patient_and_one_study(source: Path, tmp_path: Path) -> None:
    tree = write_scans(tmp_path / "tree")
    shutil.copytree(tree / "hospital-1", tree / "copy")
    change(tree, "copy/*.dcm", lambda d: setattr(d, "PatientID", "another"))
    result = run(source, tmp_path / "none", tree=tree)
    (failure,) = result.failures
    assert result.patches == 3 and failure["patient"] == PATIENTS[1]
    assert "under 2 patients or studies, and none has the study of LIDC" in failure["reason"]
    # The study of LIDC's database tells which of them it is, wherever it stands.
    change(tree, "hospital-1/*.dcm", lambda d: setattr(d, "StudyInstanceUID", "1.2"))
    result = run(source, tmp_path / "one", tree=tree)
    (failure,) = result.failures
    assert result.patches == 6 and "only that of LIDC's study is taken" in failure["reason"]
    change(tree, "copy/*.dcm", lambda d: setattr(d, "StudyInstanceUID", "1.2"))
    result = run(source, tmp_path / "both", tree=tree)
    assert result.patches == 3 and "several have the study" in result.failures[0]["reason"]


def test_copies_of_a_slice_have_to_agree(source: Path, done: Path, tmp_path: Path) -> None:
    tree = write_scans(tmp_path / "tree")
    shutil.copy(tree / AT_TEN, tree / "hospital-1" / "0.dcm")
    assert run(source, tmp_path / "same", tree=tree).exit_code == 0
    content = (tree / AT_TEN).read_bytes()
    (tree / "hospital-1" / "0.dcm").write_bytes(content[:-1000])  # damaged: the other is taken
    assert run(source, tmp_path / "damaged", tree=tree).exit_code == 0
    (tree / "hospital-1" / "0.dcm").write_bytes(content[:-1000] + b"\1" * 1000)
    result = run(source, tmp_path / "other", tree=tree)
    assert result.patches == 5
    assert [f["reason"] for f in result.failures] == ["2 files of this slice differ"]


def test_the_machine_says_no_in_one_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(**changes: Any) -> str:
        arguments = {"dicom_root": source / "dicom", "output": tmp_path / "out"} | changes
        job = ExtractionJob(
            **arguments, scheduler="serial", database=source / "outlines.sqlite", folds=2
        )
        with pytest.raises(SystemExit) as stopped:
            job.run()
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("lidc_patches: ")
        return line

    (tmp_path / "file").write_text("a file")
    assert "File exists" in refused(output=tmp_path / "file")
    assert "No file or folder" in refused(dicom_root=tmp_path / "none")
    with exclusive(tmp_path / "out", "extraction"):
        assert "Another extraction writes to" in refused()
    work = tmp_path / "out" / ".work"
    work.mkdir()
    (work / "headers.sqlite").write_bytes(b"text" * 1000)
    assert "is damaged or no index" in refused()


def test_the_command(
    source: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--dicom-root", str(source / "dicom"), "--output", str(tmp_path / "out"), "--quiet"]
    call += ["--database", str(source / "outlines.sqlite"), "--scheduler", "serial"]
    assert main([*call, "--fractions", "0.5,0.5,0", "--folds", "2"]) == 0
    assert contents(tmp_path / "out") == contents(done)
    assert "2 scans (0 kept): 6 patches" in capsys.readouterr().out
    (tmp_path / "file").write_text("a file")
    assert main([*call[:3], str(tmp_path / "file"), *call[4:]]) == 2
    assert capsys.readouterr().err.startswith("ppi-med extract-lidc: File exists")
    with pytest.raises(SystemExit) as stopped:
        main([*call, "--variant", "slice"])
    assert stopped.value.code == 2 and "variant is 'slice'" in capsys.readouterr().err
