"""Keep the weights of the best epoch; end training when validation no longer improves."""

from __future__ import annotations

import io
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from ignite.engine import Engine, Events
from torch import nn

from ppi_med import naming
from ppi_med.handlers.base import Handler, Steps
from ppi_med.io import atomic_path, write_json
from ppi_med.training.checkpoints import plain
from ppi_med.training.state import unwrapped

logger = logging.getLogger(__name__)


class BestCheckpoint(Handler):
    """Write the network's `state_dict` whenever a validation beats all earlier ones.

    One of `validate#handlers`. The file is a plain `state_dict`, as MONAI's `CheckpointLoader`
    and `ckpt_export` read it; a JSON file of the same name beside it says metric, value and epoch.
    A NaN is never the best. Among equals the last is kept: if a validation saturates, as an in-site
    AUC does on a shortcut, the first of equals would be the least trained.

    Args:
        network: the network whose weights are kept.
        path: path of the file, such as "models/model.pt".
        metric: key of `evaluator.state.metrics`; its name gives its direction.
        start_epoch: first epoch that may be the best, from 1.
        ties: which of several equals is kept, "last" or "first".
        facts: facts of the training, such as its method and seed; "trained" in the JSON file.

    Attributes:
        value: the best so far, None before the first.
        epoch: epoch of the best, counted from 1.

    Examples:
        >>> import tempfile
        >>> evaluator = Engine(lambda engine, batch: None)
        >>> best = BestCheckpoint(nn.Linear(2, 1), tempfile.mkdtemp() + "/model.pt")
        >>> best.attach(evaluator)
        >>> evaluator.state.metrics = {"val/auc": 0.7}
        >>> _ = evaluator.run([0])
        >>> best.value
        0.7
    """

    def __init__(
        self,
        network: nn.Module,
        path: str | os.PathLike[str],
        metric: str = naming.VAL_AUC,
        start_epoch: int = 1,
        ties: Literal["last", "first"] = "last",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        if ties not in ("last", "first"):
            raise ValueError(f"ties is {ties!r}, expected 'last' or 'first'.")
        self.network = network
        self.path = Path(path)
        self.metric = metric
        self.start_epoch = start_epoch
        self.ties = ties
        self.facts = dict(facts or {})
        self.value: float | None = None
        self.epoch: int | None = None

    def _steps(self) -> Steps:
        return [(Events.COMPLETED, self._compare)]

    def state_dict(self) -> dict[str, Any]:
        """Return the best so far."""
        return {"value": self.value, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the best so far."""
        self.value, self.epoch = state["value"], state["epoch"]

    def _compare(self, engine: Engine) -> None:
        value = metric_of(engine, self.metric)
        equal = self.ties == "last" and value == self.value
        better = equal or improves(self.metric, value, self.value)
        if engine.state.epoch < self.start_epoch or not better:
            return
        self.value, self.epoch = value, int(engine.state.epoch)
        if getattr(engine.state, "rank", 0) == 0:
            self._write(getattr(engine.state, "known_inputs", None))

    def _write(self, known_inputs: Any = None) -> None:
        # Through memory: torch.save would put the temporary file's random name into the file.
        buffer = io.BytesIO()
        torch.save(plain(unwrapped(self.network).state_dict()), buffer)
        with atomic_path(self.path) as temporary:
            temporary.write_bytes(buffer.getbuffer())
        found: dict[str, Any] = {"metric": self.metric, "value": self.value, "epoch": self.epoch}
        if self.facts:
            found["trained"] = self.facts
        if known_inputs is not None:
            found["inputs"] = known_inputs.facts()
        write_json(self.path.with_suffix(".json"), found)
        logger.info("Best %s so far: %.4f (epoch %s).", self.metric, self.value, self.epoch)


def metric_of(engine: Engine, name: str) -> float:
    """Return a metric of an evaluator that has run.

    Raises:
        KeyError: if there is none of that name, naming those there are.
    """
    metrics = engine.state.metrics
    if name not in metrics:
        raise KeyError(
            f"The evaluator has no metric {name!r}, only {sorted(metrics)}: name it so under "
            "key_val_metric or additional_metrics."
        )
    return float(metrics[name])


def improves(name: str, value: float, best: float | None, by: float = 0.0) -> bool:
    """Say whether `value` of the named metric is better than `best` by more than `by`."""
    if math.isnan(value):
        return False
    if best is None or math.isnan(best):
        return True
    return naming.direction(name) * (value - best) > by


class EarlyStop:
    """Stop the trainer after `patience` validations without a better metric.

    One of `train#handlers`. Its count is part of the run's state: a resumed run stops where an
    uninterrupted one does. A NaN counts as no improvement.

    Args:
        validator: the evaluator whose metric is watched.
        patience: validations without improvement that end the training, 1 or more.
        metric: key of `validator.state.metrics`; its name gives its direction.
        min_delta: least improvement that counts.
        start_epoch: first epoch that counts, from 1; before it nothing is compared (warm-up).

    Raises:
        ValueError: if `patience` is less than 1 or `min_delta` negative.

    Examples:
        >>> trainer, evaluator = (Engine(lambda engine, batch: None) for _ in range(2))
        >>> evaluator.state.metrics = {"val/auc": 0.5}
        >>> EarlyStop(evaluator, patience=2).attach(trainer)
        >>> _ = trainer.on(Events.EPOCH_COMPLETED)(lambda engine: evaluator.run([0]))
        >>> trainer.run([0], max_epochs=10).epoch
        3
    """

    def __init__(
        self,
        validator: Engine,
        patience: int,
        metric: str = naming.VAL_AUC,
        min_delta: float = 0.0,
        start_epoch: int = 1,
    ) -> None:
        if patience < 1 or min_delta < 0:
            raise ValueError(
                f"Got patience={patience} and min_delta={min_delta}, expected 1 or more and 0 or "
                "more."
            )
        self.validator = validator
        self.patience = patience
        self.metric = metric
        self.min_delta = min_delta
        self.start_epoch = start_epoch
        self.best: float | None = None
        self.waited = 0
        self._trainer: Engine | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer.

        Raises:
            RuntimeError: if it is attached already.
        """
        if self._trainer is not None:
            raise RuntimeError("An EarlyStop is attached once: name it once in handlers.")
        self._trainer = engine
        self.validator.add_event_handler(Events.COMPLETED, self._compare)

    def state_dict(self) -> dict[str, Any]:
        """Return the best so far and the validations since."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them."""
        self.best, self.waited = state["best"], state["waited"]

    def _compare(self, engine: Engine) -> None:
        trainer = self._trainer
        if trainer is None or trainer.state.epoch < self.start_epoch:
            return
        value = metric_of(engine, self.metric)
        if improves(self.metric, value, self.best, by=self.min_delta):
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            logger.info("No better %s for %d validations: training ends.", self.metric, self.waited)
            trainer.terminate()
