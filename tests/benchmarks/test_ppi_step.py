"""The script that measures a PPI step: it runs, compares before it times, and knows its limits."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import ppi_step

TINY = ["--batch", "4", "--rounds", "1", "--threads", "1", "--no-memory"]


def record(**changes: Any) -> dict[str, Any]:
    usual = {"network": "resnet18", "step": "differentiable", "to_plain": 4.0, "gain": 5.0}
    return {**usual, **changes}


@pytest.fixture
def small_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("multiview", "multiview, shared place"):
        subject = ppi_step.SUBJECTS[name]
        small = type(subject)(subject.make, (1, 3, 16, 16), 4, subject.shared_place)
        monkeypatch.setitem(ppi_step.SUBJECTS, name, small)


def test_prints_a_table_and_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], small_volumes: None
) -> None:
    threads = torch.get_num_threads()
    file = tmp_path / "cost.json"
    names = ["multiview", "multiview, shared place"]
    try:
        code = ppi_step.main(
            [*TINY, "--networks", *names, "--naive-rounds", "1", "--json", str(file)]
        )
    finally:
        torch.set_num_threads(threads)
    assert code == 0
    printed = capsys.readouterr().out
    for word in ("plain", "differentiable", "stop-gradient", "one contrast", "naive", "load"):
        assert word in printed
    records = json.loads(file.read_text())["records"]
    assert {r["network"] for r in records} == set(names)
    assert all(r["ms"] > 0 and r["to_plain"] > 0 for r in records)
    gains = {r["step"]: r["gain"] for r in records if r["network"] == "multiview"}
    assert gains["differentiable"] > 0
    assert gains["stop-gradient"] > 0
    assert gains["one contrast"] is None


def test_nothing_is_timed_where_the_outputs_differ(
    monkeypatch: pytest.MonkeyPatch, small_volumes: None
) -> None:
    # The scripts import each other by their plain names, as when they are run.
    monkeypatch.setattr(sys.modules["_naive_ppi"], "CON_WEIGHT", 0.1001)
    with pytest.raises(SystemExit, match="differs from the naive one"):
        ppi_step.main([*TINY, "--networks", "multiview"])


def test_a_parameter_without_a_gradient_counts_as_zero() -> None:
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    network[1](torch.ones(1, 1)).sum().backward()
    assert ppi_step.gradients(network).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, 0),
        ({"to_plain": 4.51}, 1),
        ({"gain": 2.9}, 1),
        ({"gain": None}, 0),
        ({"to_plain": 5.0, "gain": 1.0}, 2),
        ({"step": "stop-gradient", "to_plain": 3.61}, 1),
        ({"step": "one contrast", "to_plain": 9.0}, 0),
        ({"network": "multiview", "to_plain": 9.0}, 0),
    ],
)
def test_limits(changes: dict[str, Any], lines: int) -> None:
    assert len(ppi_step.failures([record(**changes)])) == lines


def test_a_cycle_counts_as_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    cycles = {"plain": [1.0], "every 2nd": [6.0], "every 4th": [8.0]}
    monkeypatch.setattr(ppi_step, "interleaved", lambda works, **_: cycles)
    seconds = ppi_step.timed(dict.fromkeys(cycles, object), 1, warmup=0, clock="wall")
    assert seconds == {"plain": [1.0], "every 2nd": [3.0], "every 4th": [2.0]}
