from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from ppi_med.handlers import AverageBuffers, PublishWeights
from ppi_med.handlers.publish_weights import weights_facts


def trainer() -> Engine:
    return Engine(lambda engine, batch: None)


def weights(folder: Path, content: bytes = b"new") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.pt").write_bytes(content)
    (folder / "model.json").write_text('{"epoch": 3}')
    return folder / "model.pt"


def test_weights_and_their_facts_are_published_at_the_end(tmp_path: Path) -> None:
    source, target = weights(tmp_path / "run"), tmp_path / "models" / "model.pt"
    engine = trainer()
    PublishWeights(source, target).attach(engine)
    seen = []
    engine._process_function = lambda engine, batch: seen.append(target.exists())
    engine.run([0, 1], max_epochs=2)
    assert seen == [False] * 4
    assert target.read_bytes() == b"new"
    assert weights_facts(target) == {"epoch": 3}


def test_a_training_that_fails_publishes_nothing(tmp_path: Path) -> None:
    source, target = weights(tmp_path / "run"), weights(tmp_path / "models", b"old")

    def fail(engine: Engine, batch: object) -> None:
        raise RuntimeError("lost")

    engine = Engine(fail)
    PublishWeights(source, target).attach(engine)
    with pytest.raises(RuntimeError, match="lost"):
        engine.run([0])
    assert target.read_bytes() == b"old"


def test_source_and_target_may_be_the_same(tmp_path: Path) -> None:
    source = weights(tmp_path)
    engine = trainer()
    PublishWeights(source, source).attach(engine)
    engine.run([0])
    assert source.read_bytes() == b"new" and weights_facts(source) == {"epoch": 3}
    assert sorted(os.listdir(tmp_path)) == ["model.json", "model.pt"]


def test_other_processes_and_missing_weights(tmp_path: Path) -> None:
    engine = trainer()
    engine.state.rank = 1
    PublishWeights(weights(tmp_path / "run"), tmp_path / "a.pt").attach(engine)
    PublishWeights(tmp_path / "none.pt", tmp_path / "b.pt").attach(engine)
    engine.run([0])
    assert not (tmp_path / "a.pt").exists() and not (tmp_path / "b.pt").exists()
    assert weights_facts(tmp_path / "b.pt") == {}


def test_attached_twice() -> None:
    engine = trainer()
    for handler in (PublishWeights("a", "b"), AverageBuffers(nn.BatchNorm1d(2))):
        handler.attach(engine)
        with pytest.raises(RuntimeError, match="attached once"):
            handler.attach(engine)


def test_buffers_of_a_single_process_stay() -> None:
    norm = nn.BatchNorm1d(2)
    norm.running_mean.copy_(torch.tensor([1.0, -2.0]))
    evaluator = trainer()
    AverageBuffers(norm).attach(evaluator)
    evaluator.run([0])
    assert norm.running_mean.tolist() == [1.0, -2.0]


def test_buffers_are_averaged_over_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_average, args=(str(tmp_path),), nprocs=2)
    means = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert torch.equal(means[0], means[1])
    assert means[0].tolist() == [0.5, 1.5]


def _average(rank: int, folder: str) -> None:
    from torch import distributed

    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", world_size=2, rank=rank
    )
    norm = nn.BatchNorm1d(2)
    norm.running_mean.copy_(torch.tensor([float(rank), 1.0 + rank]))
    evaluator = trainer()
    AverageBuffers(norm).attach(evaluator)
    evaluator.run([0])
    torch.save(norm.running_mean, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()
