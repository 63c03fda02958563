"""What a validation notes of its inputs goes with the best weights to test and inference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from ppi_med.evaluation.familiarity import KnownInputs
from ppi_med.handlers import BestCheckpoint, Familiarity


class Tracker:
    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.metrics |= values


def smooth(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 1, 16, 16, generator=generator).cumsum(3) / 8


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1))


def evaluator(network: nn.Module) -> Engine:
    def step(engine: Engine, batch: dict[str, torch.Tensor]) -> Any:
        output = network(batch["image"])
        engine.state.batch = [{"image": image} for image in batch["image"]]  # as MONAI decollates
        return output

    return Engine(step)


def test_from_the_validation_to_the_test(tmp_path: Path, network: nn.Module) -> None:
    validation = evaluator(network)
    BestCheckpoint(network, tmp_path / "model.pt").attach(validation)
    Familiarity(network).attach(validation)
    validation.state.metrics = {"val/auc": 0.7}
    validation.run([{"image": smooth(seed)} for seed in range(8)])
    noted = json.loads((tmp_path / "model.json").read_text())["inputs"]
    known = KnownInputs.read(noted)
    assert known is not None and known.count == 16
    assert known.features is not None and len(known.features.mean) == 3

    tracker, test = Tracker(), evaluator(network)
    Familiarity(network, tmp_path / "model.pt", tracker).attach(test)
    test.run([{"image": smooth(9)}, {"image": torch.zeros(2, 1, 16, 16)}])
    assert tracker.metrics == {"test/unlike": 0.5}
    assert not network[3]._forward_pre_hooks


def test_weights_without_notes(tmp_path: Path, network: nn.Module) -> None:
    tracker, test = Tracker(), evaluator(network)
    Familiarity(network, tmp_path / "model.pt", tracker).attach(test)
    test.run([{"image": smooth(9)}, {"image": torch.zeros(2, 1, 16, 16)}])
    assert tracker.metrics == {"test/unlike": 0.5}  # empty is seen without notes


def test_it_is_attached_once(network: nn.Module) -> None:
    engine, handler = evaluator(network), Familiarity(network)
    handler.attach(engine)
    with pytest.raises(RuntimeError, match="attached once"):
        handler.attach(engine)
