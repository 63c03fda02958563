"""Records of finished cells, and the runner that fills in what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ppi_med.errors import UsageError
from ppi_med.experiments.bundles import bundle_command
from ppi_med.experiments.cells import Cell, Records
from ppi_med.experiments.runner import run_cells

ROOT = Path(__file__).resolve().parents[2]


def cells(*names: str) -> list[Cell]:
    return [Cell(name, {"method": name, "seed": 0}) for name in names]


def by_name(cell: Cell) -> Mapping[str, Any]:
    if cell.name == "bad":
        raise ValueError("the bad cell")
    return {"value": len(cell.name)}


def killed(cell: Cell) -> Mapping[str, Any]:
    import signal

    if cell.name == "killer":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"value": 1}


@pytest.mark.parametrize("workers", [1, 2])
def test_finished_cells_are_kept_and_the_rest_is_run(tmp_path: Path, workers: int) -> None:
    records = Records(tmp_path / "records")
    first = cells("a", "bb")
    assert run_cells(first, records, by_name, workers=workers) == {}
    kept = records.path(first[0]).read_bytes()
    ran: list[str] = []

    def spy(cell: Cell) -> Mapping[str, Any]:
        ran.append(cell.name)
        return by_name(cell)

    assert run_cells([*first, *cells("ccc")], records, spy, workers=1) == {}
    assert ran == ["ccc"]
    assert records.path(first[0]).read_bytes() == kept
    assert [r["value"] for r in records.done()] == [1, 2, 3]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failed_cell_stops_no_other_and_leaves_no_record(tmp_path: Path, workers: int) -> None:
    records = Records(tmp_path)
    failed = run_cells(cells("a", "bad", "c"), records, by_name, workers=workers)
    assert list(failed) == ["bad"]
    assert "the bad cell" in failed["bad"]
    assert [r["cell"] for r in records.done()] == ["a", "c"]


def test_a_killed_worker_costs_its_own_cell_alone(tmp_path: Path) -> None:
    failed = run_cells(cells("killer", "x", "y", "z"), Records(tmp_path), killed, workers=2)
    assert list(failed) == ["killer"] and "lost" in failed["killer"]
    assert [r["cell"] for r in Records(tmp_path).done()] == ["x", "y", "z"]


def slow(cell: Cell) -> Mapping[str, Any]:
    Path(cell.name).write_text(str(os.getpid()))
    time.sleep(60)
    return {}


def test_the_workers_of_a_killed_run_end_with_it(tmp_path: Path) -> None:
    program = (
        "from tests.experiments.test_cells import *\n"
        f"names = [{str(tmp_path)!r} + f'/{{k}}' for k in range(2)]\n"
        f"run_cells([Cell(n, {{}}) for n in names], Records({str(tmp_path)!r}), slow, workers=2)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    try:
        wait_for(lambda: all((tmp_path / str(k)).is_file() for k in range(2)), 60)
        workers = [int((tmp_path / str(k)).read_text()) for k in range(2)]
    finally:
        run.kill()
        run.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 20)


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 99}'])
def test_a_file_that_is_no_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "broken.json").write_text(content)
    with pytest.raises(UsageError, match=r"broken\.json"):
        Records(tmp_path).done()


def test_a_record_that_a_kill_left_half_written_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".a.json.x1y2.tmp.json").write_text('{"format": 1, "ce')
    assert Records(tmp_path).done() == []


def test_a_record_of_other_data_does_not_stand_in_for_what_is_asked(tmp_path: Path) -> None:
    records, cell = Records(tmp_path / "records"), cells("a")[0]
    records.write(cell, {"data_hash": "one"})
    records.require_same({"a": {"data_hash": "one"}, "b": {"data_hash": "two"}})
    records.require_same({"b": {"data_hash": "two"}})
    with pytest.raises(UsageError, match=r"holds a of other data .*data_hash: one, now two.*--rec"):
        records.require_same({"a": {"data_hash": "two"}})
    with pytest.raises(UsageError, match="weights: None, now w"):
        records.require_same({"a": {"weights": "w"}})


def test_the_command_of_a_cell_can_be_pasted_into_a_shell() -> None:
    import shlex

    command = bundle_command(
        [Path("a/train.json"), Path("a/paper.json")],
        {"sites": ["x y"], "tracking_uri": None, "seed": 3},
    )
    words = shlex.split(command)
    assert words[5] == "['a/train.json', 'a/paper.json']"
    assert json.loads(words[words.index("--sites") + 1]) == ["x y"]
    assert words[words.index("--tracking_uri") + 1] == "$None"
