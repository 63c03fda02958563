from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import textwrap

import pytest

from ppi_med import naming
from ppi_med.errors import UsageError
from ppi_med.tracking import NullTracker, create_tracker
from ppi_med.tracking.provenance import git_commit
from ppi_med.tracking.run import RunTracker
from tests.tracking.stores import all_runs, client_of, history, only_run

QUIET = {"system_metrics": False, "config": {}}


def tracker_in(location, folder, **options):
    return RunTracker(location, folder, **{**QUIET, **options})


def test_a_run_from_beginning_to_end(location, tmp_path):
    tracker = tracker_in(
        location,
        tmp_path / "run",
        experiment="ga",
        run_name="plain",
        tags={naming.TAG_METHOD: "plain", naming.TAG_FOLD: 0, naming.TAG_MASK: None},
        params={"note": "x" * 2000},
        config={"lr": 0.1, "train": {"steps": [1, 2]}},
    )
    tracker.start()
    tracker.start()
    tracker.log_metrics({"val/auc": 0.5, "loss/cls": math.nan}, step=1)
    tracker.log_metrics({"val/auc": 0.75}, step=2)
    picture = tmp_path / "roc.png"
    picture.write_bytes(b"png")
    tracker.log_artifact(picture, "pictures")
    tracker.finish()
    tracker.finish("FAILED")

    client, run = only_run(location)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "plain"
    assert history(client, run, "val/auc") == [(1, 0.5), (2, 0.75)]
    assert math.isnan(history(client, run, "loss/cls")[0][1])
    assert run.data.params["lr"] == "0.1" and run.data.params["method"] == "plain"
    assert "2000 characters, sha256" in run.data.params["note"]
    assert run.data.tags["method"] == "plain" and run.data.tags["fold"] == "0"
    assert "mask" not in run.data.tags
    assert run.data.tags["version.monai"].startswith("1.")
    assert {a.path for a in client.list_artifacts(run.info.run_id)} == {
        "pictures",
        "resolved_config.json",
    }
    assert run.info.artifact_uri.startswith(location.artifacts)
    assert not (tmp_path / "run" / "mlflow_pending.jsonl").exists()


def test_the_commit_of_the_package_is_recorded(location, tmp_path, monkeypatch):
    expected = git_commit()
    monkeypatch.chdir(tmp_path)
    tracker = tracker_in(location, tmp_path / "run")
    tracker.start()
    tracker.finish()
    assert only_run(location)[1].data.tags.get("git_commit") == expected


def test_a_resumed_run_is_entered_again_and_its_epochs_stand_there_once(location, tmp_path):
    first = tracker_in(location, tmp_path / "run", config={"lr": 0.1, "epochs": 2})
    first.start()
    for step in (1, 2):
        first.log_metrics({"val/auc": step / 10}, step)
    first._watch.remove()  # the process is killed: nothing is closed

    second = tracker_in(location, tmp_path / "run", config={"lr": 0.1, "epochs": 5})
    second.start()
    assert only_run(location)[1].info.status == "RUNNING"
    for step in (2, 3):
        second.log_metrics({"val/auc": step / 10}, step)
    second.finish()
    assert second.run_id == first.run_id
    client, run = only_run(location)
    assert history(client, run, "val/auc") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert run.data.params["epochs"] == "2" and run.data.tags["resumed.epochs"] == "5"
    assert "resumed.lr" not in run.data.tags


def test_a_checkpoint_knows_the_run_where_the_folder_does_not(location, tmp_path):
    first = tracker_in(location, tmp_path / "a")
    first.start()
    first.finish()
    second = tracker_in(location, tmp_path / "b")
    second.load_state_dict(first.state_dict())
    second.start()
    second.finish()
    assert only_run(location)[1].info.run_id == second.run_id


def test_without_resume_the_abandoned_run_is_closed(location, tmp_path):
    first = tracker_in(location, tmp_path / "run", run_name="x")
    first.start()
    first._watch.remove()
    second = tracker_in(location, tmp_path / "run", run_name="x", resume=False)
    second.start()
    second.finish()
    found = {run.info.run_id: run.info for run in all_runs(location)}
    assert found[first.run_id].status == "KILLED"
    assert found[second.run_id].status == "FINISHED"
    assert {info.run_name for info in found.values()} == {"x", "x-2"}


