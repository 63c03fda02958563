"""torchrun with two gloo processes ends with the weights of one process on the global batch.

The tolerance is that of float64 sums in another order: 1e-9 relative. Batch norm: each process
normalises by its own share, as DistributedDataParallel does everywhere; so with it the weights are
those of one process that normalises share by share, and the running buffers differ until
`AverageBuffers` averages them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.handlers.ppi.two_processes import BatchNormOfShares, by_one_process, network

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_same_weights_as_one_process(norm: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node=2", "-m", "tests.handlers.ppi.two_processes"]
    command += [str(tmp_path / "weights"), norm]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shares = [torch.load(tmp_path / f"weights.{rank}", weights_only=True) for rank in (0, 1)]
    expected = by_one_process(BatchNormOfShares if norm == "batch" else None)
    start = network(nn.BatchNorm2d if norm == "batch" else None).state_dict()
    trained = [name for name in expected if "running" not in name and "tracked" not in name]
    for name in trained:
        assert torch.equal(shares[0][name], shares[1][name]), name
        torch.testing.assert_close(shares[0][name], expected[name], rtol=1e-9, atol=1e-12)
        assert not torch.equal(shares[0][name], start[name]), name
