"""PPI on a bundle that knows nothing of it: one more entry among the handlers, and it trains."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ppi_med.naming import LOSS_AD, LOSS_CLS, LOSS_CON

ENTRY = {"_target_": "ppi_med.handlers.PPIHandler"}

# In the manner of the model zoo's classifiers, of MONAI's own components only. The images are of
# class 1 where a square is in the middle.
STOCK: dict[str, Any] = {
    "imports": ["$import torch", "$import monai"],
    "bundle_root": ".",
    "ckpt_dir": "$@bundle_root + '/models'",
    "dataset_dir": ".",
    "device": "$torch.device('cpu')",
    "max_epochs": 2,
    "val_interval": 1,
    "images": (
        "$[torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(i)) * 0.1"
        " + (i % 2) * torch.nn.functional.pad(torch.ones(1, 8, 8), (12, 12, 12, 12))"
        " for i in range(12)]"
    ),
    "items": "$[{'image': image, 'label': i % 2} for i, image in enumerate(@images)]",
    "network_def": {
        "_target_": "DenseNet121",
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 2,
        "block_config": [2, 2],
        "init_features": 8,
        "growth_rate": 4,
    },
    "network": "$@network_def.to(@device)",
    "loss": {"_target_": "torch.nn.CrossEntropyLoss"},
    "optimizer": {
        "_target_": "torch.optim.Adam",
        "params": "$@network.parameters()",
        "lr": 0.01,
    },
    "train": {
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "EnsureTyped", "keys": ["image", "label"]},
                {"_target_": "RandFlipd", "keys": "image", "prob": 0.5, "spatial_axis": 0},
            ],
        },
        "dataset": {
            "_target_": "CacheDataset",
            "data": "$@items[:8]",
            "transform": "@train#preprocessing",
            "progress": False,
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@train#dataset",
            "batch_size": 4,
            "shuffle": True,
        },
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {"_target_": "AsDiscreted", "keys": "label", "to_onehot": 2},
            ],
        },
        "key_metric": {
            "train_auc": {
                "_target_": "ROCAUC",
                "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
            }
        },
        "handlers": [
            {
                "_target_": "ValidationHandler",
                "validator": "@validate#evaluator",
                "epoch_level": True,
                "interval": "@val_interval",
            },
            {
                "_target_": "StatsHandler",
                "tag_name": "train_loss",
                "output_transform": "$monai.handlers.from_engine(['loss'], first=True)",
            },
        ],
        "trainer": {
            "_target_": "SupervisedTrainer",
            "max_epochs": "@max_epochs",
            "device": "@device",
            "train_data_loader": "@train#dataloader",
            "network": "@network",
            "loss_function": "@loss",
            "optimizer": "@optimizer",
            "inferer": "@train#inferer",
            "postprocessing": "@train#postprocessing",
            "key_train_metric": "@train#key_metric",
            "train_handlers": "@train#handlers",
        },
    },
    "validate": {
        "preprocessing": {"_target_": "EnsureTyped", "keys": ["image", "label"]},
        "postprocessing": "@train#postprocessing",
        "dataset": {
            "_target_": "Dataset",
            "data": "$@items[8:]",
            "transform": "@validate#preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@validate#dataset", "batch_size": 4},
        "inferer": {"_target_": "SimpleInferer"},
        "key_metric": {
            "val_auc": {
                "_target_": "ROCAUC",
                "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
            }
        },
        "handlers": [
            {
                "_target_": "CheckpointSaver",
                "save_dir": "@ckpt_dir",
                "save_dict": {"model": "@network"},
                "save_key_metric": True,
                "key_metric_filename": "model.pt",
            }
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@validate#dataloader",
            "network": "@network",
            "inferer": "@validate#inferer",
            "postprocessing": "@validate#postprocessing",
            "key_val_metric": "@validate#key_metric",
            "val_handlers": "@validate#handlers",
        },
    },
    "initialize": ["$monai.utils.set_determinism(seed=0)"],
    "run": ["$@train#trainer.run()"],
}


def train(folder: Path, entries: list[dict[str, Any]]) -> Any:
    """Train the stock bundle with these entries behind its own; return its trainer."""
    from monai.bundle import ConfigWorkflow

    config = copy.deepcopy(STOCK)
    config["bundle_root"] = str(folder)
    config["train"]["handlers"] += entries
    (folder / "train.json").write_text(json.dumps(config))
    versions = ("version", "monai_version", "pytorch_version", "numpy_version")
    (folder / "metadata.json").write_text(json.dumps(dict.fromkeys(versions, "1.0")))
    workflow = ConfigWorkflow(str(folder / "train.json"), logging_file=False, workflow_type="train")
    workflow.initialize()
    workflow.run()
    assert workflow.check_properties() == []
    return workflow.trainer


def test_it_is_stock() -> None:
    assert "ppi_med" not in json.dumps(STOCK)


def test_one_entry_more_and_it_trains_with_ppi(tmp_path: Path) -> None:
    trainer = train(tmp_path, [ENTRY])
    assert (trainer.state.epoch, trainer.state.iteration) == (2, 4)
    terms = trainer.state.ppi_terms.values
    assert {"con", "ad"} <= set(terms)
    assert all(torch.isfinite(torch.as_tensor(value)) for value in terms.values())
    last = trainer.state.output[0]
    assert {LOSS_CLS, LOSS_CON, LOSS_AD, "loss"} <= set(last)
    assert float(last["loss"]) != pytest.approx(float(last[LOSS_CLS]))
    assert 0 <= trainer.state.metrics["train_auc"] <= 1
    assert (tmp_path / "models" / "model.pt").is_file()


def test_without_it_training_is_the_stock_one(tmp_path: Path) -> None:
    """The oracle: weights differ from plain training's, and only because of the entry."""
    weights = {}
    for name, entries in {"plain": [], "again": [], "ppi": [ENTRY]}.items():
        (tmp_path / name).mkdir()
        trainer = train(tmp_path / name, entries)
        weights[name] = torch.cat([p.flatten() for p in trainer.network.parameters()])
        assert hasattr(trainer.state, "ppi_terms") is (name == "ppi")
    assert torch.equal(weights["plain"], weights["again"])
    assert not torch.equal(weights["plain"], weights["ppi"])


def test_the_entry_may_come_from_an_overlay(tmp_path: Path) -> None:
    from monai.bundle import run

    (tmp_path / "train.json").write_text(json.dumps(STOCK))
    (tmp_path / "ppi.json").write_text(json.dumps({"+train#handlers": [ENTRY]}))
    run(
        config_file=[str(tmp_path / "train.json"), str(tmp_path / "ppi.json")],
        logging_file=False,
        bundle_root=str(tmp_path),
        run=["$@train#trainer.run()", "$@train#trainer.state.ppi_terms.values['con']"],
    )
