"""Make a network's running statistics the same on all processes."""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events
from torch import distributed, nn

from ppi_med.distributed import in_use, world_size
from ppi_med.handlers.base import Handler, Steps
from ppi_med.training.state import unwrapped


class AverageBuffers(Handler):
    """Averages the network's floating point buffers over all processes before each evaluation.

    One of `validate#handlers` if several processes train one network by `DistributedDataParallel`
    with `broadcast_buffers=False`, as PPI needs it: each process then has the running statistics of
    its own share, and would validate and save a different network. With a single process it does
    nothing.

    Args:
        network: the network, wrapped or not.

    Examples:
        >>> evaluator = Engine(lambda engine, batch: None)
        >>> AverageBuffers(nn.BatchNorm2d(3)).attach(evaluator)
        >>> evaluator.run([0]).epoch
        1
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def _steps(self) -> Steps:
        return [(Events.STARTED, self._average)]

    @torch.no_grad()
    def _average(self, engine: Engine) -> None:
        if not in_use():
            return
        for buffer in unwrapped(self.network).buffers():
            if buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer.div_(world_size())
