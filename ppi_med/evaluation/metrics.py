"""Each measure with its name and its direction, calibration included."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ppi_med import naming
from ppi_med.evaluation import roc
from ppi_med.evaluation.checks import (
    Floats,
    checked,
    checked_probabilities,
    checked_weights,
    ratio,
)

Bins = Literal["width", "count"]
Function = Callable[[ArrayLike, ArrayLike, ArrayLike | None], Floats]


@dataclass(frozen=True)
class Metric:
    """A measure of labels and scores that knows its name and which way is better.

    Attributes:
        name: as logged behind the part of the data, such as "auc" in "test/auc".
        direction: 1 where larger is better, -1 where smaller is.
        function: `function(labels, scores, weights)`; weights `(..., n)` or None.

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
        """Return the measure, one value per leading index of the weights."""
        return self.function(labels, scores, weights)

    def better(self, value: float, than: float) -> bool:
        """Say whether `value` is strictly better; NaN is never better, any number beats NaN."""
        if np.isnan(value):
            return False
        return bool(np.isnan(than) or self.direction * (value - than) > 0)

    def best(self, values: Iterable[float]) -> int:
        """Return the index of the best value, the first among equals.

        Raises:
            ValueError: if there is no value that is a number.
        """
        found = np.asarray(list(values), dtype=np.float64) * self.direction
        if found.size == 0 or np.isnan(found).all():
            raise ValueError(
                f"Got no value of {self.name} that is a number, expected at least one."
            )
        return int(np.nanargmax(found))


def brier(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Return the mean of (p - y)^2; smaller is better, 0.25 for a constant one half.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)`, of label 1.
        weights: `(..., n)`, how often each case counts; default once.

    Examples:
        >>> round(float(brier([0, 1], [0.2, 0.6])), 3)
        0.1
    """
    y, p = checked(labels, probabilities)
    w = checked_weights(weights, y.size)
    return ratio((w * (checked_probabilities(p) - y) ** 2).sum(axis=-1), w.sum(axis=-1))


def calibration_error(
    labels: ArrayLike,
    probabilities: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    bins: int = 10,
    by: Bins = "width",
) -> Floats:
    """Return the expected calibration error of the probability of label 1; smaller is better.

    The sum over bins of (cases in the bin / all cases) |share of label 1 - mean probability|.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)`, of label 1.
        weights: `(..., n)`, how often each case counts; default once.
        bins: number of bins.
        by: "width" (equal parts of [0, 1]) or "count" (about equally many cases, from quantiles).

    Examples:
        >>> round(float(calibration_error([0, 1, 1, 1], [0.1, 0.9, 0.9, 0.9])), 3)
        0.1
    """
    y, p = checked(labels, probabilities)
    w = checked_weights(weights, y.size)
    member = _membership(checked_probabilities(p), bins, by)
    gap = (w * (y - p)) @ member
    return ratio(np.abs(gap).sum(axis=-1), w.sum(axis=-1))


AUC = Metric(naming.AUC, 1, roc.auc)
BRIER = Metric("brier", -1, brier)
CALIBRATION_ERROR = Metric("ece", -1, calibration_error)


def sensitivity_at(value: float) -> Metric:
    """Return the sensitivity at this threshold as a metric."""
    return Metric("sensitivity", 1, _at(roc.sensitivity, value))


def specificity_at(value: float) -> Metric:
    """Return the specificity at this threshold as a metric."""
    return Metric("specificity", 1, _at(roc.specificity, value))


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
    return 1 - brier(labels, calls, weights)


def _membership(p: Floats, bins: int, by: Bins) -> Floats:
    """Return `(n, bins)`: 1 where the case is in the bin. A bin holds its lower edge."""
    if bins < 1:
        raise ValueError(f"Got bins={bins}, expected at least one.")
    if by == "width":
        inner = np.linspace(0, 1, bins + 1)[1:-1]
    elif by == "count":
        inner = np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1])
    else:
        raise ValueError(f'Got by={by!r}, expected "width" or "count".')
    index = np.searchsorted(inner, p, side="right")
    return np.eye(bins)[index]
