"""The benchmark of the methods runs, refuses to time maps that differ, and says who is faster."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    module, maps = importlib.import_module("saliency"), importlib.import_module("_saliency_maps")
    subjects = {"small": maps.Subject(small, (3, 16, 16), 2)}
    for owner in (module, maps):
        monkeypatch.setattr(owner, "SUBJECTS", subjects)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    return module


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(150, 10),
    )


def test_table_and_figures(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("captum")
    names = ["WBP", "gradient", "GradCAM", "integrated gradients", "SmoothGrad", "occlusion"]
    path = tmp_path / "figures.json"
    options = ["--no-memory", "--rounds", "2", "--json", str(path), "--groups", *names]
    assert benchmark.main(options) == 0
    printed = capsys.readouterr().out
    assert "| small   | WBP " in printed and "captum InputXGradient, the fastest other" in printed
    records = json.loads(path.read_text())["records"]
    assert {r["group"] for r in records} == set(names)
    assert all(r["ms_per_image"] > 0 for r in records)
    assert all(r["ours_by_it"] == 1 for r in records if r["library"] == "ppi_med")


def test_all_groups_agree(benchmark: Any) -> None:
    from _saliency_maps import groups

    for group in groups(benchmark.SUBJECTS["small"]):
        found = benchmark.works("small", group, None)
        if "captum LRP" in found:
            del found["captum LRP"]  # it has no rule for nn.Flatten
        benchmark.check_outputs(group, found)


def test_other_maps_are_not_timed(benchmark: Any) -> None:
    with pytest.raises(SystemExit, match="WBP: the map of other differs"):
        benchmark.check_outputs(
            "WBP", {"ppi_med": lambda: torch.ones(3), "other": lambda: torch.zeros(3)}
        )


def test_the_fastest_other_counts(benchmark: Any) -> None:
    def record(library: str, value: float) -> dict[str, Any]:
        return {"network": "a", "group": "WBP", "library": library, "ours_by_it": value}

    records = [record("ppi_med", 1.0), record("slow", 0.5), record("fast", 1.2)]
    assert benchmark.against_fastest(records) == {("a", "WBP"): (1.2, "fast")}
