"""Kill -9 of the runner, of a worker, of a Dask worker; a server that is away: the same table."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ppi_med.experiments import sweep_records as records
from ppi_med.experiments.cross_site import Request, start
from ppi_med.tracking.location import Location
from tests.experiments.cross_site.tiny import children_of, request_for, text_of
from tests.tracking.stores import new_store
from tests.tracking.test_outage import free_port, serve, stop

slow = pytest.mark.slow
_context = multiprocessing.get_context("spawn")


def cells_of(folder: Path) -> list[tuple[str, int, int | None]]:
    """Status, start and end of each cell's run, read from the database itself."""
    with sqlite3.connect(folder / "store" / "mlruns.db", timeout=30) as database:
        return database.execute(
            "select status, start_time, end_time from runs join tags "
            f"on runs.run_uuid = tags.run_uuid where key = '{records.TAG_CELL}'"
        ).fetchall()


def statuses(folder: Path) -> Counter[str]:
    """How many of the cells' runs are in each state."""
    return Counter(status for status, _, _ in cells_of(folder))


@contextmanager
def when(condition: Callable[[], bool], do: Callable[[], Any]) -> Iterator[list[str]]:
    """Do something beside the block, once, as soon as the condition holds."""
    done: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if condition():
                do()
                done.append("done")
                return
            time.sleep(0.05)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join(120)


def in_the_middle(folder: Path) -> bool:
    """One cell at least has ended, and another has begun since: it is far from its own end."""
    cells = cells_of(folder)
    ends = [end for status, _, end in cells if status == "FINISHED" and end is not None]
    begun = [start for status, start, _ in cells if status == "RUNNING"]
    return bool(ends and begun) and max(begun) >= min(ends)


def run_all(request: Request) -> None:
    start(request)


def assert_as_undisturbed(folder: Path, swept: Path) -> None:
    assert text_of(folder) == text_of(swept)
    client, (sweep,), runs = children_of(folder)
    assert Counter(run.data.tags[records.TAG_CELL] for run in runs if records.is_complete(run)) == {
        f"{site}-{method}-seed0": 1
        for site in ("site_a", "site_b")
        for method in ("plain", "ppi_wbp_shared")
    }
    states = Counter(run.info.status for run in runs)
    assert states["RUNNING"] == 0 and states["FINISHED"] == 4, states
    assert client.get_run(sweep.run_id).info.status == "FINISHED"


@slow
def test_the_runner_is_killed_in_the_middle(phantom: Path, swept: Path, tmp_path: Path) -> None:
    new_store(tmp_path / "store")
    request = request_for(phantom, tmp_path, workers=2)
    process = _context.Process(target=run_all, args=(request,))
    process.start()
    while not in_the_middle(tmp_path):
        time.sleep(0.05)
        assert process.exitcode is None
    os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
    process.join(60)
    # Its workers end with it: what they were at stays open for the next start to close.
    time.sleep(3)
    before = statuses(tmp_path)
    time.sleep(2)
    assert statuses(tmp_path) == before and before["RUNNING"] >= 1
    result = start(request_for(phantom, tmp_path))
    assert result.failed == {}
    # With them a run that had ended, but whose cell was not complete yet.
    assert statuses(tmp_path)["KILLED"] >= before["RUNNING"]
    assert_as_undisturbed(tmp_path, swept)


@slow
def test_a_worker_process_is_killed(phantom: Path, swept: Path, tmp_path: Path) -> None:
    new_store(tmp_path / "store")

    def kill() -> None:
        workers = [p for p in multiprocessing.active_children() if "SpawnProcess" in p.name]
        os.kill(int(workers[0].pid or 0), signal.SIGKILL)

    with when(lambda: in_the_middle(tmp_path), kill) as done:
        result = start(request_for(phantom, tmp_path, workers=2))
    assert done and result.failed == {}
    assert_as_undisturbed(tmp_path, swept)


@slow
def test_a_dask_worker_is_killed(phantom: Path, swept: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    new_store(tmp_path / "store")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        with distributed.Client(cluster) as client:
            workers = list(client.run(os.getpid).values())

        def kill() -> None:
            os.kill(workers[0], signal.SIGKILL)

        with when(lambda: in_the_middle(tmp_path), kill) as done:
            request = request_for(phantom, tmp_path, dask=cluster.scheduler_address)
            result = start(request)
    assert done and result.failed == {}
    assert_as_undisturbed(tmp_path, swept)


@slow
def test_the_server_is_away_for_a_while(
    phantom: Path, swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    location = new_store(tmp_path / "store")
    port = free_port()
    address = Location(f"http://127.0.0.1:{port}", None)
    servers = [serve(location, port)]

    def away() -> None:
        stop(servers.pop())
        time.sleep(8)
        servers.append(serve(location, port))

    try:
        with when(lambda: in_the_middle(tmp_path), away) as done:
            result = start(request_for(phantom, tmp_path, tracking_uri=address.uri))
        assert done and result.failed == {}
    finally:
        for server in servers:
            stop(server)
    assert_as_undisturbed(tmp_path, swept)


@slow
def test_a_cell_that_fails_fails_alone_and_is_run_again(phantom: Path, tmp_path: Path) -> None:
    new_store(tmp_path / "store")
    # Wrong only where PPI reads it.
    broken = request_for(
        phantom,
        tmp_path,
        sites=("site_a",),
        overrides={**request_for(phantom, tmp_path).overrides, "method_options": {"every": 0}},
    )
    result = start(broken)
    assert set(result.failed) == {"site_a-ppi_wbp_shared-seed0"}
    assert "every is 0" in result.failed["site_a-ppi_wbp_shared-seed0"]
    client, (sweep,), runs = children_of(tmp_path)
    assert client.get_run(sweep.run_id).info.status == "FAILED"
    assert [run.info.status for run in runs if records.is_complete(run)] == ["FINISHED"]
    assert "RUNNING" not in statuses(tmp_path)
