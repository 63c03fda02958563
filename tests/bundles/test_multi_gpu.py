"""`multi_gpu.json` with two processes on the CPU."""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ppi_med.bundle_tools.check import check_workflow
from ppi_med.experiments.cells import bundle_command
from tests.bundles.processes import Plan, in_processes
from tests.bundles.tiny import BUNDLE, ROOT, settings
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


@pytest.mark.slow
def test_by_torchrun_the_second_process_says_and_records_nothing(
    phantom: Path, tmp_path: Path
) -> None:
    location = new_store(tmp_path / "store")
    overrides = settings(phantom, tmp_path, tracking_uri=location.uri, batch_size=2, max_epochs=1)
    files = [str(BUNDLE / name) for name in ("train.json", "multi_gpu.json")]
    words = bundle_command([Path("both")], overrides)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["--log-dir", str(tmp_path / "logs"), "--redirects", "3", "--tee", "0"]
    command += ["-m", "monai.bundle", "run", "--config_file", str(files)]
    command += shlex.split(words)[shlex.split(words).index("both") + 1 :]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]

    def said(rank: int) -> str:
        logs = [*(tmp_path / "logs").glob(f"**/{rank}/stdout.log")]
        logs += [*(tmp_path / "logs").glob(f"**/{rank}/stderr.log")]
        assert len(logs) == 2
        return "\n".join(log.read_text() for log in logs)

    assert "held-out AUC" in said(0)
    # MONAI repeats the arguments in each process before the configuration is read; then silence.
    after = said(1).split(" - INFO - ---")[-1]
    assert "INFO" not in after and "AUC" not in after, after
    (run,) = all_runs(location)
    assert run.info.status == "FINISHED"
