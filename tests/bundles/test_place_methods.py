"""A search and the training at what it finds: one run of MLflow, killed anywhere, in processes."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from ppi_med.handlers.publish_weights import weights_facts
from ppi_med.places import Account, Search
from tests.bundles.processes import Plan, in_process, in_processes, place_of
from tests.bundles.test_kill import assert_same, state_of
from tests.bundles.tiny import make_marked, settings
from tests.tracking.stores import all_runs, client_of, history, new_store

pytestmark = pytest.mark.slow

# Of 20 cases, 4 to a batch: 5 iterations an epoch.
QUICK = {"settings": {"steps": [60, 60], "repeats": 20}}


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_marked(tmp_path_factory.mktemp("marked") / "data")


def overrides(data: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    return settings(data, folder, method="auto", method_options=QUICK, **changes)


def test_one_run_shows_both_stages_however_often_it_is_killed(marked: Path, tmp_path: Path) -> None:
    location = new_store(tmp_path / "store")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert in_process(Plan(overrides(marked, whole))) == 0
    again = overrides(marked, killed, tracking_uri=location.uri, resume=True)
    # While the first round of the search is written; then while all of it is; in the second
    # iteration of the training; in its second epoch; while the weights are written.
    for death in (
        {"kill_in_write": ("places.npz", 1)},
        {"kill_in_write": ("places.npz", 2)},
        {"kill_in_iteration": 2},
        {"kill_in_iteration": 7},
        {"kill_in_write": (".model.pt", 1)},
    ):
        assert in_process(Plan(again, **death)) == -signal.SIGKILL, death
        (run,) = all_runs(location)
        assert run.info.status == "RUNNING"
    assert in_process(Plan(again)) == 0

    assert_same(state_of(killed, 10), state_of(whole, 10))
    for name in ("run/model.pt", "models/model.json", "run/test_predictions.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    found = Search.load(killed / "run" / "places.npz")
    assert (
        found.kind == "place" and (found.place == Search.load(whole / "run/places.npz").place).all()
    )

    (run,) = all_runs(location)
    client = client_of(location)
    assert run.info.status == "FINISHED"
    rounds = [one["round"] for one in found.history]
    assert len(rounds) >= 2
    for name in ("auc", "j_net", "j", "share"):
        expected = [(one["round"], pytest.approx(one[name])) for one in found.history]
        assert history(client, run, f"audit/rounds/{name}") == expected
    assert history(client, run, "audit/j_net") == [(0, pytest.approx(found.j_net))]
    assert [step for step, _ in history(client, run, "loss/ad")] == [1, 2]
    account = Account.of(weights_facts(killed / "models" / "model.pt")["trained"]["place"])
    assert account is not None
    tags = run.data.tags
    assert tags["audit/reason"] == account.sentence and tags["audit/method"] == "place"
    assert tags["audit/j_net"] == f"{found.j_net:.3f}" and tags["audit/places"] == str(
        len(account.j)
    )
    assert "places.npz" in [one.path for one in client.list_artifacts(run.info.run_id)]


@pytest.mark.parametrize("method", ["ppi_wbp_place", "ppi_wbp_place_coin", "ppi_wbp_place_blind"])
def test_two_processes_train_at_the_place_that_the_first_found(
    marked: Path, tmp_path: Path, method: str
) -> None:
    location = new_store(tmp_path / "store")
    changes = {"batch_size": 2, "max_epochs": 1, "tracking_uri": location.uri}
    chosen = {**overrides(marked, tmp_path, **changes), "method": method}
    first, second = in_processes(Plan(chosen), tmp_path, 2)
    for name, value in first.items():
        assert torch.isfinite(value).all() and torch.equal(value, second[name]), name
    one, other = (torch.load(place_of(tmp_path / f"rank{rank}.pt")) for rank in (0, 1))
    assert one is not None and one.any() and torch.equal(one, other)
    assert (one.numpy() == Search.load(tmp_path / "run" / "places.npz").place).all()
    account = Account.of(weights_facts(tmp_path / "models" / "model.pt")["trained"]["place"])
    assert account is not None and account.mask is not None and torch.equal(account.mask, one)
    saved = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(saved[name], value) for name, value in first.items())
    (run,) = all_runs(location)
    assert run.info.status == "FINISHED" and run.data.tags["audit/method"] == "place"
