"""DeLong's variance of the AUC and of a difference of two, for independent cases.

E. R. DeLong et al., Biometrics 44 (1988) 837-845. It ignores subjects: with more than one case per
subject use `ppi_med.evaluation.bootstrap`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ppi_med.evaluation.checks import Floats, checked
from ppi_med.evaluation.roc import require_both_classes


@dataclass(frozen=True)
class DeLong:
    """AUC(a) - AUC(b) on the same independent cases.

    Attributes:
        difference: difference of the two areas.
        variance: variance of the difference.
        p_value: two-sided, normal approximation; 1 where the variance is 0 and so is the
            difference, 0 where only the variance is.
    """

    difference: float
    variance: float
    p_value: float


def delong_test(labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike) -> DeLong:
    """Test whether two methods have the same AUC on the same independent cases.

    Args:
        labels: `(n,)`, 0 or 1, at least two of each.
        scores_a: `(n,)`.
        scores_b: `(n,)`.

    Raises:
        ValueError: where a class has fewer than two cases.
    """
    y, a = checked(labels, scores_a)
    _, b = checked(labels, scores_b)
    both = np.stack([a, b])
    covariance = _covariance(y, both)
    areas = [float(_components(y, s)[0].mean()) for s in both]
    difference = areas[0] - areas[1]
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    return _tested(difference, variance)


def mean_of_folds(folds: Sequence[DeLong]) -> DeLong:
    """Return the mean difference over folds whose cases differ, and its test.

    Each fold has its own two networks, and scores of different folds have no common scale, so areas
    are compared inside each fold. Variance of the mean: sum of the variances / k^2.

    Args:
        folds: test of each fold.

    Raises:
        ValueError: without a fold.

    Examples:
        >>> found = mean_of_folds([DeLong(0.03, 0.0001, 0.0), DeLong(0.01, 0.0003, 0.0)])
        >>> round(found.difference, 4), round(found.p_value, 4)
        (0.02, 0.0455)
    """
    if not folds:
        raise ValueError("Got no fold, expected at least one.")
    difference = sum(fold.difference for fold in folds) / len(folds)
    return _tested(difference, sum(fold.variance for fold in folds) / len(folds) ** 2)


def _tested(difference: float, variance: float) -> DeLong:
    if variance <= 1e-15:
        return DeLong(difference, 0.0, 1.0 if abs(difference) < 1e-12 else 0.0)
    return DeLong(difference, variance, math.erfc(abs(difference) / math.sqrt(2 * variance)))


def _covariance(y: Floats, scores: Floats) -> Floats:
    """Return the covariance `(k, k)` of k areas."""
    require_both_classes(y)
    if min(y.sum(), (1 - y).sum()) < 2:
        raise ValueError("Got a class with a single case, expected at least two of each.")
    pairs = [_components(y, s) for s in scores]
    total = np.zeros((len(pairs), len(pairs)))
    for side in (0, 1):
        parts = np.stack([pair[side] for pair in pairs])
        total += np.atleast_2d(np.cov(parts, ddof=1)) / parts.shape[1]
    return total


def _components(y: Floats, s: Floats) -> tuple[Floats, Floats]:
    """Return each positive's share of negatives below, each negative's share of positives above."""
    positive, negative = s[y == 1], s[y == 0]
    return _share_below(positive, negative), 1 - _share_below(negative, positive)


def _share_below(values: Floats, others: Floats) -> Floats:
    """Return for each value the share of the others below it; equal values count half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values, side="left")
    upto = np.searchsorted(ordered, values, side="right")
    return (below + upto) / (2 * ordered.size)
