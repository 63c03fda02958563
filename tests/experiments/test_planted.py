from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ppi_med.experiments import planted
from ppi_med.experiments.planted import AGREEMENTS, KINDS, NONE, Planted

PATIENTS, EACH = 150, 2


@pytest.fixture(autouse=True)
def nodules(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    count = PATIENTS * EACH
    pixels = rng.uniform(0, 0.9, (count, 64, 64)).astype(np.float32)
    label = rng.integers(0, 2, count)
    patient = np.repeat(np.arange(PATIENTS), EACH)
    monkeypatch.setattr(planted, "_nodules", lambda folder: (pixels, label, patient))


def test_cells_of_a_seed_come_first() -> None:
    cells = Planted(Path("nowhere")).cells()
    assert len(cells) == 3 * (1 + len(KINDS) * len(AGREEMENTS))
    assert [cell.keys["seed"] for cell in cells] == sorted(cell.keys["seed"] for cell in cells)
    assert cells[0].keys["kind"] == NONE


@pytest.mark.parametrize("kind", KINDS)
def test_the_mark_goes_with_the_label_but_in_the_test(kind: str) -> None:
    clean = planted._parts(Path("nowhere"), NONE, 1.0, 0)
    parts = planted._parts(Path("nowhere"), kind, 1.0, 0)
    marked = [(a.image != b.image).flatten(1).any(1) for a, b in zip(parts, clean, strict=True)]
    for part, has in zip(parts[:2], marked[:2], strict=True):
        assert (has == (part.label == 1)).all()
    agrees = (marked[2] == (parts[2].label == 1)).double().mean()
    assert 0.3 < agrees < 0.7


def test_parts_share_no_patient() -> None:
    patients = [
        set(part.patient.tolist())  # type: ignore[union-attr]
        for part in planted._parts(Path("nowhere"), NONE, 1.0, 1)
    ]
    assert not (patients[0] & patients[1] | patients[0] & patients[2] | patients[1] & patients[2])


def test_a_cell_and_its_table() -> None:
    experiment = Planted(Path("nowhere"), kinds=("anywhere",), agreements=("1.0",), seeds=(0,))
    records = [{**experiment.run(cell), **cell.keys} for cell in experiment.cells()]
    none, marked = records
    assert (none["found"], none["shortcut"]) == ("none", False)
    assert none["plain"] == none["auto"] == none["ceiling"]
    assert (marked["found"], marked["shortcut"]) == ("mark", True)
    (table,) = Planted.tables(records)
    assert [row[:4] for row in table.rows] == [
        ("anywhere", "1.0", "1 of 1", "mark"),
        ("none", "none", "0 of 1", ""),
    ]
