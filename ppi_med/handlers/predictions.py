"""What the network said about each case of an evaluation, written as a table."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from ppi_med.distributed import rows_of_all
from ppi_med.evaluation.predictions import Predictions
from ppi_med.evaluation.scores import binary_label, positive_logit
from ppi_med.handlers.metrics import logits_and_labels
from ppi_med.tracking.base import NullTracker, Tracker

ID, SUBJECT, SITE = "volume_id", "subject", "site"

logger = logging.getLogger(__name__)


class PredictionsHandler:
    """Collects an evaluator's predictions, writes them as CSV; one of `validate#handlers`.

    The columns are volume_id, subject, site, label and score (probability of label 1). The record
    is also left in `engine.state.predictions`, where pictures and summaries find it.

    Args:
        path: path of the CSV; None writes none.
        positive: index of the positive class where the network has two or more logits.
        best_only: write only after the best epoch so far (of the evaluator's key metric).
        tracker: records the file in the run; None does not.
        folder: folder of the run, for the file.

    Raises:
        KeyError: while evaluating, where the batches have no "volume_id".

    Examples:
        >>> evaluator = Engine(lambda engine, batch: batch)
        >>> PredictionsHandler().attach(evaluator)
        >>> batch = {"pred": torch.zeros(1, 1), "label": torch.ones(1), "volume_id": ["v1"]}
        >>> evaluator.run([batch]).predictions.score.tolist()
        [0.5]
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        positive: int = 1,
        best_only: bool = False,
        tracker: Tracker | None = None,
        folder: str = "predictions",
    ) -> None:
        self.path = None if path is None else Path(path)
        self.positive = positive
        self.best_only = best_only
        self.tracker = tracker if tracker is not None else NullTracker()
        self.folder = folder
        self._rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator.

        Raises:
            RuntimeError: where it is attached to it already.
        """
        if engine.has_event_handler(self._collect, Events.ITERATION_COMPLETED):
            raise RuntimeError("A PredictionsHandler is attached once: name it once in handlers.")
        engine.add_event_handler(Events.STARTED, self._clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._gather)

    def _clear(self, engine: Engine) -> None:
        self._rows = []

    def _collect(self, engine: Engine) -> None:
        logits, labels = logits_and_labels(engine.state.output)
        scores = torch.sigmoid(positive_logit(logits, self.positive)).tolist()
        values = binary_label(labels, self.positive).tolist()
        names = column(engine.state.batch, ID, len(scores))
        if names is None:
            raise KeyError(
                f"The batch has no {ID!r}, only {_keys(engine.state.batch)}: keep it in the "
                "datalist and in the transforms."
            )
        subjects = column(engine.state.batch, SUBJECT, len(scores)) or [""] * len(scores)
        sites = column(engine.state.batch, SITE, len(scores)) or [""] * len(scores)
        for row in zip(names, subjects, sites, values, scores, strict=True):
            self._rows.append(dict(zip((ID, SUBJECT, SITE, "label", "score"), row, strict=True)))

    def _gather(self, engine: Engine) -> None:
        found = Predictions.from_rows(rows_of_all(self._rows))
        engine.state.predictions = found  # type: ignore[attr-defined]
        if self.path is None or getattr(engine.state, "rank", 0) > 0 or not self._wanted(engine):
            return
        found.write(self.path)
        self.tracker.log_artifact(self.path, self.folder)

    def _wanted(self, engine: Engine) -> bool:
        best = getattr(engine.state, "best_metric_epoch", None)
        return not self.best_only or best == engine.state.epoch


def column(batch: Any, key: str, size: int) -> list[str] | None:
    """Return a key of each case of a batch as text, decollated or not; None where it is missing.

    Raises:
        ValueError: where the batch has another number of values than of predictions.
    """
    if isinstance(batch, Mapping):
        values = batch.get(key)
    elif isinstance(batch, Sequence) and batch and isinstance(batch[0], Mapping):
        values = [case[key] for case in batch] if key in batch[0] else None
    else:
        values = None
    if values is None:
        return None
    texts = [_text(value) for value in values]
    if len(texts) != size:
        raise ValueError(
            f"The batch has {len(texts)} values of {key!r} and {size} predictions, expected one "
            "each."
        )
    return texts


def _text(value: Any) -> str:
    return str(value.item()) if isinstance(value, torch.Tensor) else str(value)


def _keys(batch: Any) -> list[str]:
    if isinstance(batch, Sequence) and batch:
        batch = batch[0]
    return sorted(map(str, batch)) if isinstance(batch, Mapping) else []
