"""The result on held-out cases: printed, written as JSON, recorded; then the run is closed."""

from __future__ import annotations

import logging
import math
import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from scipy.stats import binomtest

from ppi_med.evaluation.bootstrap import bootstrap
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
from ppi_med.handlers.base import Handler, Steps
from ppi_med.handlers.predictions import AREA, ENERGY_ALL, ENERGY_TOP, POINTING, Row
from ppi_med.handlers.publish_weights import weights_facts
from ppi_med.io import write_json
from ppi_med.naming import (
    OTHER_SITES,
    SAME_SITE,
    SELECTED,
    TEST_ACCURACY,
    TEST_AUC,
    VAL_AUC,
    metric,
)
from ppi_med.tracking import NullTracker, Tracker
from ppi_med.tracking.notes import result as result_sentence
from ppi_med.training.steps import on_failure

logger = logging.getLogger(__name__)


class HeldOutSummary(Handler):
    """Measures an evaluation when it has ended, on the first process only.

    Args:
        path: path of the JSON; None writes none.
        tracker: records the numbers in the run (those with a `/` in their name); None does not.
        finish: close the tracker's run afterwards, even if the evaluation fails.
        notes: lines to print at the end, such as where the pictures are.

    Attributes:
        result: what was written, None before.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        tracker: Tracker | None = None,
        finish: bool = False,
        notes: Sequence[str] = (),
    ) -> None:
        self.path = None if path is None else Path(path)
        self.tracker = tracker if tracker is not None else NullTracker()
        self.finish = finish
        self.notes = tuple(notes)
        self.result: dict[str, Any] | None = None

    @abstractmethod
    def measure(self, engine: Engine) -> dict[str, Any]:
        """Return the measures by name, and counts."""

    @abstractmethod
    def say(self, result: dict[str, Any]) -> None:
        """Print the result."""

    def _steps(self) -> Steps:
        # In a separate evaluation nothing else opens the run.
        return [(Events.COMPLETED, self._summarise), (Events.STARTED, self.tracker.start)]

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator; its failure ends the run too."""
        super().attach(engine)
        if self.finish:
            on_failure(engine, self._fail)

    def _fail(self, engine: Engine, error: BaseException) -> None:
        from ppi_med.tracking.ending import status_of

        self.tracker.finish(status_of(error))

    def _summarise(self, engine: Engine) -> None:
        if getattr(engine.state, "rank", 0) > 0:
            return
        self.result = self.measure(engine)
        if self.path is not None:
            write_json(self.path, self.result)
        self.tracker.log_metrics(measures_of(self.result), step=0)
        self.tracker.describe(result_sentence(self.result))
        if self.finish:
            self.tracker.finish()
        self.say(self.result)
        for note in (*self.notes, self.tracker.where()):
            if note:
                logger.info("%s", note)


def measures_of(result: dict[str, Any]) -> dict[str, float]:
    """Return the recorded part of a result: its measures, not its counts.

    >>> measures_of({"test/auc": 0.9, "cases": 12})
    {'test/auc': 0.9}
    """
    return {name: float(value) for name, value in result.items() if "/" in name}


_LOCALISATION = (ENERGY_TOP, ENERGY_ALL, POINTING, AREA)


class ClassSummary(HeldOutSummary):
    """Measures the cases of an evaluation; one of `test#handlers`, after `ClassCases`.

    `test/accuracy` of all cases with Wilson's 95 % interval; with several sites (conditions, such
    as swapped backgrounds) also `test/accuracy/<site>`; if maps were measured, `test/energy_top`,
    `test/energy_all`, `test/pointing` and `test/box_area`.

    Arguments and attributes are those of `HeldOutSummary`.

    Examples:
        >>> ClassSummary().result is None
        True
    """

    def measure(self, engine: Engine) -> dict[str, Any]:
        """Return accuracy, also by site, and how well maps fit the boxes."""
        return summarise_cases(engine.state.cases)  # type: ignore[attr-defined]

    def say(self, result: dict[str, Any]) -> None:
        """Print all measures in one line."""
        shown = ", ".join(f"{name} {value:.3f}" for name, value in measures_of(result).items())
        logger.info("held-out cases: %d; %s", result["cases"], shown)


def summarise_cases(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the measures of cases by name.

    Raises:
        ValueError: if there is none.
    """
    if not rows:
        raise ValueError("Got no cases, expected at least one: check what was selected.")
    right = [row["label"] == row["predicted"] for row in rows]
    interval = binomtest(sum(right), len(right)).proportion_ci(method="wilson")
    result: dict[str, Any] = {
        TEST_ACCURACY: sum(right) / len(right),
        f"{TEST_ACCURACY}_low": float(interval.low),
        f"{TEST_ACCURACY}_high": float(interval.high),
    }
    sites = sorted({row["site"] for row in rows})
    for site in sites if len(sites) > 1 else ():
        own = [ok for ok, row in zip(right, rows, strict=True) if row["site"] == site]
        result[f"{TEST_ACCURACY}/{site}"] = sum(own) / len(own)
    for name in _LOCALISATION:
        found = [row[name] for row in rows if not math.isnan(row.get(name, math.nan))]
        if found:
            result[metric("test", name)] = sum(found) / len(found)
    return result | {"cases": len(rows), "classes": len({row["label"] for row in rows})}


_PART = "test"


class TestSummary(HeldOutSummary):
    """Measures an evaluator's predictions with an interval over subjects; in `test#handlers`.

    It reads `engine.state.predictions`: name a `PredictionsHandler` before it.

    Args:
        path: path of the JSON; None writes none.
        tracker: records the numbers in the run; None does not.
        metric: name of the AUC.
        repeats: resamples of the bootstrap over subjects.
        seed: seed of the bootstrap.
        finish: close the tracker's run afterwards, even if the evaluation fails.
        notes: lines to print at the end, such as where the pictures are.
        threshold_from: CSV with the validation cases' predictions; their best threshold (Youden)
            gives sensitivity, specificity and accuracy; Brier score and calibration error are
            added, each with its interval. None, or no such file: the AUC alone.
        train_sites: sites of the training, for the means over these and over the others; None: no
            such means.
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
        """Return the AUC, that of each site, and the measures at the validation's threshold.

        The predictions are recorded too: a finished run with them is complete.
        """
        predictions: Predictions = engine.state.predictions  # type: ignore[attr-defined]
        self.tracker.log_predictions(predictions.to_json())
        result: dict[str, Any] = {
            **self._with_interval(self.metric, predictions, AUC),
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

    def _with_interval(
        self, name: str, predictions: Predictions, metric: Metric
    ) -> dict[str, float]:
        found = bootstrap(
            metric,
            predictions.label,
            predictions.score,
            predictions.units,
            repeats=self.repeats,
            seed=self.seed,
        )
        return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}

    def _at_threshold(self, predictions: Predictions, validation: Path) -> dict[str, float]:
        chosen = Predictions.read(validation)
        value = youden_threshold(chosen.label, chosen.score)
        found = {f"{_PART}/threshold": value}
        for measure in (
            sensitivity_at(value),
            specificity_at(value),
            accuracy_at(value),
            BRIER,
            CALIBRATION_ERROR,
        ):
            found |= self._with_interval(f"{_PART}/{measure.name}", predictions, measure)
        return found

    def say(self, result: dict[str, Any]) -> None:
        """Print the AUC with its interval, and the measures at the threshold."""
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
        train_sites: sites of the training; None: no means.
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
    # A site with only one class has no AUC.
    return {name: value for name, value in found.items() if value == value}
