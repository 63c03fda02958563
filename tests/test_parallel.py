"""One room for many processes: order, windows, deaths, and no worker left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from ppi_med import parallel
from ppi_med.errors import UsageError
from ppi_med.parallel import Outcome, check_scheduler, run_jobs, run_tasks


def negated(number: int) -> int:
    return -number


def die_at_three(number: int) -> int:
    if number == 3:
        os._exit(9)
    return number


def once(path: str) -> str:
    """Die the first time; the second time there is a mark."""
    mark = Path(path)
    if not mark.exists():
        mark.write_text("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def noted(job: tuple[str, str]) -> str:
    """Write a line of what was run; the job `die` waits until the others have ended."""
    log, name = job
    with Path(log).open("a") as stream:
        stream.write(f"{name}\n")
    if name == "die":
        while Path(log).read_text().count("ended") < 2:
            time.sleep(0.01)
        os._exit(9)
    with Path(log).open("a") as stream:
        stream.write("ended\n")
    return name


@pytest.mark.parametrize("scheduler", ["serial", "threads", "processes"])
def test_results_come_in_order(scheduler: str) -> None:
    found = run_tasks(negated, iter(range(11)), scheduler=scheduler, workers=2)
    assert list(found) == [-k for k in range(11)]


def test_only_a_few_items_are_under_way() -> None:
    taken: list[int] = []

    def items() -> Any:
        for number in range(100):
            taken.append(number)
            yield number

    found = run_tasks(negated, items(), scheduler="threads", workers=2)
    for number in range(20):
        assert next(found) == -number
        assert len(taken) <= number + 1 + 8
    found.close()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_dying_worker_is_named_and_the_rest_goes_on() -> None:
    found = run_tasks(die_at_three, range(8), workers=2, on_death=lambda n: -n)
    assert list(found) == [0, 1, 2, -3, 4, 5, 6, 7]
    with pytest.raises(BrokenProcessPool):
        list(run_tasks(die_at_three, range(8), workers=2))


def test_a_pool_that_breaks_at_a_submit_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaks(ThreadPoolExecutor):
        submits = 0

        def __init__(self, count: int, **_: Any) -> None:
            super().__init__(count)

        def submit(self, *arguments: Any, **options: Any) -> Any:
            Breaks.submits += 1
            if Breaks.submits == 10:
                raise BrokenProcessPool("died")
            return super().submit(*arguments, **options)

    monkeypatch.setattr(parallel, "ProcessPoolExecutor", Breaks)
    found = run_tasks(abs, range(-12, 0), workers=2, on_death=lambda _: -1)
    assert list(found) == list(range(12, 0, -1))
    Breaks.submits = 0
    found = run_jobs(abs, range(-12, 0), workers=2)
    assert sorted(outcome.result for outcome in found) == list(range(1, 13))


def test_an_exception_is_an_outcome() -> None:
    one, two = run_jobs(int, ["1", "x"])
    assert one == Outcome(0, 1) and two.result is None and "invalid literal" in two.reason
    with pytest.raises(ValueError, match="invalid literal"):
        list(run_tasks(int, ["1", "x"], scheduler="serial"))


@pytest.mark.slow
def test_a_lost_worker_costs_its_own_job_alone(tmp_path: Path) -> None:
    (outcome,) = run_jobs(once, [str(tmp_path / "mark")], workers=1)
    assert outcome == Outcome(0, "alive")
    found = {one.index: one for one in run_jobs(die_at_three, range(6), workers=2, attempts=2)}
    assert [found[k].result for k in range(6)] == [0, 1, 2, None, 4, 5]
    assert found[3].reason.startswith("its worker process was lost 2 times")


@pytest.mark.slow
def test_what_has_ended_is_not_done_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = [(str(log), name) for name in ("die", "a", "b")]
    found = {one.index: one for one in run_jobs(noted, jobs, workers=2, attempts=1)}
    assert (found[1].result, found[2].result) == ("a", "b") and found[0].reason
    lines = log.read_text().splitlines()
    assert (lines.count("a"), lines.count("b")) == (1, 1)


SLEEPERS = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.test_parallel import sleeper
from ppi_med.parallel import run_jobs, run_tasks
if __name__ == "__main__":
    run = run_jobs if sys.argv[2] == "jobs" else run_tasks
    list(run(sleeper, [sys.argv[1]] * 2, workers=2))
"""


def sleeper(folder: str) -> None:
    (Path(folder) / str(os.getpid())).write_text("")
    time.sleep(120)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jobs", "tasks"])
def test_workers_end_with_their_parent(tmp_path: Path, kind: str) -> None:
    root = Path(__file__).resolve().parents[1]
    script = tmp_path / "run.py"
    script.write_text(SLEEPERS.format(root=str(root)))
    folder = tmp_path / "pids"
    folder.mkdir()
    process = subprocess.Popen([sys.executable, str(script), str(folder), kind], cwd=root)
    try:
        limit = time.monotonic() + 60
        while len(list(folder.iterdir())) < 2 and time.monotonic() < limit:
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    workers = [int(path.name) for path in folder.iterdir()]
    assert len(workers) == 2
    limit = time.monotonic() + 20
    while any(alive(pid) for pid in workers) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in workers)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return False
    return state not in "ZX"


@pytest.mark.slow
def test_on_dask() -> None:
    pytest.importorskip("distributed")
    found = {one.index: one for one in run_jobs(int, ["1", "x"], workers=1, dask="local")}
    assert found[0].result == 1 and "invalid literal" in found[1].reason


def test_wrong_calls() -> None:
    with pytest.raises(UsageError, match="scheduler is 'cluster'"):
        list(run_tasks(abs, [1], scheduler="cluster"))
    with pytest.raises(UsageError, match="workers is 0"):
        check_scheduler("threads", 0)
    with pytest.raises(UsageError, match="workers is -1"):
        list(run_jobs(abs, [1], workers=-1))
    pytest.importorskip("distributed")
    with pytest.raises(UsageError, match="no Dask scheduler at tcp://127"):
        list(run_jobs(abs, [1], dask="tcp://127.0.0.1:1"))
