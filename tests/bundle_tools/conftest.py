"""A small bundle, whole and in order; the tests break it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

TRAIN: dict[str, Any] = {
    "imports": ["$import torch"],
    "bundle_root": ".",
    "width": 4,
    "device": "$torch.device('cpu')",
    "network_def": {
        "_target_": "torch.nn.Linear",
        "in_features": "@width",
        "out_features": "$@width // 2",
    },
    "network": "$@network_def.to(@device)",
    "optimizer": {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": 0.1},
    "train": {
        "handlers": [{"_target_": "torch.nn.ReLU"}, {"_target_": "torch.nn.ReLU", "inplace": True}],
        "trainer": {"_target_": "torch.nn.ModuleList", "modules": "@train#handlers"},
    },
    "initialize": ["$(_ for _ in ()).throw(RuntimeError('initialize was executed'))"],
    "run": ["$@train#trainer.no_such_method()", "$print(@network)"],
}
INFERENCE: dict[str, Any] = {
    "network_def": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 1},
    "run": "$@network_def",
}
METADATA: dict[str, Any] = {"version": "0.2.0", "name": "a small bundle"}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the bundle."""
    root = tmp_path / "small"
    write(root / "train.json", TRAIN)
    write(root / "inference.json", INFERENCE)
    write(root / "metadata.json", METADATA)
    (root / "docs").mkdir()
    (root / "docs" / "README.md").write_text("# small\n")
    (root / "LICENSE").write_text("Apache-2.0\n")
    (root / "logging.conf").write_text("[loggers]\n")
    return root