def test_without_resume_a_run_that_has_ended_stays_as_it_is(location, tmp_path):
    statuses = ("FINISHED", "FAILED", "FINISHED")
    trackers = [tracker_in(location, tmp_path / "run", resume=False) for _ in statuses]
    for tracker, status in zip(trackers, statuses, strict=True):
        tracker.start()
        tracker.finish(status)
    found = {run.info.run_id: run.info.status for run in all_runs(location)}
    assert [found[tracker.run_id] for tracker in trackers] == list(statuses)


def test_without_resume_an_earlier_run_that_is_gone_is_no_error(location, tmp_path):
    first = tracker_in(location, tmp_path / "run")
    first.start()
    first.finish()
    client = client_of(location)
    client.delete_run(first.run_id)
    second = tracker_in(location, tmp_path / "run", resume=False)
    second.start()
    second.finish()
    assert [run.info.run_id for run in all_runs(location)] == [second.run_id]
    (tmp_path / "run" / "mlflow_run.json").write_text(
        json.dumps({"run_id": "0" * 32, "tracking_uri": location.uri})
    )
    third = tracker_in(location, tmp_path / "run", resume=False)
    third.start()
    third.finish()
    assert {run.info.status for run in all_runs(location)} == {"FINISHED"}


def test_a_failed_run_of_the_same_name_is_never_joined(location, tmp_path):
    for folder in ("a", "b", "c"):
        tracker = tracker_in(location, tmp_path / folder, run_name="same")
        tracker.start()
        tracker.finish("FAILED")
    assert sorted(run.info.run_name for run in all_runs(location)) == ["same", "same-2", "same-3"]


def test_a_run_that_was_deleted_is_begun_anew(location, tmp_path, caplog):
    first = tracker_in(location, tmp_path / "run")
    first.start()
    first.finish()
    client_of(location).delete_run(first.run_id)
    second = tracker_in(location, tmp_path / "run")
    second.start()
    second.finish()
    assert second.run_id != first.run_id
    assert "a new one begins" in caplog.text


def test_the_load_of_the_machine_comes_with_the_metrics(location, tmp_path):
    tracker = tracker_in(location, tmp_path / "run", system_metrics=True)
    tracker.start()
    tracker.log_metrics({"val/auc": 0.5}, 1)
    tracker.finish()
    names = only_run(location)[1].data.metrics
    assert "system/cpu_utilization_percentage" in names
    assert "system/system_memory_usage_megabytes" in names


def test_an_epoch_is_one_request(location, tmp_path):
    tracker = tracker_in(location, tmp_path / "run", system_metrics=True)
    tracker.start()
    requests = []
    client = tracker.store.client
    log_batch = client.log_batch
    client.log_batch = lambda *a, **k: (requests.append(k), log_batch(*a, **k))
    tracker.log_metrics({f"loss/{i}": 0.1 for i in range(200)}, 1)
    assert len(requests) == 1
    tracker.finish()


def test_a_dataset_is_described_without_its_rows(location, tmp_path):
    tracker = tracker_in(location, tmp_path / "run")
    tracker.start()
    rows = [{"volume_id": "v1", "site": "A", "label": 1}, {"volume_id": "v2", "label": 0}]
    for _ in range(2):  # a resumed run does so again
        tracker.log_dataset("train", rows, "train", "datalist.json")
    tracker.log_dataset("val", rows[:1], "validation")
    with pytest.raises(ValueError, match="no rows"):
        tracker.log_dataset("test", [], "test")
    tracker.finish()
    inputs = only_run(location)[1].inputs.dataset_inputs
    assert sorted(one.dataset.name for one in inputs) == ["train", "val"]
    train = next(one.dataset for one in inputs if one.dataset.name == "train")
    assert '"num_rows": 2' in train.profile
    assert "datalist.json" in train.source and "v1" not in str(train)


