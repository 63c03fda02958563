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
from torch import distributed, multiprocessing, nn

from ppi_med.baselines.strong_augmentation import StrongAugmentation
from ppi_med.handlers import PPIHandler
from ppi_med.intervention import PPITerms
from tests.handlers.ppi.trainers import batches, trainer
from tests.handlers.ppi.trainers import network as plain_network
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


def _draws(rank: int, folder: str) -> None:
    """Train, resume from the first process's state, and train on; keep what is drawn from."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(_trained_and_resumed(Path(folder) / "state.pt", rank), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def _trained_and_resumed(state: Path, rank: int = 0) -> list[torch.Tensor]:
    found, kinds = [], (
        lambda: PPIHandler(terms=PPITerms(pairing="any", fill="exchange", seed=3)),
        lambda: StrongAugmentation(seed=3),
    )  # fmt: skip
    for kind in kinds:
        first, second = kind(), kind()
        trainer(plain_network(), batches(2), [first]).run()
        if rank == 0:
            torch.save(first.state_dict(), state)
        if distributed.is_initialized():
            distributed.barrier()
        second.load_state_dict(torch.load(state, weights_only=True))
        trainer(plain_network(), batches(2), [second]).run()
        for handler in (first, second):
            terms = getattr(handler, "terms", None)
            generator = handler._random if terms is None else terms.random.generator
            found.append(torch.rand(3, generator=generator))
        if distributed.is_initialized():
            distributed.barrier()
    return found


def test_each_process_has_draws_of_its_own(tmp_path: Path) -> None:
    """The first those of a single process; the second others, also after a resume."""
    multiprocessing.spawn(_draws, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    alone = _trained_and_resumed(tmp_path / "alone.pt")
    assert len(alone) == 4
    for mine, others, expected in zip(first, second, alone, strict=True):
        assert torch.equal(mine, expected)
        assert not torch.equal(mine, others)
