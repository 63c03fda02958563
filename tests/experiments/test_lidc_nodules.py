"""The LIDC benchmark: its cells, the choice of the best, its table by hand, one tiny run."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ppi_med.errors import UsageError
from ppi_med.experiments.lidc_nodules import ENTRIES, LidcNodules, _begun, _measured, best_ppi
from ppi_med.experiments.records import FolderRecords
from ppi_med.experiments.run import run_experiment
from tests.data.lidc.folders import write_nodules

ROOT = Path(__file__).resolve().parents[2]


def record(entry: str, fold: int, seed: int, noise: float, **more: Any) -> dict[str, Any]:
    """Scores of 24 patients of a fold: the label, and noise that is its seed's own."""
    labels = np.arange(24) % 2
    drawn = np.random.default_rng([fold, seed]).normal(0, 1, 24)
    scores = np.round(1 / (1 + np.exp(-(2 * labels - 1 + noise * drawn))), 5)
    return {
        "entry": entry,
        "fold": fold,
        "seed": seed,
        "val/auc": 0.8,
        "test/auc": float(roc_auc_score(labels, scores)),
        "test/sensitivity": 0.7,
        "test/specificity": 0.6,
        "test/ece": 0.1,
        "seconds": 60.0,
        "predictions": {
            "volume_id": " ".join(f"f{fold}n{k:02}" for k in range(24)),
            "subject": " ".join(f"f{fold}p{k // 2}" for k in range(24)),
            "label": "".join(map(str, labels)),
            "score": " ".join(map(str, scores)),
        },
        **more,
    }


def rows(records: list[dict[str, Any]], repeats: int) -> list[dict[str, str]]:
    """The table as texts by column."""
    table = LidcNodules.tables(records, repeats)[0]
    return [dict(zip(table.columns, row, strict=True)) for row in table.texts()]


def numbers(text: str) -> list[float]:
    """A value and the ends of its interval."""
    return [float(part.strip("[],")) for part in text.split()]


def test_the_auc_is_the_mean_over_folds_and_seeds() -> None:
    found = [record("plain", fold, seed, 2.0) for fold in range(3) for seed in (0, 1)]
    (row,) = rows(found, repeats=60)
    value, low, high = numbers(row["AUC"])
    assert value == pytest.approx(np.mean([r["test/auc"] for r in found]), abs=6e-4)
    assert low < value < high
    assert (row["runs"], row["difference to plain"], row["minutes a run"]) == ("3 x 2", "", "1.0")
    assert numbers(row["by fold"])[1] == pytest.approx(
        np.mean([r["test/auc"] for r in found if r["fold"] == 1]), abs=6e-4
    )


def test_the_gain_is_paired_by_fold_and_seed() -> None:
    plain = [record("plain", fold, seed, 3.0) for fold in range(2) for seed in (0, 1)]
    better = [record("ppi_wbp_box", fold, 0, 1.0) for fold in range(2)]
    first, second = rows([*better, *plain], repeats=200)
    assert (first["method"], second["method"]) == ("plain", "ppi_wbp_box")
    own = np.mean([r["test/auc"] for r in better])
    same_seed = np.mean([r["test/auc"] for r in plain if r["seed"] == 0])
    value, low, _ = numbers(second["difference to plain"])
    assert value == pytest.approx(own - same_seed, abs=6e-5) and low > 0
    assert second["DeLong's p"] == "<0.001" or float(second["DeLong's p"]) < 0.05


def test_a_folds_own_scale_does_not_move_the_p_value() -> None:
    """Scores of another fold's network are on another scale: AUC and test look inside folds."""
    plain = [record("plain", fold, 0, 3.0) for fold in range(2)]
    better = [record("ppi_wbp_box", fold, 0, 1.5) for fold in range(2)]
    (_, before) = rows([*plain, *better], repeats=20)
    scores = better[1]["predictions"]["score"].split()
    better[1]["predictions"]["score"] = " ".join(f"{float(s) / 100:.7f}" for s in scores)
    (_, after) = rows([*plain, *better], repeats=20)
    assert after == before and before["difference to plain"]


def test_equal_predictions_gain_nothing() -> None:
    found = [record(entry, 0, 0, 2.0) for entry in ("plain", "lotenet")]
    gain = rows(found, repeats=20)[1]["difference to plain"]
    assert gain == "+0.0000 [+0.0000, +0.0000]"


def test_an_unfinished_entry_is_not_compared() -> None:
    found = [record("plain", 0, 0, 2.0), record("plain", 1, 0, 2.0), record("densenet", 0, 0, 1.0)]
    assert rows(found, repeats=20)[1]["difference to plain"] == ""


def test_a_p_value_is_never_shown_as_nought() -> None:
    plain = [record("plain", fold, 0, 6.0) for fold in range(4)]
    better = [record("ppi_wbp_box", fold, 0, 0.1) for fold in range(4)]
    row = rows([*plain, *better], repeats=20)[1]
    assert row["DeLong's p"] == "<0.001"


