from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ppi_med.errors import UnreachableError
from ppi_med.tracking.location import Location
from ppi_med.tracking.outbox import Journal, Outbox
from ppi_med.tracking.run import RunTracker, send_pending
from tests.tracking.stores import all_runs, client_of, history, new_store, only_run

QUIET = {"system_metrics": False, "config": {}, "retry_after": 0.0}


class Fragile:
    """A tracker whose store goes away and comes back."""

    def __init__(self, location, folder, **options):
        self.tracker = RunTracker(location, folder, **{**QUIET, **options})
        self.away = False
        client = self.tracker.store.client
        for name in ("log_batch", "create_run", "get_run", "set_terminated", "log_artifact"):
            setattr(client, name, self._failing(getattr(client, name)))

    def _failing(self, call):
        def attempt(*args, **kwargs):
            if self.away:
                raise MlflowException("API request to store failed with exception: refused")
            return call(*args, **kwargs)

        return attempt


@pytest.fixture
def outage(monkeypatch):
    """Every client of the store fails while its one item is True."""
    away = [False]

    def failing(call):
        def attempt(*args, **kwargs):
            if away[0]:
                raise MlflowException("API request to store failed with exception: refused")
            return call(*args, **kwargs)

        return attempt

    for name in ("log_batch", "create_run", "get_run", "set_terminated"):
        monkeypatch.setattr(MlflowClient, name, failing(getattr(MlflowClient, name)))
    return away


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("ppi_med.tracking.outbox.time.sleep", lambda seconds: None)


def test_records_wait_and_arrive_in_order(location, tmp_path, caplog):
    fragile = Fragile(location, tmp_path / "run")
    tracker = fragile.tracker
    tracker.start()
    tracker.log_metrics({"val/auc": 0.1}, 1)
    fragile.away = True
    file = tmp_path / "a.txt"
    file.write_text("a")
    for step in (2, 3):
        tracker.log_metrics({"val/auc": step / 10}, step)
    tracker.log_artifact(file)
    assert len(tracker.outbox.journal) == 3
    fragile.away = False
    tracker.log_metrics({"val/auc": 0.4}, 4)
    assert len(tracker.outbox.journal) == 0
    tracker.finish()
    client, run = only_run(location)
    assert history(client, run, "val/auc") == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["a.txt"]
    assert run.info.status == "FINISHED"
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1 and "cannot be reached" in warnings[0].message


def test_a_store_that_is_away_from_the_beginning(location, tmp_path):
    fragile = Fragile(location, tmp_path / "run", tags={"method": "plain"}, run_name="late")
    fragile.away = True
    fragile.tracker.start()
    fragile.tracker.log_metrics({"val/auc": 0.1}, 1)
    assert fragile.tracker.run_id is None
    fragile.away = False
    fragile.tracker.log_metrics({"val/auc": 0.2}, 2)
    fragile.tracker.finish()
    client, run = only_run(location)
    assert history(client, run, "val/auc") == [(1, 0.1), (2, 0.2)]
    assert run.data.tags["method"] == "plain" and run.info.run_name == "late"


def test_what_still_waits_at_the_end_is_sent_later(location, tmp_path, caplog):
    fragile = Fragile(location, tmp_path / "run", experiment="mine", run_name="late")
    fragile.away = True
    fragile.tracker.start()
    fragile.tracker.log_metrics({"val/auc": 0.1}, 1)
    fragile.tracker.finish()
    assert "records wait in" in caplog.text
    assert send_pending(tmp_path / "run", location) == 3
    client, run = only_run(location)
    assert run.info.status == "FINISHED" and run.info.run_name == "late"
    assert client.get_experiment(run.info.experiment_id).name == "mine"
    assert send_pending(tmp_path / "run", location) == 0


def test_the_next_process_in_the_folder_sends_it_too(location, tmp_path):
    fragile = Fragile(location, tmp_path / "run")
    fragile.tracker.start()
    fragile.away = True
    fragile.tracker.log_metrics({"val/auc": 0.1}, 1)
    fragile.tracker._watch.remove()  # killed
    again = RunTracker(location, tmp_path / "run", **QUIET)
    again.start()
    again.log_metrics({"val/auc": 0.9}, 1)  # the epoch is repeated
    again.log_metrics({"val/auc": 0.2}, 2)
    again.finish()
    client, run = only_run(location)
    assert history(client, run, "val/auc") == [(1, 0.1), (2, 0.2)]


def test_a_resumed_run_sends_what_could_not_be_sent_at_first(location, tmp_path):
    first = RunTracker(location, tmp_path / "run", **QUIET)
    first.start()
    first.log_metrics({"val/auc": 0.1}, 1)
    first._watch.remove()  # killed
    fragile = Fragile(location, tmp_path / "run")
    fragile.tracker.start()
    fragile.tracker.log_metrics({"val/auc": 0.1}, 1)
    fragile.away = True
    fragile.tracker.log_metrics({"val/auc": 0.2}, 2)
    fragile.away = False
    fragile.tracker.log_metrics({"val/auc": 0.3}, 3)
    fragile.tracker.finish()
    client, run = only_run(location)
    assert history(client, run, "val/auc") == [(1, 0.1), (2, 0.2), (3, 0.3)]


def killed_while_away(location, folder, outage, **options):
    """Return a tracker whose last metric, of step 2, waits in the folder."""
    tracker = RunTracker(location, folder, **QUIET, **options)
    tracker.start()
    tracker.log_metrics({"val/auc": 0.1}, 1)
    outage[0] = True
    tracker.log_metrics({"val/auc": 0.2}, 2)
    tracker._watch.remove()  # killed
    return tracker


