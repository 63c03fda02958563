"""All handlers as a bundle names them: JSON alone, run twice by MONAI."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.tracking.stores import all_runs, history, only_run

CONFIG = {
    "imports": ["$import monai", "$import torch", "$import json"],
    "output_dir": "out",
    "mlflow": "default",
    "max_epochs": 2,
    "items": "$json.load(open('items.json'))",
    "network": "$torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 1))",
    "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()", "lr": 0.01},
    "tracker": {
        "_target_": "ppi_med.tracking.create_tracker",
        "tracking": "@mlflow",
        "directory": "@output_dir",
        "root": "store",
        "experiment": "tiny",
        "tags": {"bundle": "tiny", "method": "plain", "mask": None, "seed": 1},
        "system_metrics": False,
    },
    "typed": {"_target_": "EnsureTyped", "keys": ["image", "label"], "dtype": "$torch.float32"},
    "flip": {"_target_": "RandFlipd", "keys": "image", "prob": 0.5},
    "train": {
        "dataset": {
            "_target_": "Dataset",
            "data": "@items",
            "transform": "$monai.transforms.Compose([@typed, @flip])",
        },
        "dataloader": {
            "_target_": "ppi_med.training.ExactDataLoader",
            "dataset": "@train#dataset",
            "batch_size": 4,
            "seed": 1,
        },
        "trainer": {
            "_target_": "SupervisedTrainer",
            "device": "cpu",
            "max_epochs": "@max_epochs",
            "train_data_loader": "@train#dataloader",
            "network": "@network",
            "optimizer": "@optimizer",
            "loss_function": "$torch.nn.BCEWithLogitsLoss()",
            "train_handlers": "@train#handlers",
        },
        "handlers": [
            {"_target_": "ppi_med.handlers.ResumeHandler", "directory": "$@output_dir + '/resume'"},
            {
                "_target_": "ValidationHandler",
                "interval": 1,
                "validator": "@validate#evaluator",
            },
            {
                "_target_": "ppi_med.handlers.EarlyStop",
                "validator": "@validate#evaluator",
                "patience": 9,
            },
            {
                "_target_": "ppi_med.handlers.TrackingHandler",
                "tracker": "@tracker",
                "datasets": {"train": "@items"},
            },
            {
                "_target_": "ppi_med.handlers.RecordModel",
                "tracker": "@tracker",
                "network": "@network",
                "input_shape": [1, 6, 6],
                "weights": "$@output_dir + '/model.pt'",
                "registered_name": "tiny",
            },
        ],
    },
    "validate": {
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": {"_target_": "Dataset", "data": "@items", "transform": "@typed"},
            "batch_size": 4,
        },
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "cpu",
            "val_data_loader": "@validate#dataloader",
            "network": "@network",
            "key_val_metric": {"val/auc": {"_target_": "ppi_med.handlers.AUC"}},
            "val_handlers": "@validate#handlers",
        },
        "handlers": [
            {
                "_target_": "ppi_med.handlers.BestCheckpoint",
                "network": "@network",
                "path": "$@output_dir + '/model.pt'",
            },
            {
                "_target_": "ppi_med.handlers.PredictionsHandler",
                "path": "$@output_dir + '/predictions.csv'",
                "tracker": "@tracker",
            },
            {
                "_target_": "ppi_med.handlers.PicturesHandler",
                "directory": "$@output_dir + '/pictures'",
                "network": "@network",
                "tracker": "@tracker",
                "method": "$lambda network, image, target: image",
            },
        ],
    },
    "initialize": ["$monai.utils.set_determinism(seed=1)"],
    "run": ["$@train#trainer.run()"],
}


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """The working folder of a bundle."""
    rng = np.random.default_rng(0)
    items = [
        {
            "image": (rng.normal(size=(1, 6, 6)) + i % 2).tolist(),
            "label": [i % 2],
            "volume_id": f"v{i}",
            "subject": f"s{i}",
            "site": "A",
        }
        for i in range(8)
    ]
    (tmp_path / "items.json").write_text(json.dumps(items))
    (tmp_path / "train.json").write_text(json.dumps(CONFIG))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore")
def test_a_bundle_trains_tracks_and_goes_on(location, bundle):
    from monai.bundle import run

    for epochs in (2, 3):
        run(config_file="train.json", logging_file=False, max_epochs=epochs)
    client, found = only_run(location)
    assert [step for step, _ in history(client, found, "val/auc")] == [1, 2, 3]
    assert found.info.status == "FINISHED"
    assert found.data.params["max_epochs"] == "2"
    assert found.data.tags["resumed.max_epochs"] == "3"
    config = json.loads((bundle / "out" / "resolved_config.json").read_text())
    assert config["train"]["handlers"][0]["directory"] == "out/resume"
    assert found.data.tags["bundle"] == "tiny" and "mask" not in found.data.tags
    artifacts = {a.path for a in client.list_artifacts(found.info.run_id)}
    assert artifacts == {"pictures", "predictions", "resolved_config.json"}
    # Registered after each of the two trainings.
    assert len(client.search_model_versions("name='tiny'")) == 2
    names = {path.name for path in (bundle / "out").iterdir()}
    assert {"model.pt", "model.json", "predictions.csv", "pictures", "resume"} <= names


@pytest.mark.filterwarnings("ignore")
def test_the_same_bundle_without_tracking(location, bundle):
    from monai.bundle import run

    run(config_file="train.json", logging_file=False, mlflow="none")
    assert all_runs(location) == []
    assert (bundle / "out" / "model.pt").exists()
    assert not (bundle / "out" / "mlflow_run.json").exists()
