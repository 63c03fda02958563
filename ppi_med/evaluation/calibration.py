"""Whether a probability means what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ppi_med.evaluation.checks import (
    Floats,
    checked,
    checked_probabilities,
    checked_weights,
    ratio,
)

Bins = Literal["width", "count"]


@dataclass(frozen=True)
class Reliability:
    """What a reliability diagram shows, a value for each bin that holds a case.

    Attributes:
        predicted: mean probability in the bin.
        observed: share of label 1 in the bin.
        count: cases in the bin.
    """

    predicted: Floats
    observed: Floats
    count: Floats


def brier(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Return the mean of (p - y)^2; smaller is better, 0.25 for a constant one half.

    Args:
        labels: ``(n,)``, 0 or 1.
        probabilities: ``(n,)``, of label 1.
        weights: ``(..., n)``, how often each case counts; default once.

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
        labels: ``(n,)``, 0 or 1.
        probabilities: ``(n,)``, of label 1.
        weights: ``(..., n)``, how often each case counts; default once.
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


def reliability(
    labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 10, by: Bins = "width"
) -> Reliability:
    """Return the points of a reliability diagram, empty bins left out.

    Args:
        labels: ``(n,)``, 0 or 1.
        probabilities: ``(n,)``, of label 1.
        bins: number of bins.
        by: see :func:`calibration_error`.
    """
    y, p = checked(labels, probabilities)
    member = _membership(checked_probabilities(p), bins, by)
    count = member.sum(axis=0)
    used = count > 0
    return Reliability(
        predicted=(p @ member)[used] / count[used],
        observed=(y @ member)[used] / count[used],
        count=count[used],
    )


def _membership(p: Floats, bins: int, by: Bins) -> Floats:
    """Return ``(n, bins)``: 1 where the case is in the bin. A bin holds its lower edge."""
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
