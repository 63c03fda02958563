"""The phantom on the disk: the contract of the raw files, determinism, conversion, command."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from ppi_med.phantoms.oct.artefacts import mark
from ppi_med.phantoms.oct.grid import Size
from ppi_med.phantoms.oct.spec import SITES, OctPhantomSpec
from ppi_med.phantoms.oct.write import LABEL_COLUMNS, make_oct_phantom, write_raw

SPEC = OctPhantomSpec(
    subjects=6, visits=(1, 2), size=Size(48, 40, 8), agreement=1.0, test_agreement=0.5, folds=2
)
REPOSITORY = Path(__file__).parents[2]


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def labels(folder: Path) -> list[dict[str, str]]:
    with (folder / "raw" / "labels.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "raw_only"
    write_raw(SPEC, folder)
    return folder


def test_labels_name_every_file(raw: Path) -> None:
    rows = labels(raw)
    assert tuple(rows[0]) == LABEL_COLUMNS
    files = {str(p.relative_to(raw / "raw")) for p in (raw / "raw").rglob("*.mat")}
    assert {row["file"] for row in rows} == files
    first = rows[0]
    assert first["file"] == f"site_a/{first['subject']}_{first['eye']}_{first['visit']}.mat"


def test_mat_contract(raw: Path) -> None:
    rows = labels(raw)
    widths = {site.name: round(site.width * 40) for site in SITES}
    for row in rows:
        path = raw / "raw" / row["file"]
        assert path.read_bytes().startswith(b"MATLAB 5.0 MAT-file")
        content = loadmat(path)
        shape = (48, widths[row["site"]], 8)
        assert content["images"].shape == content["lesion"].shape == shape
        assert content["images"].dtype == content["lesion"].dtype == np.uint8
        assert content["layerMaps"].shape == (8, shape[1], 3)
        assert content["Age"].shape == (1, 1) and 60 <= content["Age"][0, 0] <= 92
        assert int(content["lesion"].any()) == int(row["label"])
        assert set(np.unique(content["lesion"])) <= {0, 1}


def test_marks_are_where_the_table_says(raw: Path) -> None:
    marks = {site.name: site.artefact for site in SITES}
    seen = set()
    for row in labels(raw):
        images = loadmat(raw / "raw" / row["file"])["images"]
        where, value = mark(marks[row["site"]], *images.shape[:2])
        there = (images[where] == value[where][:, None]).all()
        assert there == (row["artefact"] == "1")
        seen.add((row["site"], there))
    assert len(seen) == 8  # with and without, at each site


def test_two_workers_write_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    write_raw(SPEC, tmp_path / "two", workers=2)
    assert hashes(tmp_path / "two") == hashes(raw)


def test_another_seed_gives_other_eyes(raw: Path, tmp_path: Path) -> None:
    spec = replace(SPEC, seed=1, sites=SITES[:1], subjects=5)
    write_raw(spec, tmp_path / "other")
    other = hashes(tmp_path / "other" / "raw" / "site_a")
    assert not set(other.values()) & set(hashes(raw / "raw" / "site_a").values())


def test_agreement_changes_only_the_marks(raw: Path, tmp_path: Path) -> None:
    write_raw(replace(SPEC, agreement=None, test_agreement="same"), tmp_path / "bare")
    marks = {site.name: site.artefact for site in SITES}
    for row in labels(raw):
        with_mark = loadmat(raw / "raw" / row["file"])
        bare = loadmat(tmp_path / "bare" / "raw" / row["file"])
        where, _ = mark(marks[row["site"]], *bare["images"].shape[:2])
        np.testing.assert_array_equal(with_mark["images"][~where], bare["images"][~where])
        np.testing.assert_array_equal(with_mark["lesion"], bare["lesion"])


def test_a_stopped_run_goes_on(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    spec = replace(SPEC, sites=SITES[:1])
    write_raw(spec, folder)
    whole = hashes(folder)
    first, last = labels(folder)[0]["file"], labels(folder)[-1]["file"]
    (folder / "raw" / last).unlink()
    kept = (folder / "raw" / first).stat().st_mtime_ns
    write_raw(spec, folder)
    assert hashes(folder) == whole
    assert (folder / "raw" / first).stat().st_mtime_ns == kept


def test_another_phantom_or_foreign_files_are_not_overwritten(tmp_path: Path) -> None:
    spec = replace(SPEC, sites=SITES[:1])
    write_raw(spec, tmp_path / "a")
    before = hashes(tmp_path / "a")
    with pytest.raises(ValueError, match="phantom of other parameters"):
        write_raw(replace(spec, subjects=5), tmp_path / "a")
    assert hashes(tmp_path / "a") == before
    write_raw(replace(spec, subjects=5), tmp_path / "a", overwrite=True)
    assert len(list((tmp_path / "a" / "raw").rglob("*.mat"))) < len(before)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="holds no phantom"):
            write_raw(spec, tmp_path / "b", overwrite=overwrite)
    assert hashes(tmp_path / "b").keys() == {"thesis.txt"}


def test_it_says_that_it_is_a_phantom(raw: Path) -> None:
    body = json.loads((raw / "phantom.json").read_text())
    assert body["phantom"] == "oct"
    assert body["parameters"]["agreement"] == 1.0
    assert body["parameters"]["test_agreement"] == 0.5
    assert [site["name"] for site in body["parameters"]["sites"]] == [s.name for s in SITES]
    assert "phantom" in (raw / "README.md").read_text()


def test_converted_like_real_data(tmp_path: Path) -> None:
    from ppi_med.data.manifest import read_manifest
    from ppi_med.data.oct.nifti import read_nifti
    from ppi_med.data.splits import read_splits

    report = make_oct_phantom(SPEC, tmp_path)
    table = {row["file"]: row for row in labels(tmp_path)}
    rows = list(read_manifest(tmp_path / "manifest.csv"))
    assert report.exit_code == 0 and len(rows) == len(table)
    plan, splits = SPEC.plan()
    assert read_splits(tmp_path / "splits.json").hash == splits.hash
    for row in rows:
        told = table[row.source_file]
        assert (row.subject, row.extra["eye"], row.visit) == (
            told["subject"],
            told["eye"],
            told["visit"],
        )
        assert row.label == int(told["label"]) and row.extra["artefact"] == told["artefact"]
        assert (row.n_slices, row.rows_px, row.columns_px) == (8, 48, 40)
        assert row.spacing_columns_mm == pytest.approx(SPEC.size.spacing_mm[0])
        mask, _ = read_nifti(tmp_path / "masks" / f"{row.volume_id}.nii.gz")
        assert int(mask.any()) == row.label
    datalist = json.loads((tmp_path / "datalist.json").read_text())
    test = datalist["test"]
    assert {item["subject"] for item in test} == set(splits.parts["test"])
    assert sum(len(datalist[part]) for part in splits.parts) == len(plan)


def test_command(tmp_path: Path) -> None:
    def call(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "data_prep/make_phantom.py", "oct", *options],
            cwd=REPOSITORY,
            env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )

    small = ["--depth", "32", "--width", "32", "--slices", "8", "--subjects", "5", "--folds", "2"]
    where = ["--output", str(tmp_path / "p"), "--sites", "site_c", "--raw-only", "--workers", "1"]
    done = call(*where, *small, "--visits", "1", "--agreement", "site_c=0.0")
    assert done.returncode == 0, done.stderr
    assert "5 raw volumes" in done.stdout
    assert all(row["artefact"] != row["label"] for row in labels(tmp_path / "p"))
    refused = call(*where, *small, "--visits", "1")
    assert refused.returncode == 2
    assert refused.stderr.startswith("make_phantom.py: ") and "Traceback" not in refused.stderr
    few = call("--output", str(tmp_path / "q"), "--subjects", "1", "--raw-only")
    assert few.returncode == 2 and "subjects" in few.stderr and "Traceback" not in few.stderr
    odd = call(*where, "--agreement", "often")
    assert odd.returncode == 2 and "agreement is 'often'" in odd.stderr
