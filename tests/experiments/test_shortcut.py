"""The shortcut experiment: its cells, its table by hand, and one tiny run of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppi_med.experiments.compare import entries
from ppi_med.experiments.records import FolderRecords
from ppi_med.experiments.run import run_experiment
from ppi_med.experiments.shortcut import Shortcut
from ppi_med.naming import TEST_AUC, VAL_AUC

ROOT = Path(__file__).resolve().parents[2]


def record(method: str, seed: int, scores: list[float], training: str = "artefact") -> Any:
    labels = [0, 1, 0, 1, 0, 1]
    pairs = [
        (a, b)
        for a, la in zip(scores, labels, strict=True)
        if la
        for b, lb in zip(scores, labels, strict=True)
        if not lb
    ]
    auc = float(np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]))
    return {
        "training": training,
        "method": method,
        "seed": seed,
        VAL_AUC: 1.0,
        TEST_AUC: auc,
        "predictions": {
            "subject": list("abcdef"),
            "volume_id": list("uvwxyz"),
            "label": labels,
            "score": scores,
        },
    }


RIGHT, WRONG = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7], [0.9, 0.1, 0.8, 0.2, 0.7, 0.3]


def test_a_gain_is_the_mean_difference_over_shared_seeds() -> None:
    plain, better = entries(
        [
            record("plain", 0, WRONG),
            record("plain", 1, RIGHT),
            record("better", 0, RIGHT),
            record("better", 1, RIGHT),
            record("better", 2, WRONG),
        ],
        TEST_AUC,
        repeats=50,
    )
    assert plain.gain is None and better.gain is not None
    assert better.values == (1.0, 1.0, 0.0)
    assert better.gain.value == pytest.approx(0.5)
    assert better.deviation == pytest.approx(np.std([1, 1, 0], ddof=1))
    assert better.gain.low <= better.gain.value <= better.gain.high


def test_equal_predictions_gain_nothing() -> None:
    _, same = entries([record("plain", 0, RIGHT), record("same", 0, RIGHT)], TEST_AUC, repeats=50)
    assert same.gain is not None
    assert (same.gain.value, same.gain.low, same.gain.high) == (0.0, 0.0, 0.0)


def test_the_table_has_a_line_a_method_and_keeps_trainings_apart() -> None:
    (table,) = Shortcut.tables(
        [
            record("plain", 0, WRONG),
            record("plain", 0, RIGHT, "clean"),
            record("better", 0, RIGHT),
        ],
        repeats=20,
    )
    lines = table.lines().splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| plain | 0.000 (n=1) |")
    assert "1.000 (n=1)" in lines[2]
    assert lines[3].startswith("| better | 1.000 (n=1) | +1.000 [+1.000, +1.000] |")


def test_cells_are_unique_and_differ_by_their_keys() -> None:
    plan = Shortcut(Path("b"), Path("d"), Path("w"), methods=("plain", "auto"), seeds=(0, 1))
    names = [cell.name for cell in plan.cells()]
    assert len(set(names)) == 8
    assert names[0] == "artefact-plain-seed0"


@pytest.mark.slow
def test_a_tiny_experiment_runs_through_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    plan = Shortcut(
        bundle=ROOT / "bundles" / "ga_ppi",
        data=tmp_path / "data",
        work=tmp_path / "work",
        methods=("plain", "ppi_wbp_shared"),
        seeds=(0,),
        subjects=24,
        max_epochs=1,
        trainings=("artefact",),
    )
    records = FolderRecords(tmp_path / "records")
    assert run_experiment(plan, records) == {}
    (table,) = plan.tables(records.done(), repeats=20)
    assert [row[0] for row in table.rows] == ["plain", "ppi_wbp_shared"]
    assert all(0 <= entry.mean <= 1 for entry in entries(records.done(), TEST_AUC, repeats=20))
