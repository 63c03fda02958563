"""A tiny training with everything that has a state, in a process of its own that is killed."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

SIZE, CASES, BATCH, EPOCHS = 8, 20, 4, 4


@dataclass(frozen=True)
class Plan:
    """What to run, and where to die."""

    folder: str
    workers: int = 0
    accumulation: int = 1
    iterations: int | None = None
    epochs: int = EPOCHS
    epoch_length: int | None = None
    patience: int = 100
    resume: bool = True
    exact: bool = True
    processes: int = 1
    kill_at_iteration: int | None = None
    kill_in_write: int | None = None
    kill_after_write: int | None = None


class Average:
    """A running mean of the weights, as a handler."""

    def __init__(self, network: nn.Module) -> None:
        self.network = getattr(network, "module", network)
        self.mean = {k: v.clone().float() for k, v in self.network.state_dict().items()}

    def attach(self, engine) -> None:
        from ignite.engine import Events

        engine.add_event_handler(Events.ITERATION_COMPLETED, self.step)
        # An epoch whose start draws numbers, as a random schedule would.
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: torch.rand(3))

    def step(self, engine) -> None:
        for key, value in self.network.state_dict().items():
            self.mean[key].mul_(0.9).add_(value.float(), alpha=0.1)

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state) -> None:
        self.mean = state["mean"]


class Tiny(nn.Module):
    """Convolution, batch norm and dropout: buffers and random numbers in training."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten()
        )
        self.head = nn.Linear(4 * (SIZE - 2) ** 2, 1)

    def forward(self, image):
        return self.head(self.layers(image))


def build(plan: Plan):
    """Return trainer, network and the handlers of interest."""
    from monai.data import CacheDataset, DataLoader
    from monai.engines import SupervisedEvaluator, SupervisedTrainer
    from monai.handlers import LrScheduleHandler, ValidationHandler
    from monai.transforms import Compose, EnsureTyped, RandFlipd, RandGaussianNoised, RandRotated
    from monai.utils import set_determinism

    from ppi_med.handlers import (
        AUC,
        BestCheckpoint,
        EarlyStop,
        PredictionsHandler,
        ResumeHandler,
    )
    from ppi_med.training import ExactDataLoader

    set_determinism(seed=5)
    rng = np.random.default_rng(0)
    items = [
        {
            "image": rng.normal(size=(1, SIZE, SIZE)).astype(np.float32) + 0.3 * (i % 2),
            "label": np.array([i % 2], dtype=np.float32),
            "volume_id": f"v{i}",
        }
        for i in range(CASES)
    ]
    augment = Compose(
        [
            EnsureTyped(keys=["image", "label"]),
            RandFlipd(keys="image", prob=0.5),
            RandRotated(keys="image", prob=0.5, range_x=0.3),
            RandGaussianNoised(keys="image", prob=0.5),
        ]
    )
    dataset = CacheDataset(items, augment, progress=False)
    workers = {"multiprocessing_context": "fork"} if plan.workers else {}
    kind = ExactDataLoader if plan.exact else DataLoader
    seed = {"seed": 3} if plan.exact else {}
    loader = kind(
        dataset, batch_size=BATCH, shuffle=True, num_workers=plan.workers, **seed, **workers
    )
    network = Tiny()
    if plan.processes > 1:
        network = nn.parallel.DistributedDataParallel(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    best = BestCheckpoint(network, Path(plan.folder) / "model.pt")
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(CacheDataset(items[:8], progress=False), batch_size=4),
        network=network,
        key_val_metric={"val/auc": AUC()},
        val_handlers=[best, PredictionsHandler(Path(plan.folder) / "predictions.csv")],
    )
    average = Average(network)
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=plan.epochs,
        train_data_loader=loader,
        epoch_length=plan.epoch_length,
        network=network,
        optimizer=optimizer,
        loss_function=nn.BCEWithLogitsLoss(),
        accumulation_steps=plan.accumulation,
        train_handlers=[
            ResumeHandler(
                Path(plan.folder) / "checkpoints", resume=plan.resume, iterations=plan.iterations
            ),
            average,
            LrScheduleHandler(schedule),
            ValidationHandler(interval=1, validator=evaluator),
            EarlyStop(evaluator, patience=plan.patience),
        ],
    )
    return trainer, network, average, best


def run(plan: Plan, rank: int = 0) -> None:
    """Train; write the hash of all that came out, or die on the way."""
    from ignite.engine import Events
    from torch import distributed

    torch.set_num_threads(1)
    if plan.processes > 1:
        meeting = f"file://{plan.folder}/meeting{os.getppid()}"
        distributed.init_process_group(
            "gloo", init_method=meeting, rank=rank, world_size=plan.processes
        )
    trainer, network, average, best = build(plan)
    _arrange_death(plan, trainer)
    started: list[int] = []
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda e: started.append(e.state.epoch))
    trainer.run()
    buffer = io.BytesIO()
    network = getattr(network, "module", network)
    parts = [network.state_dict(), average.mean, trainer.optimizer.state_dict(), best.state_dict()]
    torch.save(parts, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    found = {"digest": digest, "iteration": trainer.state.iteration, "started": started}
    name = "result.json" if rank == 0 else f"result{rank}.json"
    Path(plan.folder, name).write_text(json.dumps(found), encoding="utf-8")


def _arrange_death(plan: Plan, trainer) -> None:
    from ignite.engine import Events

    import ppi_med.io

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    if plan.kill_at_iteration is not None:
        event = Events.GET_BATCH_COMPLETED(event_filter=lambda e, _: _due(e, plan))
        trainer.add_event_handler(event, die)
    flush, rename, writes = ppi_med.io._flush_to_disk, os.replace, []

    def flush_or_die(path):
        if ".checkpoint_" in str(path):
            writes.append(path)
            if len(writes) == plan.kill_in_write:
                die()
        flush(path)

    def rename_and_die(source, target):
        rename(source, target)
        if len(writes) == plan.kill_after_write:
            die()

    ppi_med.io._flush_to_disk = flush_or_die
    os.replace = rename_and_die


def _due(engine, plan: Plan) -> bool:
    # The event's own filter would look at an attribute; the batch of this iteration is there.
    return engine.state.iteration + 1 == plan.kill_at_iteration


_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "monai.engines",
        "monai.handlers",
        "monai.transforms",
        "torch._dynamo",
        "ppi_med.handlers.predictions",
        "ppi_med.handlers.resume",
        __name__,
    ]
)


def in_process(plan: Plan) -> int:
    """Run in a process of its own; return its exit code."""
    Path(plan.folder).mkdir(parents=True, exist_ok=True)
    for left in Path(plan.folder).glob("meeting*"):
        left.unlink()
    ranks = range(plan.processes)
    processes = [_context.Process(target=run, args=(plan, rank)) for rank in ranks]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    if any(process.exitcode is None for process in processes):
        for process in processes:
            process.kill()
        raise TimeoutError("the run did not end")
    return processes[0].exitcode


def result(folder) -> dict:
    """Return the hash of the final state, the count of iterations and the epochs started."""
    return json.loads(Path(folder, "result.json").read_text(encoding="utf-8"))
