"""Runs of the tiny bundle in processes of their own, which may be killed on the way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.bundles.tiny import BUNDLE, run_bundle


@dataclass(frozen=True)
class Plan:
    """What to run, and where to die.

    Attributes:
        overrides: of the bundle's configuration.
        kill_in_iteration: die there, between the forward and the backward pass.
        kill_in_write: (part of a file's name, number): die before this write of such files is
            whole.
    """

    overrides: dict[str, Any]
    kill_in_iteration: int | None = None
    kill_in_write: tuple[str, int] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def run(plan: Plan) -> None:
    """Train by `train.json`, or die on the way."""
    torch.set_num_threads(1)
    _arrange_death(plan)
    run_bundle("train.json", plan.overrides)


def run_share(plan: Plan, result: str) -> None:
    """Train by `multi_gpu.json` as one of several processes; save its weights."""
    from monai.bundle import ConfigWorkflow

    torch.set_num_threads(1)
    os.environ.update(plan.environment)
    files = [str(BUNDLE / name) for name in ("train.json", "multi_gpu.json")]
    workflow = ConfigWorkflow(files, logging_file=False, **plan.overrides)
    workflow.initialize()
    workflow.run()
    network = workflow.parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), result)
    method = workflow.parser.get_parsed_content("train#handlers#2")
    torch.save(getattr(method, "mask", None), place_of(result))
    workflow.finalize()


def place_of(result: str | Path) -> Path:
    """Return where a process leaves the place that its method trains at, beside its weights."""
    return Path(f"{result}.place")


def _arrange_death(plan: Plan) -> None:
    import ppi_med.io
    from ppi_med.handlers import PlaceHandler, PPIHandler

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def or_die(add: Any) -> Any:
        def add_or_die(self: Any, engine: Any) -> None:
            if engine.state.iteration == plan.kill_in_iteration:
                die()
            add(self, engine)

        return add_or_die

    flush, writes = ppi_med.io._flush_to_disk, []

    def flush_or_die(path: Path) -> None:
        if plan.kill_in_write is not None and plan.kill_in_write[0] in Path(path).name:
            writes.append(path)
            if len(writes) == plan.kill_in_write[1]:
                os.truncate(path, os.path.getsize(path) // 2)
                die()
        flush(path)

    PPIHandler._add_to_loss = or_die(PPIHandler._add_to_loss)
    PlaceHandler._add_loss = or_die(PlaceHandler._add_loss)
    ppi_med.io._flush_to_disk = flush_or_die


_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "tests.conftest",  # first: MONAI imports torchvision, whose operators may be missing
        "monai.bundle",
        "monai.engines",
        "monai.handlers",
        "monai.transforms",
        "torch._dynamo",
        "mlflow.pytorch",
        "ppi_med.handlers.ppi",
        "ppi_med.handlers.resume",
        __name__,
    ]
)


def in_process(plan: Plan) -> int | None:
    """Run a plan in a process of its own; return its exit code."""
    return _exit_codes([_context.Process(target=run, args=(plan,))])[0]


def in_processes(plan: Plan, folder: Path, number: int) -> list[dict[str, torch.Tensor]]:
    """Train by several processes; return the weights that each of them ends with."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    processes, results = [], []
    for rank in range(number):
        environment = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "WORLD_SIZE": str(number),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
        }
        share = Plan(plan.overrides, environment=environment)
        results.append(folder / f"rank{rank}.pt")
        processes.append(_context.Process(target=run_share, args=(share, str(results[-1]))))
    assert _exit_codes(processes) == [0] * number
    return [torch.load(result, weights_only=True) for result in results]


def _exit_codes(processes: list[Any]) -> list[int | None]:
    for process in processes:
        process.start()
    for process in processes:
        process.join(900)
        if process.exitcode is None:
            process.kill()
    return [process.exitcode for process in processes]
