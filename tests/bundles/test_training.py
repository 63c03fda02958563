"""The bundle trains, evaluates and records, in this process and on a tiny phantom."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch

from ppi_med import naming
from ppi_med.bundle_tools.preflight import root_cause
from tests.bundles.tiny import run_bundle, settings
from tests.tracking.stores import all_runs, client_of, history, new_store


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory):
    """A training of two epochs, recorded; its folder and its store."""
    folder = tmp_path_factory.mktemp("trained")
    location = new_store(folder / "store")
    overrides = settings(phantom, folder, tracking_uri=location.uri, register_model="tiny_ga")
    run_bundle("train.json", overrides)
    return folder, location


def test_what_a_training_leaves(trained) -> None:
    folder, _ = trained
    best = json.loads((folder / "run" / "model.json").read_text())
    assert best["metric"] == "val/auc" and 0 <= best["value"] <= 1 and best["epoch"] in (1, 2)
    assert best["trained"]["method"] == "ppi_wbp_shared"
    for name in ("model.pt", "model.json"):
        assert (folder / "models" / name).read_bytes() == (folder / "run" / name).read_bytes()
    summary = json.loads((folder / "run" / "test.json").read_text())
    assert summary["cases"] == 5 and 0 <= summary["test/auc"] <= 1
    with (folder / "run" / "test_predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    pictures = {path.name for path in (folder / "run" / "pictures").glob("*.png")}
    assert "roc.png" in pictures
    # Two of each class, each with its slices and their weights.
    for kind in ("case", "weights"):
        drawn = {row["label"] for row in rows if f"{kind}_{row['volume_id']}.png" in pictures}
        assert drawn == {"0", "1"}
    assert len(pictures) == 1 + 2 * 4


def test_the_run_in_mlflow(trained, phantom: Path) -> None:
    from ppi_med.data.manifest import data_hash, read_manifest
    from ppi_med.data.splits import read_splits

    folder, location = trained
    client = client_of(location)
    (run,) = all_runs(location)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "ppi_wbp_shared_seed0"
    for name in (naming.LOSS_CLS, naming.LOSS_CON, naming.LOSS_AD, naming.VAL_AUC):
        assert [step for step, _ in history(client, run, name)] == [1, 2], name
        assert all(math.isfinite(value) for _, value in history(client, run, name))
    assert len(history(client, run, naming.TEST_AUC)) == 1
    tags = run.data.tags
    assert tags["data_hash"] == data_hash(read_manifest(phantom / "manifest.csv"))
    assert tags["split_hash"] == read_splits(phantom / "splits.json").hash
    assert (tags["bundle"], tags["method"], tags["mask"]) == (
        "ga_ppi", "ppi_wbp_shared", "adaptive",
    )  # fmt: skip
    assert (tags["train_site"], tags["test_site"], tags["seed"]) == ("all", "all", "0")
    assert "fold" not in tags
    params = run.data.params
    assert params["max_epochs"] == "2" and params["cnn_lr"] == "0.003"
    assert params["method"] == "ppi_wbp_shared" and params["train_site"] == "all"
    assert params["image_size"] == "[32, 40]" and params["network_def.backbone"] == "small_cnn"
    assert len(params) <= 40
    note = tags["mlflow.note.content"]
    assert note.startswith(
        "The bundle ga_ppi: ppi_wbp_shared, trained on all sites, at most 2 epochs, seed 0. AUC on"
    )
    assert "Picture: artifact `pictures/roc.png`." in note
    assert f"get-artifact?run_uuid={run.info.run_id}&path=pictures%2Froc.png" in note
    assert tags["mlflow.source.name"] == tags["command"]
    assert tags["mlflow.source.git.commit"] == tags.get("git_commit")
    (version,) = client.search_model_versions("name = 'tiny_ga'")
    assert version.tags["method"] == "ppi_wbp_shared" and version.description == note
    assert version.tags["best/val/auc"] == f"{run.data.metrics['best/val/auc']:.4f}"
    parts = {one.dataset.name for one in run.inputs.dataset_inputs}
    assert parts == {"train", "val", "test", "test_predictions"}
    artifacts = {one.path for one in client.list_artifacts(run.info.run_id)}
    assert {"resolved_config.json", "predictions", "pictures"} <= artifacts


def test_the_model_in_mlflow_answers_like_the_network(trained) -> None:
    import mlflow

    from ppi_med.networks import MultiViewClassifier

    folder, location = trained
    (version,) = client_of(location).search_model_versions("name = 'tiny_ga'")
    model = mlflow.pyfunc.load_model(version.source)
    network = MultiViewClassifier(
        backbone_options={"widths": (4, 8), "downsampling": "stride"}
    ).eval()
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    volume = torch.randn(2, 1, 5, 32, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = network(volume)
    torch.testing.assert_close(torch.tensor(model.predict(volume.numpy())), wanted)


def test_evaluation_of_what_was_trained(trained, phantom: Path, tmp_path: Path) -> None:
    folder, _ = trained
    location = new_store(tmp_path / "store")
    overrides = settings(phantom, folder, tracking_uri=location.uri)
    overrides["output_dir"] = str(tmp_path / "evaluated")
    run_bundle(["train.json", "evaluate.json"], overrides)
    once = json.loads((folder / "run" / "test.json").read_text())
    again = json.loads((tmp_path / "evaluated" / "test.json").read_text())
    assert again == once
    (run,) = all_runs(location)
    assert run.info.status == "FINISHED"
    assert run.data.tags["method"] == "ppi_wbp_shared"
    assert run.data.metrics["test/auc"] == once["test/auc"]


def test_evaluation_of_one_site(trained, phantom: Path, tmp_path: Path) -> None:
    folder, _ = trained
    overrides = settings(phantom, folder, test_sites="site_b", part="validation")
    overrides["output_dir"] = str(tmp_path)
    run_bundle(["train.json", "evaluate.json"], overrides)
    with (tmp_path / "test_predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and {row["site"] for row in rows} == {"site_b"}


def test_evaluation_of_patients_that_were_trained_on(trained, phantom: Path) -> None:
    folder, _ = trained
    with pytest.raises(RuntimeError) as caught:
        run_bundle(["train.json", "evaluate.json"], settings(phantom, folder, test_fold=0))
    assert "Leave --test_fold and --fold out" in str(root_cause(caught.value))


def test_resuming_a_finished_training_changes_nothing(trained, phantom: Path) -> None:
    folder, location = trained
    before = (folder / "models" / "model.pt").read_bytes()
    summary = (folder / "run" / "test.json").read_text()
    run_bundle("train.json", settings(phantom, folder, tracking_uri=location.uri, resume=True))
    assert (folder / "models" / "model.pt").read_bytes() == before
    assert (folder / "run" / "test.json").read_text() == summary
    (run,) = all_runs(location)
    assert run.info.status == "FINISHED"


@pytest.mark.parametrize("method", ["plain", "random_exchange", "ppi_wbp_box"])
def test_other_methods_by_one_key(phantom: Path, tmp_path: Path, method: str) -> None:
    overrides = settings(phantom, tmp_path, method=method, max_epochs=1, sites=["site_b"], fold=0)
    run_bundle("train.json", overrides)
    trained = json.loads((tmp_path / "models" / "model.json").read_text())["trained"]
    assert (trained["method"], trained["train_site"], trained["fold"]) == (method, "site_b", 0)


@pytest.mark.slow
def test_one_step_with_the_papers_network(phantom: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    overrides = settings(phantom, tmp_path, image_size=[80, 80], num_slices=2, num_workers=0)
    del overrides["network_def#backbone_options"]
    overrides |= {"batch_size": 2, "max_epochs": 1, "train#trainer#epoch_length": 1}
    # Two images are too few for a first step through the map, and are refused: not so here.
    overrides["method_options#gradient_limit"] = 0
    run_bundle(["train.json", "paper.json"], overrides)
    names = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert any("Mixed_7c" in name for name in names)
    assert (tmp_path / "run" / "test.json").is_file()
