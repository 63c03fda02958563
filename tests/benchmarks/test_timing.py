"""The arithmetic that the benchmarks share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import _timing

    return _timing


def test_rounds_are_interleaved_and_rotated(timing: Any) -> None:
    order: list[str] = []
    work = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = timing.interleaved(work, rounds=3, warmup=0)
    assert order == list("abc" + "bca" + "cab")
    assert {name: len(values) for name, values in seconds.items()} == dict.fromkeys("abc", 3)


def test_ratio_is_the_median_of_pairs(timing: Any) -> None:
    seconds = {"a": [1.0, 1.0, 10.0], "b": [2.0, 3.0, 10.0]}
    assert timing.ratio(seconds, "b", "a") == 2.0


def test_slower_work_has_a_larger_ratio(timing: Any) -> None:
    work: dict[str, Callable[[], object]] = {
        "short": lambda: time.sleep(0.002),
        "long": lambda: time.sleep(0.02),
    }
    seconds = timing.interleaved(work, rounds=3, warmup=1)
    assert timing.ratio(seconds, "long", "short") > 2


def test_processor_time_is_not_the_time_waited(timing: Any) -> None:
    seconds = timing.interleaved({"a": lambda: time.sleep(0.1)}, rounds=1, warmup=0, clock="cpu")
    assert seconds["a"][0] < 0.05


def allocate(mib: int) -> Callable[[], object]:
    return lambda: len(b"1" * (mib * 1024**2))


@pytest.mark.slow
def test_peak_memory(timing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{FOLDER}:{FOLDER.parent}")
    grown = timing.peak_memory(allocate, 200)
    assert 190 < grown < 260


def test_table(timing: Any) -> None:
    assert timing.table(["a", "bc"], [["1", 2]]) == "| a | bc |\n| - | -- |\n| 1 | 2  |"
