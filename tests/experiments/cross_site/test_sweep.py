"""A tiny sweep through the bundle: gone on with, beside another, rebuilt from its database."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ppi_med.evaluation.predictions import Predictions
from ppi_med.experiments import sweep_records as records
from ppi_med.experiments.cross_site import make_plan, start
from ppi_med.experiments.selection import InSiteValidation
from ppi_med.experiments.sweep_tables import rebuild
from ppi_med.naming import OTHER_SITES, SAME_SITE, SELECTED
from ppi_med.tracking.location import locate
from ppi_med.tracking.notes import NOTE
from tests.bundles.tiny import ROOT, SMALL
from tests.experiments.cross_site.tiny import children_of, request_for, text_of
from tests.tracking.stores import client_of, mlflow_at, new_store

pytestmark = pytest.mark.slow


def test_runs_are_ordinary_and_complete(swept: Path) -> None:
    client, (sweep,), runs = children_of(swept)
    assert len(runs) == 4 and all(records.is_complete(run) for run in runs)
    for run in runs:
        tags, metrics = run.data.tags, run.data.metrics
        assert tags["mlflow.parentRunId"] == sweep.run_id
        assert {"bundle", "method", "seed", "data_hash", "split_hash", "git_commit"} <= set(tags)
        assert tags["train_site"] in ("site_a", "site_b") and tags["test_site"] == "site_a+site_b"
        assert 0 <= metrics[SELECTED] <= 1
        assert {"val/auc", "test/auc", "test/auc/site_a", "test/auc/site_b"} <= set(metrics)
        here, there = (
            ("site_a", "site_b") if tags["train_site"] == "site_a" else ("site_b", "site_a")
        )
        assert metrics[SAME_SITE] == metrics[f"test/auc/{here}"]
        assert metrics[OTHER_SITES] == metrics[f"test/auc/{there}"]
        names = {d.dataset.name for d in run.inputs.dataset_inputs}
        assert names == {"train", "val", "test", "test_predictions"}
        assert len(run.outputs.model_outputs) == 1
    parent = client.get_run(sweep.run_id)
    assert parent.info.status == "FINISHED"
    kept = {item.path for item in client.list_artifacts(sweep.run_id, "tables")}
    assert {"tables/heat_map.png", "tables/matrix.csv", "tables/tables.md"} <= kept
    assert set(parent.data.metrics) >= {"other_sites/plain", "same_site/ppi_wbp_shared"}
    assert parent.data.tags["sweep.selection"] == "in-site"
    assert "over site_a, site_b: 4 finished trainings, methods plain" in parent.data.tags[NOTE]
    assert parent.data.tags["mlflow.source.name"] == "ppi-med cross-site"


def test_a_table_of_all_runs_that_mlflow_shows(swept: Path) -> None:
    client, (sweep,), runs = children_of(swept)
    with mlflow_at(locate(swept / "store")):
        table = client.load_table(sweep.experiment_id, "tables/all_runs.json")
    assert sorted(table["run"]) == sorted(run.info.run_name for run in runs)
    by_name = {run.info.run_name: run for run in runs}
    for row in table.to_dict("records"):
        run = by_name[row["run"]]
        assert (row["method"], row["train_site"]) == (
            run.data.tags["method"],
            run.data.tags["train_site"],
        )
        assert float(row["test/auc/site_b"]) == round(run.data.metrics["test/auc/site_b"], 4)
        assert "site" in run.data.tags[NOTE] and "AUC on held-out" in run.data.tags[NOTE]
        assert "train_sites" not in run.data.tags


def test_the_recorded_command_gives_the_same_predictions(
    swept: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    _, _, runs = children_of(swept)
    run = next(r for r in runs if r.data.tags["sweep.cell"] == "site_b-ppi_wbp_shared-seed0")
    words = shlex.split(run.data.tags["command"])
    assert words[:4] == ["python", "-m", "monai.bundle", "run"]
    places = {"output_dir": tmp_path / "run", "ckpt_dir": tmp_path, "tracking_uri": "none"}
    further = [w for key, value in places.items() for w in (f"--{key}", str(value))]
    done = subprocess.run(
        [sys.executable, *words[1:], *further], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    again = Predictions.read(tmp_path / "run" / "test_predictions.csv")
    kept = records.as_record(run).predictions
    assert (again.volume_id == kept.volume_id).all()
    assert again.score == pytest.approx(kept.score, rel=1e-5)
    assert json.loads((tmp_path / "run" / "test.json").read_text())["cases"] == len(kept)


def test_started_again_nothing_is_run_twice_and_a_method_can_be_added(
    swept: Path, phantom: Path, tmp_path: Path
) -> None:
    shutil.copytree(swept, tmp_path / "copy")
    folder = tmp_path / "copy"
    before = text_of(folder)
    start(request_for(phantom, folder))
    assert text_of(folder) == before
    result = start(request_for(phantom, folder, methods=("plain", "random_mask")))
    assert len(result.records) == 6 and "random_mask" in text_of(folder)
    _, sweeps, runs = children_of(folder)
    assert len(sweeps) == 1 and len(runs) == 6


def test_two_sweeps_do_not_mix(swept: Path, phantom: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(swept, folder)
    other = {**SMALL, "max_epochs": 1, "batch_size": 3}
    changed = request_for(phantom, folder, overrides=other, methods=("plain",))
    assert len(start(changed).records) == 2
    named = start(request_for(phantom, folder, name="another", methods=("plain",)))
    assert len(named.records) == 2
    _, sweeps, _ = children_of(folder)
    assert [one.name for one in sweeps].count("another") == 1 and len(sweeps) == 3
    client = client_of(locate(folder / "store"))
    assert [len(records.finished(client, one)) for one in sweeps] == [4, 2, 2]


def test_tables_from_a_copied_database_alone(swept: Path, tmp_path: Path) -> None:
    """Neither data, nor checkpoints, nor artifacts are there: only the database's file."""
    copied = tmp_path / "elsewhere.db"
    shutil.copy(swept / "store" / "mlruns.db", copied)
    location = locate(tmp_path, f"sqlite:///{copied}")
    written = rebuild(location, tmp_path / "out", InSiteValidation())
    (whole,) = [path for path in written if path.name == "tables.md"]
    assert whole.read_text() == text_of(swept)
    for path in written:
        original = swept / "tables" / path.name
        if path.suffix != ".png":
            assert path.read_bytes() == original.read_bytes()
    assert (whole.parent / "heat_map.png").is_file()


def test_cross_validation(phantom: Path, tmp_path: Path) -> None:
    new_store(tmp_path / "store")
    request = request_for(phantom, tmp_path, kind="cross_validate", folds=3, methods=("plain",))
    plan, _ = make_plan(request)
    assert [cell.name for cell in plan.cells()] == [
        "all-plain-fold0-seed0",
        "all-plain-fold1-seed0",
        "all-plain-fold2-seed0",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        result = start(request)
    assert result.failed == {}, result.failed
    cases = [set(r.predictions.subject.tolist()) for r in result.records]
    assert len(set().union(*cases)) == sum(map(len, cases))
    assert "mean ± SD" in text_of(tmp_path)
