"""`multi_gpu.json` with two processes on the CPU."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from ppi_med.bundle_tools.check import check_workflow
from tests.bundles.processes import Plan, in_processes
from tests.bundles.tiny import BUNDLE, settings
from tests.tracking.stores import all_runs, new_store


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights(phantom: Path, tmp_path: Path) -> None:
    location = new_store(tmp_path / "store")
    overrides = settings(phantom, tmp_path, tracking_uri=location.uri, batch_size=2, max_epochs=1)
    first, second = in_processes(Plan(overrides), tmp_path, 2)
    assert list(first) == list(second)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    # Running statistics of both shares, so not those of a single case.
    assert all(torch.isfinite(value).all() for value in first.values())

    saved = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(saved[name], value) for name, value in first.items())
    # The first process alone wrote, and wrote each case once.
    with (tmp_path / "run" / "test_predictions.csv").open() as file:
        names = [row["volume_id"] for row in csv.DictReader(file)]
    assert len(names) == len(set(names)) == 5
    assert json.loads((tmp_path / "run" / "test.json").read_text())["cases"] == 5
    (run,) = all_runs(location)
    assert run.info.status == "FINISHED"
    assert {"loss/con", "val/auc", "test/auc"} <= set(run.data.metrics)


def test_what_fails_without_processes_is_only_what_needs_them(
    phantom: Path, tmp_path: Path
) -> None:
    files = [BUNDLE / "train.json", BUNDLE / "multi_gpu.json"]
    report = check_workflow(files, BUNDLE / "metadata.json", settings(phantom, tmp_path))
    assert {failure.key for failure in report.failures} == {
        "network", "validate::sampler", "test::sampler"
    }  # fmt: skip
    assert all("process group" in failure.reason for failure in report.failures)
