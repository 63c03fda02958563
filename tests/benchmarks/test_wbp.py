"""The benchmark of WBP runs, checks what it times, and says so where it is slow."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from ppi_med.networks.multiview import MultiViewClassifier

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    specification = importlib.util.spec_from_file_location("benchmark_wbp", FOLDER / "wbp.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "benchmark_wbp", module)
    specification.loader.exec_module(module)
    subjects = {
        "resnet18": module.Subject(small, (1, 8, 8), 2),
        "multiview": module.Subject(MultiViewClassifier, (1, 3, 16, 16), 2),
    }
    monkeypatch.setattr(module, "SUBJECTS", subjects)
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    assert torch.get_num_threads() == threads
    return module


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2)
    )


def test_table_and_figures(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    arguments = ["--rounds", "2", "--no-memory", "--json", str(figures)]
    assert benchmark.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "threads" in printed and "| multiview" in printed
    content = json.loads(figures.read_text())
    assert [(r["network"], r["mode"]) for r in content["records"]] == [
        ("resnet18", "evaluation"),
        ("resnet18", "training"),
        ("multiview", "evaluation"),
        ("multiview", "training"),
    ]
    assert "hardware" in content and all(r["wbp_ratio"] > 0 for r in content["records"])


@pytest.mark.parametrize(("limit", "code"), [(0.0, 1), (1e9, 0)])
def test_check(benchmark: Any, monkeypatch: pytest.MonkeyPatch, limit: float, code: int) -> None:
    monkeypatch.setattr(benchmark, "LIMIT", limit)
    arguments = ["--networks", "resnet18", "--modes", "evaluation", "--rounds", "1", "--no-memory"]
    assert benchmark.main([*arguments, "--check"]) == code
    assert benchmark.main(arguments) == 0


def test_a_wrong_map_is_not_timed(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(network: Any, image: Any, target: Any) -> Any:
        logits, product = honest(network, image, target)
        return logits, product * 1.01

    honest = benchmark.gradient_times_input
    monkeypatch.setattr(benchmark, "gradient_times_input", wrong)
    with pytest.raises(SystemExit, match="differs from gradient x input"):
        benchmark.check_outputs("resnet18", False, None)