def test_runs_that_were_stopped_between_have_no_time() -> None:
    found = [record("plain", fold, 0, 2.0) for fold in range(2)]
    del found[0]["seconds"]
    (row,) = rows(found, repeats=20)
    assert row["minutes a run"] == "1.0"
    del found[1]["seconds"]
    assert rows(found, repeats=20)[0]["minutes a run"] == ""


def no_rule(folder: Path, overrides: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    raise ValueError("no rule for\nthis operation")


def test_masks_that_fail_do_not_cost_the_run(tmp_path: Path) -> None:
    assert _measured(no_rule, tmp_path, {}) == ({}, "ValueError: no rule for this operation")
    assert _measured(None, tmp_path, {}) == ({}, "")


def test_the_best_is_chosen_by_validation_alone() -> None:
    found = [
        record("plain", 0, 0, 1.0, **{"val/auc": 0.99}),
        record("ppi_wbp_soft", 0, 0, 1.0, **{"val/auc": 0.80, "test/auc": 1.0}),
        record("ppi_wbp_hard", 0, 0, 1.0, **{"val/auc": 0.85, "test/auc": 0.0}),
        record("ppi_wbp_soft", 0, 1, 1.0, **{"val/auc": 0.95}),
    ]
    assert best_ppi(found, seed=0) == "ppi_wbp_hard"
    assert best_ppi(found[:1], seed=0) is None
    plan = LidcNodules(Path("b"), Path("d"), Path("w"))
    assert len(plan.cells()) == 5 * len(ENTRIES)
    further = plan.further(found)
    assert {c.keys["entry"] for c in further} == {"plain", "ppi_wbp_hard"}
    assert len(further) == 2 * 5 * 2
    names = [cell.name for cell in [*plan.cells(), *further]]
    assert len(set(names)) == len(names)


def test_unknown_methods_are_named() -> None:
    with pytest.raises(UsageError, match="'ppi_wbp'"):
        LidcNodules(Path("b"), Path("d"), Path("w"), entries=("plain", "ppi_wbp"))


def test_a_run_that_was_stopped_goes_on_where_it_was_with_the_same_settings(
    tmp_path: Path,
) -> None:
    plan = LidcNodules(Path("b"), Path("d"), tmp_path)
    config = tmp_path / "train.json"
    config.write_text("{}")
    cell, other = plan.cells()[:2]
    assert not _begun(tmp_path, config, cell)
    assert not _begun(tmp_path, config, cell)  # no checkpoint yet
    (tmp_path / "checkpoints").mkdir()
    assert _begun(tmp_path, config, cell)
    assert not _begun(tmp_path, config, other)
    assert not _begun(tmp_path, config, cell)
    config.write_text('{"lr": 1}')
    assert not _begun(tmp_path, config, cell)


def same_dice(folder: Path, overrides: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    assert overrides["seed"] in (0, 1) and (folder / "model.pt").is_file()
    with (folder / "test_predictions.csv").open() as file:
        names = [row["volume_id"] for row in csv.DictReader(file)]
    return {
        "union/centred/floor": dict.fromkeys(names, 0.5),
        "union/centred/wbp": dict.fromkeys(names, 0.625),
    }


@pytest.mark.slow
def test_a_tiny_benchmark_runs_through_the_bundle_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    plan = partial(
        LidcNodules,
        bundle=ROOT / "bundles" / "lidc_ppi",
        data=write_nodules(tmp_path / "data"),
        work=tmp_path / "work",
        folds=(0,),
        seeds=(0, 1),
        max_epochs=1,
        overrides={
            "device": "$torch.device('cpu')",
            "image_size": 16,
            "batch_size": 8,
        },
    )
    records = FolderRecords(tmp_path / "records")
    assert run_experiment(plan(entries=("plain",), dice=same_dice), records) == {}
    assert [r["seed"] for r in records.done()] == [0, 1]
    kept = {path: path.read_bytes() for path in records.folder.glob("*.json")}
    assert run_experiment(plan(entries=("plain", "ppi_wbp_shared")), records) == {}
    assert all(path.read_bytes() == content for path, content in kept.items())
    found = records.done()
    assert len(found) == 4
    assert all("/" not in r["command"].split("--dataset_dir ")[1].split()[0] for r in found)
    with pytest.raises(UsageError, match="of other data or settings"):
        run_experiment(plan(entries=("plain",), max_epochs=2), records)
    assert [row["method"] for row in rows(found, repeats=20)] == ["plain", "ppi_wbp_shared"]
    row = rows(found, repeats=20)[1]
    assert row["runs"] == "1 x 2" and row["difference to plain"]
    _, masks = LidcNodules.tables(found, repeats=20)
    (line,) = masks.texts()
    assert line[:2] == ["plain", "0.625 [0.625, 0.625]"]
    assert line[2:] == ["+0.125 [+0.125, +0.125]", ""]
