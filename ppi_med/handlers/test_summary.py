"""The result on held-out subjects: said on the console, kept as JSON, recorded in the run."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from ignite.engine import Engine

from ppi_med.evaluation.bootstrap import Interval, bootstrap
from ppi_med.evaluation.metrics import (
    AUC,
    BRIER,
    CALIBRATION_ERROR,
    Metric,
    accuracy_at,
    sensitivity_at,
    specificity_at,
)
from ppi_med.evaluation.predictions import Predictions
from ppi_med.evaluation.threshold import youden_threshold
from ppi_med.handlers.held_out_summary import HeldOutSummary
from ppi_med.naming import TEST_AUC
from ppi_med.tracking import Tracker

_PART = "test"

logger = logging.getLogger(__name__)


class TestSummary(HeldOutSummary):
    """Measures an evaluator's predictions with an interval over subjects; in ``test#handlers``.

    It reads ``engine.state.predictions``: name a :class:`PredictionsHandler` before it.

    Args:
        path: of the JSON; None writes none.
        tracker: records the numbers in the run; None does not.
        metric: name of the AUC.
        repeats: resamples of the bootstrap over subjects.
        seed: of the bootstrap.
        finish: close the tracker's run afterwards, also where the evaluation fails.
        notes: lines to say in the end, such as where the pictures are.
        threshold_from: CSV with the validation cases' predictions; the threshold that is best on
            them (Youden) gives sensitivity, specificity and accuracy, and with these come Brier
            score and calibration error, each with its interval. None, or no such file: the AUC
            alone.

    Attributes:
        result: what was written, None before.

    Example:
        >>> TestSummary(None).result is None
        True
    """

    __test__ = False  # a name that pytest would collect

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        tracker: Tracker | None = None,
        metric: str = TEST_AUC,
        repeats: int = 2000,
        seed: int = 0,
        finish: bool = False,
        notes: tuple[str, ...] | list[str] = (),
        threshold_from: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(path, tracker, finish, notes)
        self.metric = metric
        self.repeats = repeats
        self.seed = seed
        self.threshold_from = None if threshold_from is None else Path(threshold_from)

    def measure(self, engine: Engine) -> dict[str, Any]:
        """Return the AUC, and what belongs to the validation cases' threshold."""
        predictions: Predictions = engine.state.predictions  # type: ignore[attr-defined]
        interval = self._interval(predictions)
        result = {
            self.metric: interval.value,
            f"{self.metric}_low": interval.low,
            f"{self.metric}_high": interval.high,
            "cases": len(predictions.label),
            "subjects": len(set(predictions.subject.tolist())),
            "positive": int(predictions.label.sum()),
        }
        if self.threshold_from is not None and not self.threshold_from.is_file():
            logger.warning("no threshold: there is no %s", self.threshold_from)
        elif self.threshold_from is not None:
            result |= self._at_threshold(predictions, self.threshold_from)
        return result

    def _interval(self, predictions: Predictions, metric: Metric = AUC) -> Interval:
        # Unknown subjects cannot be resampled together: each case then stands for itself.
        subjects = [
            subject or f"case {name}"
            for subject, name in zip(
                predictions.subject.tolist(), predictions.volume_id.tolist(), strict=True
            )
        ]
        return bootstrap(
            metric,
            predictions.label,
            predictions.score,
            subjects,
            repeats=self.repeats,
            seed=self.seed,
        )

    def _at_threshold(self, predictions: Predictions, validation: Path) -> dict[str, float]:
        chosen = Predictions.read(validation)
        value = youden_threshold(chosen.label, chosen.score)
        found = {f"{_PART}/threshold": value}
        for metric in (
            sensitivity_at(value),
            specificity_at(value),
            accuracy_at(value),
            BRIER,
            CALIBRATION_ERROR,
        ):
            interval = self._interval(predictions, metric)
            name = f"{_PART}/{metric.name}"
            found |= {
                name: interval.value,
                f"{name}_low": interval.low,
                f"{name}_high": interval.high,
            }
        return found

    def say(self, result: dict[str, Any]) -> None:
        """Tell the AUC with its interval, and what belongs to the threshold."""
        logger.info(
            "held-out AUC %.3f (95 %% interval over subjects %.3f to %.3f; %d cases of %d "
            "subjects, %d positive)",
            result[self.metric],
            result[f"{self.metric}_low"],
            result[f"{self.metric}_high"],
            result["cases"],
            result["subjects"],
            result["positive"],
        )
        if f"{_PART}/threshold" in result:
            names = ("sensitivity", "specificity", "brier", "ece")
            logger.info(
                "at the validation cases' threshold %.3f: %s",
                result[f"{_PART}/threshold"],
                ", ".join(f"{name} {result[f'{_PART}/{name}']:.3f}" for name in names),
            )
