"""Several processes on one new database or one folder, and databases that cannot be used."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ppi_med.errors import UnreachableError, UsageError
from ppi_med.io import hold
from ppi_med.tracking.location import DATABASE, locate, prepared
from ppi_med.tracking.run import RunTracker
from ppi_med.tracking.store import Store
from tests.tracking.stores import all_runs, client_of

ROOT = Path(__file__).resolve().parents[2]

TRAINING = """
import sys
from pathlib import Path
from ppi_med.tracking import create_tracker

folder, uri, name, number = sys.argv[1:]
tracker = create_tracker(
    uri, directory=f"{folder}/{name}", root=folder, experiment="new", system_metrics=False
)
Path(folder, f"ready{name}").touch()
while len(list(Path(folder).glob("ready*"))) < int(number):
    pass
tracker.start()
tracker.log_metrics({"val/auc": 0.5}, step=1)
tracker.finish()
"""


@pytest.mark.slow
@pytest.mark.parametrize("explicit", [False, True])
def test_all_of_three_runs_at_once_record_in_a_new_database(tmp_path: Path, explicit: bool) -> None:
    uri = f"sqlite:///{tmp_path}/deep/own.db?timeout=5" if explicit else "default"
    names = "abc"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TRAINING, str(tmp_path), uri, name, str(len(names))],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for one in started:
        _, said = one.communicate(timeout=300)
        assert one.returncode == 0, said
        assert "cannot be reached" not in said
    runs = all_runs(locate(tmp_path, None if uri == "default" else uri))
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    assert [run.data.metrics["val/auc"] for run in runs] == [0.5] * 3


def test_the_options_of_an_address_stay(tmp_path: Path) -> None:
    found = locate(tmp_path, f"sqlite:///{tmp_path}/a.db?timeout=5")
    assert found.uri == f"sqlite:///{tmp_path}/a.db?timeout=5"
    with prepared(found):
        assert (tmp_path / ".a.db.lock").exists()


@pytest.mark.parametrize("how", ["no database", "cut", "a folder", "under a file", "read-only"])
def test_a_database_that_cannot_be_used_is_one_sentence(tmp_path: Path, how: str) -> None:
    database = tmp_path / "runs" / DATABASE
    if how == "under a file":
        database.parent.write_text("")
    else:
        database.parent.mkdir()
    if how == "no database":
        database.write_text("not SQLite, " * 400)
    elif how == "cut":
        with sqlite3.connect(database) as made:
            made.execute("create table t (a)")
            made.executemany("insert into t values (?)", [("x" * 900,)] * 40)
        made.close()
        database.write_bytes(database.read_bytes()[:50] + b"x" * 5000)
    elif how == "a folder":
        database.mkdir()
    elif how == "read-only":
        if os.geteuid() == 0:
            pytest.skip("root may write anywhere")
        database.parent.chmod(0o500)
    with pytest.raises(UsageError, match="The database of the runs, .*mlruns.db, cannot be used"):
        RunTracker(locate(tmp_path / "runs"), tmp_path / "out", system_metrics=False).start()


def test_a_full_disk_while_the_tables_are_made_is_one_sentence(tmp_path: Path) -> None:
    code = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from ppi_med.tracking.store import Store\n"
        "from ppi_med.tracking.location import locate\n"
        "from ppi_med.bundle_tools.preflight import explain_errors\n"
        "from ppi_med.tracking.environment import import_mlflow\n"
        "import_mlflow()\n"
        "explain_errors('ga_ppi')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        f"Store(locate({str(tmp_path)!r}), 'e').client\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ga_ppi: The database of the runs")
    assert "Traceback" not in done.stderr


def test_a_database_that_another_program_locks_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ppi_med.tracking.location._PATIENCE", 0.2)
    location = locate(tmp_path)
    with sqlite3.connect(tmp_path / DATABASE) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UnreachableError, match="locked by another program"):
            Store(location, "e").client  # noqa: B018
    other.close()


def test_a_disk_that_fills_during_a_run_stops_nothing(location, tmp_path: Path) -> None:
    import mlflow
    import sqlalchemy

    tracker = RunTracker(location, tmp_path / "run", system_metrics=False, retry_after=0)
    tracker.start()
    sent = tracker.store.client.log_batch

    def full(*args: object, **kwargs: object) -> None:
        cause = sqlalchemy.exc.DatabaseError("", {}, sqlite3.DatabaseError("disk is full"))
        raise mlflow.exceptions.MlflowException("full", error_code=1) from cause

    tracker.store.client.log_batch = full
    tracker.log_metrics({"val/auc": 0.5}, step=1)
    tracker.store.client.log_batch = sent
    (tmp_path / "a.txt").write_text("a")
    logged = tracker.store.client.log_artifact

    def no_room(*args: object) -> None:
        raise OSError(28, "No space left on device")

    tracker.store.client.log_artifact = no_room
    tracker.log_artifact(tmp_path / "a.txt")
    assert len(tracker.outbox.journal) >= 1
    tracker.store.client.log_artifact = logged
    tracker.finish()
    (run,) = all_runs(location)
    assert run.data.metrics["val/auc"] == 0.5
    assert [one.path for one in client_of(location).list_artifacts(run.info.run_id)] == ["a.txt"]


HOLDER = """
import sys
from ppi_med.io import hold
hold(sys.argv[1], "training")
hold(sys.argv[1], "training")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_training_in_a_folder_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match="Another training writes to"):
        hold(tmp_path, "training")
    first.kill()
    first.wait()
    # On a busy machine the worker may not have come to let go of it yet.
    for _ in range(100):
        with suppress(UsageError):
            hold(tmp_path, "training")
            return
        time.sleep(0.1)
    pytest.fail("the worker holds the folder")
    hold(tmp_path, "training")


FORKING = """
import os, sys, time
from ppi_med.io import hold
hold(sys.argv[1], "training")
if os.fork() == 0:
    os.close(1)
    time.sleep(60)
    os._exit(0)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_worker_that_outlives_its_killed_parent_holds_nothing(tmp_path: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", FORKING, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match="Another training writes to"):
        hold(tmp_path, "training")
    first.kill()
    first.wait()
    # On a busy machine the worker may not have come to let go of it yet.
    for _ in range(100):
        with suppress(UsageError):
            hold(tmp_path, "training")
            return
        time.sleep(0.1)
    pytest.fail("the worker holds the folder")