def test_another_run_in_the_folder_sends_what_waits_to_the_earlier_one(location, tmp_path, outage):
    earlier = killed_while_away(location, tmp_path / "run", outage)
    outage[0] = False
    later = RunTracker(location, tmp_path / "run", resume=False, **QUIET)
    later.start()
    later.log_metrics({"val/auc": 0.9}, 1)
    later.finish()
    runs = {run.info.run_id: run for run in all_runs(location)}
    client = client_of(location)
    assert history(client, runs[earlier.run_id], "val/auc") == [(1, 0.1), (2, 0.2)]
    assert history(client, runs[later.run_id], "val/auc") == [(1, 0.9)]
    assert runs[earlier.run_id].info.status == "KILLED"
    assert runs[later.run_id].info.status == "FINISHED"


def test_while_the_store_is_away_it_is_set_aside(location, tmp_path, outage, caplog):
    earlier = killed_while_away(location, tmp_path / "run", outage, experiment="mine")
    later = RunTracker(location, tmp_path / "run", resume=False, **QUIET)
    later.start()
    later.log_metrics({"val/auc": 0.9}, 1)
    later.finish()
    aside = tmp_path / "run" / f"mlflow_pending-{earlier.run_id}"
    assert len(Journal(aside / "mlflow_pending.jsonl")) == 1 and str(aside) in caplog.text
    outage[0] = False
    # That the earlier run is abandoned, tags, the metric, that it is finished; and the metric.
    assert send_pending(tmp_path / "run", location) == 4 + 1
    assert send_pending(tmp_path / "run", location) == 0
    runs = all_runs(location)
    client = client_of(location)
    found = {run.info.run_id: history(client, run, "val/auc") for run in runs}
    assert found.pop(earlier.run_id) == [(1, 0.1), (2, 0.2)]
    assert list(found.values()) == [[(1, 0.9)]]
    assert {run.info.status for run in runs} == {"KILLED", "FINISHED"}


def test_what_waits_for_another_store_is_not_sent_to_this_one(location, tmp_path, outage):
    killed_while_away(location, tmp_path / "run", outage)
    outage[0] = False
    other = new_store(tmp_path / "other")
    later = RunTracker(other, tmp_path / "run", resume=False, **QUIET)
    later.start()
    later.finish()
    assert only_run(other)[1].data.metrics == {}
    assert send_pending(tmp_path / "run", other) == 0
    assert send_pending(tmp_path / "run", location) == 1
    client, run = only_run(location)
    assert history(client, run, "val/auc") == [(1, 0.1), (2, 0.2)]


def test_attempts_are_spaced(tmp_path):
    calls = []

    def away(record=None):
        calls.append(record)
        raise UnreachableError("away")

    outbox = Outbox(Journal(tmp_path / "j"), away, lambda: None, retry_after=1000)
    for number in range(20):
        outbox.put({"kind": "metrics", "items": [number]})
    assert len(calls) == 1
    assert len(outbox.journal) == 20


def test_one_refused_record_does_not_block_the_others(tmp_path, caplog):
    sent = []

    def send(record):
        if record["kind"] == "bad":
            raise MlflowException("no such thing", error_code=3)
        sent.append(record)

    journal = Journal(tmp_path / "j")
    for kind in ("a", "bad", "b"):
        journal.append({"kind": kind})
    assert Outbox(journal, send, lambda: None).flush()
    assert [record["kind"] for record in sent] == ["a", "b"]
    assert "refuses a record of kind bad" in caplog.text
    assert not journal.path.exists()


def test_a_line_torn_by_a_kill_is_left_out_and_not_written_on(tmp_path):
    journal = Journal(tmp_path / "j")
    journal.append({"kind": "a"})
    with open(journal.path, "a") as file:
        file.write('{"kind": "to')

    def away():
        raise UnreachableError("away")

    outbox = Outbox(journal, lambda record: None, away, retry_after=1000)
    outbox.put({"kind": "b"})
    assert [record["kind"] for record in journal.read()] == ["a", "b"]
    assert Outbox(journal, lambda record: None, lambda: None).flush()


def test_a_closed_port_is_an_outage_not_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    location = Location(f"http://127.0.0.1:{free_port()}", None)
    tracker = RunTracker(location, tmp_path / "run", **QUIET)
    tracker.start()
    tracker.log_metrics({"val/auc": 0.1}, 1)
    tracker.finish()
    with pytest.raises(ConnectionError, match="3 records still wait"):
        send_pending(tmp_path / "run", location)
    assert json.loads((tmp_path / "run" / "mlflow_run.json").read_text())["run_id"] is None


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.slow
def test_a_real_server_is_stopped_and_started_again(location, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = free_port()
    server = serve(location, port)
    tracker = RunTracker(Location(f"http://127.0.0.1:{port}", None), tmp_path / "run", **QUIET)
    try:
        tracker.start()
        tracker.log_metrics({"val/auc": 0.1}, 1)
        stop(server)
        tracker.log_metrics({"val/auc": 0.2}, 2)
        assert len(tracker.outbox.journal) == 1
        server = serve(location, port)
        tracker.log_metrics({"val/auc": 0.3}, 3)
        tracker.finish()
    finally:
        stop(server)
    client, run = only_run(location)
    assert history(client, run, "val/auc") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert run.info.status == "FINISHED"


def serve(location, port):
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--backend-store-uri", location.uri]
    command += ["--default-artifact-root", location.artifacts]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return server
        except OSError:
            subprocess.run(["sleep", "0.5"], check=True)  # time.sleep is switched off here
    raise TimeoutError("the server did not start")


def stop(server):
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=60)
    assert time.monotonic() > 0
