"""Splits: no subject in two parts, shares kept in every stratum, the same for the same seed."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppi_med.data.manifest import ManifestRow
from ppi_med.data.splits import PARTS, Splits, make_splits, read_splits, write_splits


def _rows(subjects: int, sites: int = 4, volumes: int = 3, seed: int = 0) -> list[ManifestRow]:
    rng = random.Random(seed)
    rows = []
    for number in range(subjects):
        site, label = f"site{number % sites}", int(rng.random() < 0.3)
        rows += [
            ManifestRow(f"s{number}_v{v}", subject=f"s{number}", site=site, label=label)
            for v in range(rng.randint(1, volumes))
        ]
    return rows


@given(
    subjects=st.integers(20, 120),
    sites=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    shares=st.sampled_from([(0.6, 0.2, 0.2), (0.7, 0.15, 0.15), (0.8, 0.2, 0.0), (1, 1, 1)]),
    folds=st.sampled_from([0, 2, 5]),
)
@settings(max_examples=60, deadline=None)
def test_properties(
    subjects: int, sites: int, seed: int, shares: tuple[float, float, float], folds: int
) -> None:
    rows = _rows(subjects, sites, seed=seed)
    splits = make_splits(rows, fractions=shares, folds=folds, seed=seed)
    everyone = [s for part in PARTS for s in splits.parts[part]]
    assert sorted(everyone) == sorted({row.subject for row in rows})  # each once
    for part, share in zip(PARTS, shares, strict=True):
        wanted = subjects * share / sum(shares)
        assert abs(len(splits.parts[part]) - wanted) <= 2
    label = {row.subject: (row.site, row.label) for row in rows}
    strata = Counter(label.values())
    for part, share in zip(PARTS, shares, strict=True):
        here = Counter(label[s] for s in splits.parts[part])
        for stratum, number in strata.items():
            assert abs(here[stratum] - number * share / sum(shares)) <= 2
    rest = sorted(s for part in PARTS[:2] for s in splits.parts[part])
    assert sorted(s for fold in splits.folds for s in fold) == (rest if folds else [])
    if folds:
        sizes = [len(fold) for fold in splits.folds]
        assert len(sizes) == folds and max(sizes) - min(sizes) <= 2


def test_the_order_of_rows_does_not_matter_and_the_seed_does() -> None:
    rows = _rows(60)
    shuffled = rows.copy()
    random.Random(1).shuffle(shuffled)
    assert make_splits(rows, seed=3).hash == make_splits(shuffled, seed=3).hash
    assert make_splits(rows, seed=3).parts != make_splits(rows, seed=4).parts


def test_known_result() -> None:
    """The deal must not change from release to release: results hang on it."""
    splits = make_splits(_rows(10, sites=2, volumes=1), seed=0)
    assert splits.parts == {
        "training": ("s1", "s2", "s4", "s5", "s6", "s7"),
        "validation": ("s0", "s3"),
        "test": ("s8", "s9"),
    }
    assert splits.folds == (("s2", "s5"), ("s0", "s3"), ("s1", "s4"), ("s6",), ("s7",))
    assert splits.hash == "0cddc1033d0d884f288a7ce3afc2403c15c9013ec7d45ee68e200e074fb9bddd"


def test_parts_and_folds_of_a_subject() -> None:
    splits = make_splits(_rows(60))
    held = splits.parts["test"][0]
    assert splits.part_of(held) == "test" == splits.part_of(held, fold=2)
    other = splits.folds[2][0]
    assert splits.part_of(other, 2) == "validation" and splits.part_of(other, 1) == "training"
    assert splits.part_of("stranger") is None is splits.part_of("stranger", 0)
    with pytest.raises(ValueError, match="expected 0 to 4"):
        splits.part_of(other, 5)


def test_rows_without_subject_or_label_take_no_part() -> None:
    rows = [*_rows(20), ManifestRow("x", label=1), ManifestRow("y", subject="z")]
    splits = make_splits(rows)
    assert splits.part_of("z") is None and splits.part_of("") is None


def test_a_subject_with_two_labels_or_sites_stays_whole() -> None:
    rows = _rows(20) + [
        ManifestRow("m1", subject="m", site="site0", label=0),
        ManifestRow("m2", subject="m", site="site1", label=1),
    ]
    splits = make_splits(rows)
    assert sum("m" in splits.parts[part] for part in PARTS) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"fractions": (0.5, 0.5)}, "three shares"),
        ({"fractions": (0.0, 0.5, 0.5)}, "first above 0"),
        ({"fractions": (0.5, -0.1, 0.6)}, "none negative"),
        ({"folds": 1}, "folds is 1"),
        ({"folds": 99}, "expected 0 or 2 to"),
        ({"stratify": ("site", "vendor")}, "stratify is 'vendor', expected some of"),
    ],
)
def test_nonsense_is_refused(options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make_splits(_rows(20), **options)


def test_too_few_subjects() -> None:
    with pytest.raises(ValueError, match="too few"):
        make_splits(_rows(2), folds=0)
    with pytest.raises(ValueError, match="nothing to split"):
        make_splits([ManifestRow("a")])


def test_written_once(tmp_path: Path) -> None:
    rows = _rows(40)
    path = write_splits(tmp_path / "splits.json", make_splits(rows))
    assert read_splits(path) == make_splits(rows)
    write_splits(path, make_splits(rows))  # the same: nothing happens
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="other splits"):
        write_splits(path, make_splits(rows, seed=9))
    assert path.read_bytes() == before
    write_splits(path, make_splits(rows, seed=9), overwrite=True)
    assert read_splits(path).seed == 9


def test_reading_checks(tmp_path: Path) -> None:
    path = write_splits(tmp_path / "splits.json", make_splits(_rows(40)))
    body = json.loads(path.read_text())
    moved = json.loads(path.read_text())
    moved["parts"]["test"].append(moved["parts"]["training"][0])
    path.write_text(json.dumps(moved))
    with pytest.raises(ValueError, match=r"splits.json: subject .* in two parts"):
        read_splits(path)
    swapped = json.loads(json.dumps(body))
    parts = swapped["parts"]
    parts["test"][0], parts["training"][0] = parts["training"][0], parts["test"][0]
    path.write_text(json.dumps(swapped))
    with pytest.raises(ValueError, match="folds must hold"):
        read_splits(path)
    path.write_text(json.dumps(body | {"seed": 77}))
    with pytest.raises(ValueError, match="does not fit its hash"):
        read_splits(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="not a splits file"):
        read_splits(path)
    with pytest.raises(FileNotFoundError):
        read_splits(tmp_path / "gone.json")


def test_splits_check_themselves() -> None:
    parts = {"training": ("a",), "validation": ("b",), "test": ()}
    Splits(parts, (("a",), ("b",)), 0, (0.5, 0.5, 0.0))
    with pytest.raises(ValueError, match="two folds"):
        Splits(parts, (("a", "b"), ("b",)), 0, (0.5, 0.5, 0.0))
    with pytest.raises(ValueError, match="The parts are"):
        Splits({"training": ("a",)}, (), 0, (1.0, 0.0, 0.0))
