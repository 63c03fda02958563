"""One line per epoch on the console, for watching a training."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from ppi_med.handlers.base import Handler, Steps
from ppi_med.naming import VAL_AUC
from ppi_med.pace import Pace


class EpochMeans:
    """Adds up scalars by name; a name counts only the iterations in which it occurred.

    Examples:
        >>> means = EpochMeans()
        >>> means.add({"loss/cls": torch.tensor(1.0), "loss/con": 4.0})
        >>> means.add({"loss/cls": torch.tensor(3.0)})
        >>> means.take()
        {'loss/cls': 2.0, 'loss/con': 4.0}
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | float] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Any]) -> None:
        """Add one iteration's scalars: numbers, or tensors of one element on any device."""
        for name, value in values.items():
            if isinstance(value, Tensor):
                value = value.detach().as_subclass(Tensor).reshape(())
                value = value.to(torch.float32 if value.device.type == "mps" else torch.float64)
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """Return the means and start again."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return what has been added."""
        return {
            "sums": {name: float(total) for name, total in self._sums.items()},
            "counts": dict(self._counts),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what had been added."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])


logger = logging.getLogger(__name__)


class EpochLines(Handler):
    """Logs losses, validation metrics, time and time left after each epoch; in `train#handlers`.

    Name it after the validation, whose metrics it shows. In an epoch of more than ten seconds it
    says how far that is.

    Args:
        validator: the evaluator whose metrics are shown; None shows losses only.
        metrics: their names.

    Examples:
        >>> trainer = Engine(lambda engine, batch: {"loss": batch})
        >>> EpochLines(None).attach(trainer)
        >>> trainer.run([1.0]).epoch
        1
    """

    def __init__(self, validator: Engine | None, metrics: Sequence[str] = (VAL_AUC,)) -> None:
        self.validator = validator
        self.metrics = tuple(metrics)
        self._means = EpochMeans()
        self._epochs = self._steps_done = Pace(0)

    def _steps(self) -> Steps:
        return [
            (Events.EPOCH_STARTED, self._start),
            (Events.STARTED, self._begin),
            (Events.ITERATION_COMPLETED, self._collect),
            (Events.EPOCH_COMPLETED, self._line),
        ]

    def _begin(self, engine: Engine) -> None:
        self._epochs = Pace(0)

    def _start(self, engine: Engine) -> None:
        state, self._means = engine.state, EpochMeans()
        if not self._epochs.total:  # a resumed training has fewer to go
            self._epochs = Pace((state.max_epochs or 0) - state.epoch + 1)
        self._steps_done = Pace(state.epoch_length or 0, f"epoch {state.epoch}, steps", logger.info)

    def _collect(self, engine: Engine) -> None:
        self._means.add(_losses(engine.state.output))
        self._steps_done.step()

    def _line(self, engine: Engine) -> None:
        values = self._means.take()
        if self.validator is not None:
            found = self.validator.state.metrics
            values |= {name: float(found[name]) for name in self.metrics if name in found}
        seconds = time.monotonic() - self._steps_done.started
        self._epochs.done += 1
        shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        logger.info(
            "epoch %d/%s  %s  (%.1f s%s)",
            engine.state.epoch,
            engine.state.max_epochs,
            shown,
            seconds,
            self._epochs.left(),
        )


def _losses(output: Any) -> dict[str, Any]:
    first = output[0] if isinstance(output, Sequence) else output
    return {name: first[name] for name in first if "loss" in str(name)}
