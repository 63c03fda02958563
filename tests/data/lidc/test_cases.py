"""The cases of both kinds of data set: parts, folds, sites."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ppi_med.data.lidc.cases import case_hashes, case_splits, load_cases, require_cases
from ppi_med.data.lidc.extract import extract_patches
from ppi_med.data.splits import VALIDATION_SHARE, read_splits, write_splits
from ppi_med.errors import MissingFileError, UsageError

from .database import make_database, write_scans
from .folders import write_nodules

PARTS = ("training", "validation", "test")


@pytest.fixture(scope="module")
def nodules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nodules(tmp_path_factory.mktemp("nodules"))


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("zarr")
    folder = tmp_path_factory.mktemp("patches")
    base = make_database(folder / "base.sqlite")
    tree = write_scans(folder / "dicom")
    options = {"fractions": (0.5, 0.5, 0.0), "folds": 2, "scheduler": "serial"}
    extract_patches(tree, folder / "out", database=base, **options)
    return folder / "out"


def subjects(folder: Path, part: str, **choice: object) -> set[str]:
    return {case["subject"] for case in load_cases(folder, part, **choice)}


@pytest.mark.parametrize("choice", [{}, {"fold": 1}, {"test_fold": 3}])
def test_parts_share_no_patient_and_leave_none_out(nodules: Path, choice: dict) -> None:
    parts = [subjects(nodules, part, **choice) for part in PARTS]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 40


def test_each_patient_is_tested_in_one_fold(nodules: Path) -> None:
    tested = [subjects(nodules, "test", test_fold=k) for k in range(5)]
    assert sum(map(len, tested)) == len(set.union(*tested)) == 40
    validation = subjects(nodules, "validation", test_fold=0)
    assert len(validation) == round(VALIDATION_SHARE * (40 - len(tested[0])))
    assert validation == subjects(nodules, "validation", test_fold=0)


def test_a_test_part_of_the_splits_stays_out(nodules: Path, tmp_path: Path) -> None:
    """As in a datalist: one meaning of test_fold."""
    folder = tmp_path / "nodules"
    shutil.copytree(nodules, folder)
    write_splits(folder / "splits.json", case_splits(nodules))
    kept = set(read_splits(folder / "splits.json").parts["test"])
    assert kept
    for fold in range(5):
        parts = [subjects(folder, part, test_fold=fold) for part in PARTS]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 40 - len(kept)
        assert not kept & set.union(*parts)


def test_sites(nodules: Path) -> None:
    assert {c["site"] for c in load_cases(nodules, "training", sites="A")} == {"A"}
    assert {c["site"] for c in load_cases(nodules, "test", exclude_sites=["A"])} == {"B"}
    with pytest.raises(UsageError, match=r"no site 'Z'"):
        load_cases(nodules, "training", sites=["Z"])


def test_nothing_is_written_beside_the_nodules(nodules: Path) -> None:
    before = sorted(nodules.iterdir())
    hashes = case_hashes(nodules, 0)
    assert None not in hashes.values()
    assert hashes["split_hash"] != case_hashes(nodules)["split_hash"]
    assert sorted(nodules.iterdir()) == before


@pytest.mark.parametrize(
    ("part", "choice", "message"),
    [
        ("tset", {}, r"part is 'tset'"),
        ("test", {"fold": 0, "test_fold": 0}, "expected one of them"),
        ("test", {"test_fold": 7}, "fold is 7"),
    ],
)
def test_wrong_choices(nodules: Path, part: str, choice: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_cases(nodules, part, **choice)


def test_a_folder_without_data_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"ppi-med make-phantom lidc --output"):
        require_cases(tmp_path)
    with pytest.raises(MissingFileError, match=r"ppi-med make-phantom lidc --output"):
        load_cases(tmp_path, "test")


def test_patches_in_zarr(patches: Path) -> None:
    # The outlines of the cluster of five have no label: in no part.
    assert len(load_cases(patches, "all")) == 6
    found = [load_cases(patches, part) for part in PARTS[:2]]
    assert {case["subject"] for case in found[0]} != {case["subject"] for case in found[1]}
    assert [len(load_cases(patches, "test", test_fold=k)) for k in (0, 1)] in ([2, 3], [3, 2])
    assert case_splits(patches).parts["test"] == ()
    with pytest.raises(UsageError, match="nothing left in test"):
        load_cases(patches, "test")
