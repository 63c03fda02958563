"""Kill -9 in the middle of an epoch and while a file is written: the same weights in the end."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bundles.processes import Plan, in_process
from tests.bundles.tiny import settings
from tests.tracking.stores import all_runs, client_of, history, new_store

pytestmark = pytest.mark.slow

EPOCHS, PER_EPOCH = 3, 4


def state_of(folder: Path, iterations: int = EPOCHS * PER_EPOCH) -> dict[str, Any]:
    """Return the state in the last checkpoint of a run, without what names its MLflow run."""
    from ppi_med.training import CheckpointStore

    state = CheckpointStore(folder / "run" / "checkpoints").load()
    assert state is not None and state["iteration"] == iterations
    tracking = state["objects"].pop("TrackingHandler")
    assert set(tracking) == {"tracker", "means"}
    return state


def assert_same(one: Any, other: Any, where: str = "state") -> None:
    """Bit for bit."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), where
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}.{index}")
    else:
        assert one == other, where


@pytest.fixture(scope="module")
def uninterrupted(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    # Checkpoints within an epoch must not matter either: this run has none.
    assert in_process(Plan(settings(phantom, folder, max_epochs=EPOCHS))) == 0
    assert set(state_of(folder)["objects"]) >= {"network", "optimizer", "PPIHandler"}
    return folder


@pytest.mark.parametrize("iterations", [None, 3])
def test_killed_twice_and_resumed(
    phantom: Path, tmp_path: Path, uninterrupted: Path, iterations: int | None
) -> None:
    location = new_store(tmp_path / "store")
    changes = {"max_epochs": EPOCHS, "checkpoint_iterations": iterations}
    first = settings(phantom, tmp_path, tracking_uri=location.uri, **changes)
    again = {**first, "resume": True}
    killed = -signal.SIGKILL
    # In the third of four iterations of the second epoch; then while the next checkpoint but one
    # is being written, half of it; then while the best weights are.
    assert in_process(Plan(first, kill_in_iteration=PER_EPOCH + 3)) == killed
    assert not (tmp_path / "models" / "model.pt").exists()
    assert in_process(Plan(again, kill_in_write=(".checkpoint_", 1))) == killed
    assert in_process(Plan(again, kill_in_write=(".model.pt", 1))) == killed
    (run,) = all_runs(location)
    assert run.info.status == "RUNNING"
    assert in_process(Plan(again)) == 0

    assert_same(state_of(tmp_path), state_of(uninterrupted))
    for name in ("run/model.pt", "models/model.pt", "run/test_predictions.csv", "run/test.json"):
        assert (tmp_path / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    assert {p.name for p in (tmp_path / "run" / "checkpoints").glob(".*")} <= {".lock"}

    (run,) = all_runs(location)
    assert run.info.status == "FINISHED"
    client = client_of(location)
    for name in ("loss/total", "loss/con", "val/auc"):
        assert [step for step, _ in history(client, run, name)] == [1, 2, 3], name
