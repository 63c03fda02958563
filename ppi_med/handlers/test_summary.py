"""The result on held-out subjects: said on the console, kept as JSON, recorded in the run."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
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
from ppi_med.evaluation.roc import youden_threshold
from ppi_med.handlers.held_out_summary import HeldOutSummary
from ppi_med.handlers.publish_weights import weights_facts
from ppi_med.naming import OTHER_SITES, SAME_SITE, SELECTED, TEST_AUC, VAL_AUC
from ppi_med.tracking import Tracker

_PART = "test"

logger = logging.getLogger(__name__)


class TestSummary(HeldOutSummary):
    """Measures an evaluator's predictions with an interval over subjects; in `test#handlers`.

    It reads `engine.state.predictions`: name a `PredictionsHandler` before it.

    Args:
        path: path of the JSON; None writes none.
        tracker: records the numbers in the run; None does not.
        metric: name of the AUC.
        repeats: resamples of the bootstrap over subjects.
        seed: seed of the bootstrap.
        finish: close the tracker's run afterwards, also where the evaluation fails.
        notes: lines to say in the end, such as where the pictures are.
        threshold_from: CSV with the validation cases' predictions; the threshold that is best on
            them (Youden) gives sensitivity, specificity and accuracy, and with these come Brier
            score and calibration error, each with its interval. None, or no such file: the AUC
            alone.
        train_sites: sites that were trained on, for the means over these and over the others;
            None: no such means.
        checkpoint: file of the tested weights; the validation AUC in the JSON file beside it is
            recorded with the result.

    Attributes:
        result: what was written, None before.

    Examples:
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
        train_sites: Sequence[str] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(path, tracker, finish, notes)
        self.metric = metric
        self.repeats = repeats
        self.seed = seed
        self.threshold_from = None if threshold_from is None else Path(threshold_from)
        self.train_sites = train_sites
        self.checkpoint = checkpoint

    def measure(self, engine: Engine) -> dict[str, Any]:
        """Return the AUC, that of each site, and what belongs to the validation's threshold.

        The predictions are recorded too: a run with these, once finished, is complete.
        """
        predictions: Predictions = engine.state.predictions  # type: ignore[attr-defined]
        self.tracker.log_predictions(predictions.to_json())
        interval = self._interval(predictions)
        result = {
            self.metric: interval.value,
            f"{self.metric}_low": interval.low,
            f"{self.metric}_high": interval.high,
            "cases": len(predictions.label),
            "subjects": len(set(predictions.subject.tolist())),
            "positive": int(predictions.label.sum()),
            **auc_by_site(predictions, self.metric, self.train_sites),
            **self._selected(),
        }
        if self.threshold_from is not None and not self.threshold_from.is_file():
            logger.warning("no threshold: there is no %s", self.threshold_from)
        elif self.threshold_from is not None:
            result |= self._at_threshold(predictions, self.threshold_from)
        return result

    def _selected(self) -> dict[str, float]:
        facts = {} if self.checkpoint is None else weights_facts(self.checkpoint)
        return {SELECTED: float(facts["value"])} if facts.get("metric") == VAL_AUC else {}

    def _interval(self, predictions: Predictions, metric: Metric = AUC) -> Interval:
        return bootstrap(
            metric,
            predictions.label,
            predictions.score,
            predictions.units,
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


def auc_by_site(
    predictions: Predictions, metric: str = TEST_AUC, train_sites: Sequence[str] | None = None
) -> dict[str, float]:
    """Return the AUC of each named site, its mean over the training sites and over the others.

    Args:
        predictions: on held-out cases.
        metric: name of the AUC; a site's is `metric/site`.
        train_sites: sites that were trained on; None: no means.
    """
    by_site = {
        site: float(AUC(cases.label, cases.score))
        for site in sorted(set(predictions.site.tolist()) - {""})
        for cases in (predictions.of_site(site),)
    }
    found = {f"{metric}/{site}": value for site, value in by_site.items()}
    for name, seen in ((SAME_SITE, True), (OTHER_SITES, False)):
        values = [v for site, v in by_site.items() if (site in (train_sites or ())) is seen]
        if values and train_sites is not None:
            found[name] = sum(values) / len(values)
    # A site with one class only has no AUC.
    return {name: value for name, value in found.items() if value == value}
