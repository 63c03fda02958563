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
from ppi_med.experiments.cells import Cell, bundle_command
from ppi_med.experiments.records import FolderRecords, cases_of, predictions_of
from ppi_med.experiments.run import run_cells

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
    records = FolderRecords(tmp_path / "records")
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
    records = FolderRecords(tmp_path)
    failed = run_cells(cells("a", "bad", "c"), records, by_name, workers=workers)
    assert list(failed) == ["bad"]
    assert "the bad cell" in failed["bad"]
    assert [r["cell"] for r in records.done()] == ["a", "c"]


def test_a_killed_worker_costs_its_own_cell_alone(tmp_path: Path) -> None:
    failed = run_cells(cells("killer", "x", "y", "z"), FolderRecords(tmp_path), killed, workers=2)
    assert list(failed) == ["killer"] and "lost" in failed["killer"]
    assert [r["cell"] for r in FolderRecords(tmp_path).done()] == ["x", "y", "z"]


def slow(cell: Cell) -> Mapping[str, Any]:
    Path(cell.name).write_text(str(os.getpid()))
    time.sleep(60)
    return {}


def test_the_workers_of_a_killed_run_end_with_it(tmp_path: Path) -> None:
    program = (
        "from tests.experiments.test_cells import *\n"
        f"names = [{str(tmp_path)!r} + f'/{{k}}' for k in range(2)]\n"
        f"records = FolderRecords({str(tmp_path)!r})\n"
        "run_cells([Cell(n, {}) for n in names], records, slow, workers=2)\n"
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
        FolderRecords(tmp_path).done()


def test_a_record_that_a_kill_left_half_written_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".a.json.x1y2.tmp.json").write_text('{"format": 1, "ce')
    assert FolderRecords(tmp_path).done() == []


def test_a_record_of_other_data_does_not_stand_in_for_what_is_asked(tmp_path: Path) -> None:
    records, cell = FolderRecords(tmp_path / "records"), cells("a")[0]
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


BINARY = 'volume_id,subject,site,label,score\nb,s1,A,1,0.75\n"a, 1",,A,0,0.1234567\n'
CLASSES = "volume_id,site,label,predicted,score,energy_all\nb,t,1,1,0.9,\na,s,2,1,0.2,0.123456\n"


def test_cases_come_back_from_a_runs_table_and_from_older_records(tmp_path: Path) -> None:
    for text in (BINARY, CLASSES):
        (tmp_path / "p.csv").write_text(text)
        record = json.loads(
            json.dumps({"cases": 2, "predictions": predictions_of(tmp_path / "p.csv")})
        )
        found = cases_of(record)
        if text is BINARY:
            assert found.names == ["a, 1", "b"] and found.units == ["case a, 1", "s1"]
            assert found.columns["score"].tolist() == [0.123457, 0.75]
            assert found.columns["label"].tolist() == [0, 1]
        else:
            assert found.sites == ["s", "t"] and found.columns["right"].tolist() == [0, 1]
            assert found.columns["energy_all"][0] == 0.1235
            assert (
                found.columns["energy_all"].tolist()[1] != found.columns["energy_all"].tolist()[1]
            )
    columns = {"volume_id": ["a", "b"], "label": [0, 1], "score": [0.1, 0.9]}
    older = (
        {"cases": 2, "predictions": {**columns, "subject": ["s", "t"]}},
        {"cases": {**columns, "group": ["s", "t"], "site": ["", ""]}},
        {"predictions": {"volume_id": "a b", "subject": "s t", "label": "01", "score": "0.1 0.9"}},
    )
    for record in older:
        found = cases_of(record)
        assert (found.names, found.units) == (["a", "b"], ["s", "t"])
        assert [v.tolist() for v in found.columns.values()] == [[0.0, 1.0], [0.1, 0.9]]
        assert float(found.part("test/auc").measure(None)) == 1.0
