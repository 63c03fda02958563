"""End training when validation has not improved for a while."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events

from ppi_med import naming
from ppi_med.handlers.best_checkpoint import improves, metric_of

logger = logging.getLogger(__name__)


class EarlyStop:
    """Stop the trainer after `patience` validations without a better metric.

    One of `train#handlers`. Its count is part of the run's state: a resumed run stops where an
    uninterrupted one does. A NaN counts as no improvement.

    Args:
        validator: the evaluator whose metric is watched.
        patience: validations without improvement that end the training, 1 or more.
        metric: key of `validator.state.metrics`; its direction is known from its name.
        min_delta: how much better counts as better.
        start_epoch: first epoch that counts, from 1; before it nothing is compared (warm-up).

    Raises:
        ValueError: where `patience` is less than 1 or `min_delta` negative.

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
            RuntimeError: where it is attached already.
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
