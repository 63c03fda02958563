"""Sets the epoch of a network, so that it attenuates delta on its schedule."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from ppi_med.handlers.base import Handler, Steps


class AttentionSchedule(Handler):
    """Calls `network.set_epoch(epoch)`, counted from 0, at the start of each epoch.

    It has no state: a resumed trainer starts at its epoch and sets the same value.

    Args:
        network: has `set_epoch`, such as `MultiViewClassifier`; also wrapped for parallel
            training.

    Raises:
        TypeError: if the network has no `set_epoch`.

    Examples:
        >>> from ppi_med.networks import MultiViewClassifier
        >>> network = MultiViewClassifier(delta=10.0, delta_epochs=2, delta_final=0.01)
        >>> trainer = Engine(lambda engine, batch: None)
        >>> AttentionSchedule(network).attach(trainer)
        >>> _ = trainer.run([0], max_epochs=2)
        >>> round(network.attention.delta, 4)
        1.0
    """

    def __init__(self, network: nn.Module) -> None:
        if isinstance(network, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            network = network.module
        set_epoch: Any = getattr(network, "set_epoch", None)
        if not callable(set_epoch):
            raise TypeError(
                f"{type(network).__name__} has no set_epoch(epoch), which AttentionSchedule calls: "
                "leave the handler out, or give it a MultiViewClassifier."
            )
        self._set_epoch = set_epoch

    def _steps(self) -> Steps:
        return [(Events.EPOCH_STARTED, self._on_epoch)]

    def _on_epoch(self, engine: Engine) -> None:
        self._set_epoch(engine.state.epoch - 1)
