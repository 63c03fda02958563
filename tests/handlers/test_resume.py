from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from ppi_med.errors import UsageError
from ppi_med.handlers import ResumeHandler
from tests.handlers.exact_run import BATCH, CASES, EPOCHS, Plan, in_process, result

LENGTH = CASES // BATCH
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The final state of a run that nobody disturbed, for a plan."""
    known = {}

    def run(**options):
        key = tuple(sorted(options.items()))
        if key not in known:
            folder = str(tmp_path_factory.mktemp("whole"))
            assert in_process(Plan(folder, **options)) == 0
            known[key] = result(folder)
        return known[key]

    return run


def resumed(folder, *deaths, **options):
    """Run until each death in turn, then to the end."""
    for death in deaths:
        assert in_process(Plan(str(folder), **options, **death)) == KILLED
    assert in_process(Plan(str(folder), **options)) == 0
    return result(folder)


def same(found: dict, expected: dict) -> bool:
    """Compare hash and iterations; the epochs that were started differ."""
    return all(found[key] == expected[key] for key in ("digest", "iteration"))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_killed_in_an_epoch_and_in_a_write_it_ends_the_same(
    tmp_path, uninterrupted, workers, accumulation
):
    expected = uninterrupted(accumulation=accumulation)
    found = resumed(
        tmp_path,
        {"kill_at_iteration": LENGTH + 3},  # in the second epoch
        # The first write of this process is that of the second epoch; it is half done.
        {"kill_in_write": 1},
        workers=workers,
        accumulation=accumulation,
    )
    assert same(found, expected)
    assert found["started"] == [2, 3, 4]


def test_workers_do_not_matter(uninterrupted):
    assert uninterrupted(accumulation=1) == uninterrupted(accumulation=1, workers=2)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_checkpoint_within_an_epoch_is_continued_there(tmp_path, uninterrupted, workers):
    options = {"accumulation": 2, "iterations": 1, "workers": workers}
    expected = uninterrupted(accumulation=2)
    found = resumed(tmp_path, {"kill_at_iteration": LENGTH + 4}, **options)
    assert same(found, expected)
    assert found["started"] == [2, 3, 4]


def test_what_was_done_within_the_epoch_is_not_done_again(tmp_path):
    plan = Plan(str(tmp_path), iterations=2, kill_at_iteration=5)
    assert in_process(plan) == KILLED
    newest = sorted(Path(tmp_path, "checkpoints").glob("*.pt"))[-1]
    assert "0000000004" in newest.name


def test_killed_in_the_first_epoch_it_starts_from_the_same_weights(tmp_path, uninterrupted):
    found = resumed(tmp_path, {"kill_at_iteration": 2})
    assert same(found, uninterrupted(accumulation=1))


def test_killed_right_after_the_rename(tmp_path, uninterrupted):
    found = resumed(tmp_path, {"kill_after_write": 3})
    assert same(found, uninterrupted(accumulation=1))
    assert found["started"] == [3, 4]


def test_epochs_of_another_length_than_the_loader(tmp_path, uninterrupted):
    for length in (3, 7):
        expected = uninterrupted(epoch_length=length)
        found = resumed(
            tmp_path / str(length), {"kill_at_iteration": 2 * length + 2}, epoch_length=length
        )
        assert same(found, expected)
        within = resumed(
            tmp_path / f"{length} within",
            {"kill_at_iteration": 2 * length - 1},
            epoch_length=length,
            iterations=1,
        )
        assert same(within, expected)


def test_a_finished_run_is_not_trained_again(tmp_path, uninterrupted):
    expected = uninterrupted(accumulation=1)
    assert same(resumed(tmp_path), expected)
    again = resumed(tmp_path)
    assert same(again, expected)
    assert again["started"] == []


def test_a_longer_training_goes_on_where_the_shorter_ended(tmp_path, uninterrupted):
    resumed(tmp_path, epochs=2)
    found = resumed(tmp_path)
    assert same(found, uninterrupted(accumulation=1))
    assert found["started"] == [3, 4]


def test_a_run_that_stopped_early_stays_stopped(tmp_path, uninterrupted):
    expected = uninterrupted(patience=1, epochs=40)
    assert expected["iteration"] < 40 * LENGTH
    found = resumed(tmp_path, {"kill_at_iteration": LENGTH + 2}, patience=1, epochs=40)
    assert same(found, expected)
    again = resumed(tmp_path, patience=1, epochs=40)
    assert same(again, expected)
    assert again["started"] == []


def test_without_resume_it_starts_over(tmp_path, uninterrupted):
    assert in_process(Plan(str(tmp_path), kill_at_iteration=LENGTH + 3)) == KILLED
    found = resumed(tmp_path, resume=False)
    assert found == uninterrupted(accumulation=1)


def test_another_loader_is_not_exact_so_this_test_can_fail(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    assert in_process(Plan(str(whole), exact=False)) == 0
    found = resumed(broken, {"kill_at_iteration": LENGTH + 3}, exact=False)
    assert not same(found, result(whole))


@pytest.mark.slow
def test_two_processes_are_resumed_exactly_and_gather_what_they_predict(tmp_path):
    options = {"processes": 2, "accumulation": 1}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert in_process(Plan(str(whole), **options)) == 0
    found = resumed(broken, {"kill_at_iteration": LENGTH}, iterations=1, **options)
    assert same(found, result(whole))
    # The share of each process is half of the epoch.
    assert found["iteration"] == EPOCHS * -(-CASES // (2 * BATCH))
    lines = (broken / "predictions.csv").read_text().splitlines()
    assert len(lines) == 1 + 8
    assert len(list((broken / "checkpoints").glob("*.pt"))) == 2


@pytest.fixture
def interrupted(tmp_path):
    """The folder of a run that was killed in its third epoch: two checkpoints."""
    assert in_process(Plan(str(tmp_path), kill_at_iteration=2 * LENGTH + 2)) == KILLED
    return tmp_path


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        del content[len(content) // 2 :]
    elif how == "flipped":
        content[len(content) // 2] ^= 1
    elif how == "empty":
        content.clear()
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("how", ["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_is_passed_over(interrupted, uninterrupted, how):
    old, new = sorted((interrupted / "checkpoints").glob("*.pt"))
    damage(new, how)
    found = resumed(interrupted)
    assert same(found, uninterrupted(accumulation=1))
    assert found["started"] == [2, 3, 4]


def test_two_trainings_do_not_share_a_folder(tmp_path):
    (tmp_path / ".lock").touch()
    code = (
        "import fcntl, sys; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX);"
        "print(1, flush=True)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code + "; sys.stdin.read()", str(tmp_path / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    other.stdout.readline()
    trainer = Engine(lambda engine, batch: None)
    ResumeHandler(tmp_path, resume=False).attach(trainer)
    with pytest.raises(UsageError, match="Another training writes to"):
        trainer.run([1])
    other.communicate()
    trainer.run([1])


def test_the_error_messages_of_a_wrong_resume(interrupted, caplog):
    from tests.handlers.exact_run import build

    trainer, *_ = build(Plan(str(interrupted), epoch_length=4))
    with pytest.raises(RuntimeError, match="has 5 iterations an epoch, this run 4"):
        trainer.run()

    trainer, *_ = build(Plan(str(interrupted)))
    trainer._event_handlers[trainer.last_event_name] = []
    for event, entries in trainer._event_handlers.items():
        trainer._event_handlers[event] = [
            entry
            for entry in entries
            if type(getattr(entry[0], "__self__", 0)).__name__ != "Average"
        ]
    with pytest.raises(RuntimeError, match=r"has that of \['Average'\] besides"):
        trainer.run()

    for path in (interrupted / "checkpoints").glob("*.pt"):
        damage(path, "cut")
    trainer, *_ = build(Plan(str(interrupted)))
    with pytest.raises(RuntimeError, match="All 2 checkpoints in .* are damaged"):
        trainer.run()


def test_the_warning_of_a_damaged_checkpoint_is_one_line(interrupted, caplog):
    from ppi_med.training import CheckpointStore

    store = CheckpointStore(interrupted / "checkpoints")
    damage(store.files()[0], "flipped")
    with caplog.at_level(logging.WARNING):
        assert store.load()["iteration"] == LENGTH
    assert len(caplog.records) == 1
    assert "Damaged checkpoint skipped" in caplog.text


def test_left_overs_of_a_killed_write_are_removed(interrupted):
    left = interrupted / "checkpoints" / ".checkpoint_1_0.pt.abc.tmp.pt"
    left.write_bytes(b"half")
    resumed(interrupted)
    assert not left.exists()
    assert len(list((interrupted / "checkpoints").glob("*.pt"))) == 2


def test_the_best_weights_are_on_disk_and_load_into_the_network(interrupted):
    from tests.handlers.exact_run import Tiny

    resumed(interrupted)
    Tiny().load_state_dict(torch.load(interrupted / "model.pt", weights_only=True))
    assert '"metric": "val/auc"' in (interrupted / "model.json").read_text()


def test_a_stock_trainer_says_that_its_loader_is_not_exact(tmp_path, caplog):
    from tests.handlers.exact_run import build

    trainer, *_ = build(Plan(str(tmp_path), exact=False, epochs=1))
    with caplog.at_level(logging.WARNING, "ppi_med"):
        trainer.run()
    assert "only with ppi_med.training.ExactDataLoader" in caplog.text


def test_attaching_twice_and_wrong_options_are_refused(tmp_path):
    from ignite.engine import Engine

    from ppi_med.handlers import ResumeHandler

    handler = ResumeHandler(tmp_path)
    handler.attach(Engine(lambda engine, batch: None))
    with pytest.raises(RuntimeError, match="attached once"):
        handler.attach(Engine(lambda engine, batch: None))
    with pytest.raises(ValueError, match="expected 1 or more"):
        ResumeHandler(tmp_path, iterations=0)
    with pytest.raises(ValueError, match="keep=1"):
        ResumeHandler(tmp_path, keep=1)


def test_nothing_is_left_of_the_copies(tmp_path):
    """A copied folder resumes elsewhere: nothing in a checkpoint names a place."""
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    assert in_process(Plan(str(first), kill_at_iteration=LENGTH + 3)) == KILLED
    shutil.copytree(first, second)
    assert same(resumed(first), resumed(second))
    assert EPOCHS == 4
