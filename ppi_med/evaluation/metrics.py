"""Each measure with its name and its direction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ppi_med import naming
from ppi_med.evaluation import calibration, roc, threshold
from ppi_med.evaluation.checks import Floats

Function = Callable[[ArrayLike, ArrayLike, ArrayLike | None], Floats]


@dataclass(frozen=True)
class Metric:
    """A measure of labels and scores that knows its name and which way is better.

    Attributes:
        name: as logged behind the part of the data, such as "auc" in "test/auc".
        direction: 1 where larger is better, -1 where smaller is.
        function: ``function(labels, scores, weights)``; weights ``(..., n)`` or None.

    Examples:
        >>> float(AUC([0, 1], [0.2, 0.7]))
        1.0
        >>> BRIER.better(0.1, than=0.2)
        True
    """

    name: str
    direction: Literal[1, -1]
    function: Function

    def __call__(
        self, labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
    ) -> Floats:
        """Return the measure, one value for each leading index of the weights."""
        return self.function(labels, scores, weights)

    def better(self, value: float, than: float) -> bool:
        """Say whether `value` is strictly better; NaN is never better, anything beats NaN."""
        if np.isnan(value):
            return False
        return bool(np.isnan(than) or self.direction * (value - than) > 0)

    def best(self, values: Iterable[float]) -> int:
        """Return the index of the best value, the first of equals.

        Raises:
            ValueError: where there is no value that is a number.
        """
        found = np.asarray(list(values), dtype=np.float64) * self.direction
        if found.size == 0 or np.isnan(found).all():
            raise ValueError(
                f"Got no value of {self.name} that is a number, expected at least one."
            )
        return int(np.nanargmax(found))


AUC = Metric(naming.AUC, 1, roc.auc)
BRIER = Metric("brier", -1, calibration.brier)
CALIBRATION_ERROR = Metric("ece", -1, calibration.calibration_error)


def sensitivity_at(value: float) -> Metric:
    """Return the sensitivity at this threshold as a metric."""
    return Metric("sensitivity", 1, _at(threshold.sensitivity, value))


def specificity_at(value: float) -> Metric:
    """Return the specificity at this threshold as a metric."""
    return Metric("specificity", 1, _at(threshold.specificity, value))


def accuracy_at(value: float) -> Metric:
    """Return the share of right calls at this threshold as a metric."""
    return Metric(naming.ACCURACY, 1, partial(_accuracy, value))


def _at(function: Callable[..., Floats], value: float) -> Function:
    def measured(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> Floats:
        return function(labels, scores, value, weights)

    return measured


def _accuracy(
    value: float, labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None
) -> Floats:
    """Brier score of hard calls is the share of wrong ones."""
    calls = (np.asarray(scores, dtype=np.float64) >= value).astype(np.float64)
    return 1 - calibration.brier(labels, calls, weights)