def test_two_processes_make_the_same_experiment(location, tmp_path, monkeypatch):
    a, b = (tracker_in(location, tmp_path / name, experiment="new") for name in "ab")
    client = b.store.client
    # b looks before a has made it, and makes it after.
    found = client.get_experiment_by_name
    answers = iter([None])
    client.get_experiment_by_name = lambda name: next(answers, None) or found(name)
    monkeypatch.setattr(
        client, "get_experiment_by_name", lambda name, n=[]: found(name) if n else n.append(1)
    )
    a.start()
    b.start()
    a.finish()
    b.finish()
    assert len({run.info.experiment_id for run in all_runs(location)}) == 1


def test_a_deleted_experiment_is_named(location, tmp_path):
    client = client_of(location)
    client.delete_experiment(client.create_experiment("gone"))
    tracker = tracker_in(location, tmp_path / "run", experiment="gone")
    with pytest.raises(UsageError, match="experiment 'gone' is deleted"):
        tracker.start()
    tracker.finish("FAILED")  # as at the exit of the process
    assert all_runs(location) == []


def test_switched_off_nothing_is_imported_or_written(tmp_path):
    code = f"""
        import sys
        from ppi_med.tracking import create_tracker
        tracker = create_tracker(None, directory={str(tmp_path / "run")!r})
        tracker.start()
        tracker.log_metrics({{"val/auc": 1.0}}, 1)
        tracker.finish()
        print(sorted(m for m in ("mlflow", "pandas", "sqlalchemy", "torch") if m in sys.modules))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


def test_the_word_none_switches_off_too(tmp_path):
    # monai.bundle.run drops overrides that are None.
    assert type(create_tracker("none", directory=tmp_path)) is NullTracker


@pytest.mark.parametrize("rank", ["1", "3"])
def test_other_processes_record_nothing(tmp_path, monkeypatch, rank):
    monkeypatch.setenv("RANK", rank)
    assert type(create_tracker(directory=tmp_path)) is NullTracker


SCRIPT = """
    import os, signal, sys, time
    from pathlib import Path
    from ppi_med.tracking.location import locate
    from ppi_med.tracking.run import RunTracker

    root, how = Path(sys.argv[1]), sys.argv[2]
    tracker = RunTracker(
        locate(root / "store"), root / "run", config={}, system_metrics=(how == "end")
    )
    tracker.start()
    tracker.log_metrics({"val/auc": 0.5}, 1)
    if how == "error":
        raise KeyError("lost")
    if how == "interrupt":
        signal.raise_signal(signal.SIGINT)
    if how == "end":
        tracker.finish()
    if how == "leave":
        sys.exit(0)
    if how == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
"""


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("terminate", "KILLED"),
        # Each imports MLflow in a process of its own.
        pytest.param("end", "FINISHED", marks=pytest.mark.slow),
        pytest.param("leave", "FAILED", marks=pytest.mark.slow),
        pytest.param("error", "FAILED", marks=pytest.mark.slow),
        pytest.param("interrupt", "KILLED", marks=pytest.mark.slow),
    ],
)
def test_however_the_process_ends_the_run_is_closed(location, tmp_path, how, status):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path), how],
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == (how in ("end", "leave"))
    if how == "terminate":
        assert done.returncode == 128 + signal.SIGTERM
    assert only_run(location)[1].info.status == status


def test_the_signals_handler_is_put_back(location, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    tracker = tracker_in(location, tmp_path / "run")
    tracker.start()
    assert signal.getsignal(signal.SIGTERM) != before
    tracker.finish()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_wrong_metric_is_an_error_and_is_not_kept(location, tmp_path):
    tracker = tracker_in(location, tmp_path / "run")
    tracker.start()
    with pytest.raises(ValueError, match="could not convert"):
        tracker.log_metrics({"val/auc": "high"}, 1)
    tracker.finish()
    assert (
        json.loads((tmp_path / "run" / "mlflow_run.json").read_text())["run_id"] == tracker.run_id
    )
