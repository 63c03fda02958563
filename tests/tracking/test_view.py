"""The addresses at which runs open, the description of a run, and the command it was started by."""

from __future__ import annotations

import json
import os
import sys

from typer.testing import CliRunner

from ppi_med.cli import app
from ppi_med.tracking import notes
from ppi_med.tracking.location import Location, locate
from ppi_med.tracking.provenance import command
from ppi_med.tracking.run import RunTracker
from ppi_med.tracking.view import address, server_command, where_to_look
from tests.tracking.stores import client_of, only_run

TAGS = {"bundle": "ga_ppi", "method": "plain", "train_site": "東京", "fold": 1, "seed": 0}


def test_ui_gives_an_experiment_of_before_the_view_and_starts_the_server(
    location, tmp_path, monkeypatch
) -> None:
    client = client_of(location)
    experiment = client.create_experiment("of before", artifact_location=location.artifacts)
    client.create_run(experiment)
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda program, words, environment: started.append(words))
    said = CliRunner().invoke(app, ["ui", "--tracking-uri", location.uri, "--port", "5001"])
    assert said.exit_code == 0, said.output
    url = f"http://127.0.0.1:5001/#/experiments/{experiment}/runs?viewStateShareKey=ppi_med"
    assert f"of before: {url}&workflowType=machine_learning\n" in said.output
    assert "Default" not in said.output
    assert started == [server_command(location, 5001)]
    assert started[0][1:5] == ["-m", "mlflow", "server", "--host"] and "127.0.0.1" in started[0]
    saved = json.loads(client.get_experiment(experiment).tags["mlflow.sharedViewState.ppi_med"])
    assert saved["selectedColumns"][:3] == [
        "tags.`method`",
        "tags.`train_site`",
        "metrics.`test/auc`",
    ]
    assert saved["orderByKey"] == "metrics.`val/auc_selected`"


def test_a_server_that_runs_elsewhere_is_named_and_not_started() -> None:
    location = Location("http://127.0.0.1:80/", None)
    assert server_command(location) == []
    assert address(location, "7").startswith("http://127.0.0.1:80/#/experiments/7/runs?")
    assert where_to_look(location, "7") == f"the runs: {address(location, '7')}"


def test_a_database_elsewhere_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert where_to_look(locate("."), "1").startswith("ppi-med ui shows the runs at http://127")
    other = locate(tmp_path / "other")
    assert f"ppi-med ui --tracking-uri {other.uri} shows" in where_to_look(other, "1")


def test_the_description_of_a_run(location, tmp_path) -> None:
    tags = {**TAGS, "command": "ppi-med demo --set 'a --b'"}
    tracker = RunTracker(
        location, tmp_path / "run", tags=tags, config={"max_epochs": 3}, system_metrics=False
    )
    tracker.start()
    picture = tmp_path / "Köln a.png"
    picture.write_bytes(b"png")
    tracker.log_artifact(picture, "pictures")
    tracker.describe(notes.result({"test/auc": 0.9, "val/auc_selected": 0.8}))
    tracker.finish()
    _, run = only_run(location)
    assert run.data.tags[notes.NOTE] == (
        "The bundle ga_ppi: plain, trained on 東京, at most 3 epochs, fold 1, seed 0. "
        "AUC on held-out cases 0.900, validation AUC 0.800. "
        "Picture: artifact `pictures/Köln a.png`. Again:\n\n```\n"
        "ppi-med demo \\\n  --set 'a --b'\n```\n\n"
        f"![pictures/Köln a.png](get-artifact?run_uuid={run.info.run_id}"
        "&path=pictures%2FK%C3%B6ln%20a.png)"
    )
    assert run.data.tags["mlflow.source.name"] == tags["command"]
    assert run.data.params["train_site"] == run.data.tags["train_site"] == "東京"


def test_a_run_without_a_result_says_how_it_ended(location, tmp_path) -> None:
    tracker = RunTracker(location, tmp_path / "run", tags=TAGS, config={}, system_metrics=False)
    tracker.start()
    tracker.finish("KILLED")
    assert "It ended as KILLED, without a result." in only_run(location)[1].data.tags[notes.NOTE]


def test_a_command_is_recorded_without_its_password(monkeypatch) -> None:
    words = ["/bin/ppi-med", "tables", "--tracking-uri", "postgresql://me:secret@host/runs"]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert command() == "ppi-med tables --tracking-uri postgresql://me:***@host/runs"
