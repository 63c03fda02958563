"""The ROC curve, the area under it (with DeLong's variance), the threshold of validation cases.

Ties are counted exactly. A case is called positive if its score is at least the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ppi_med.evaluation.checks import Floats, checked, checked_weights, ratio


@dataclass(frozen=True)
class RocCurve:
    """Points of an ROC curve, from (0, 0) to (1, 1).

    Attributes:
        false_positive_rate: share of label 0 with a score of at least the threshold.
        sensitivity: share of label 1 with a score of at least the threshold.
        threshold: descending; the first is infinite (no case is called positive).
    """

    false_positive_rate: Floats
    sensitivity: Floats
    threshold: Floats


def auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Return the area under the ROC curve: P(s_1 > s_0) + P(s_1 = s_0) / 2.

    Args:
        labels: `(n,)`, 0 or 1.
        scores: `(n,)`, of any scale.
        weights: `(..., n)`, how often each case counts; default once. There is one area per leading
            index, at the cost of a single sort.

    Returns:
        Shape `(...)`; NaN where one of the classes has no weight.

    Raises:
        ValueError: see `ppi_med.evaluation.checks.checked`.

    Examples:
        >>> float(auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8]))
        0.875
    """
    y, s = checked(labels, scores)
    w = checked_weights(weights, y.size)
    positive, negative, _ = _weight_by_score(y, s, w)
    below = np.cumsum(negative, axis=-1) - negative
    won = (positive * (below + negative / 2)).sum(axis=-1)
    return ratio(won, positive.sum(axis=-1) * negative.sum(axis=-1))


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> RocCurve:
    """Return the ROC curve, one point for each distinct score.

    Args:
        labels: `(n,)`, 0 or 1, both present.
        scores: `(n,)`.

    Raises:
        ValueError: if only one class is present, or the input is not as above.

    Examples:
        >>> roc_curve([0, 1], [0.2, 0.7]).threshold.tolist()
        [inf, 0.7, 0.2]
    """
    y, s = checked(labels, scores)
    require_both_classes(y)
    positive, negative, distinct = _weight_by_score(y, s, np.ones(y.size))
    true = np.cumsum(positive[::-1]) / positive.sum()
    false = np.cumsum(negative[::-1]) / negative.sum()
    return RocCurve(
        false_positive_rate=np.concatenate([[0.0], false]),
        sensitivity=np.concatenate([[0.0], true]),
        threshold=np.concatenate([[np.inf], distinct[::-1]]),
    )


def sensitivity(
    labels: ArrayLike, scores: ArrayLike, threshold: float, weights: ArrayLike | None = None
) -> Floats:
    """Return the share of label 1 that is called positive; NaN where there is no label 1.

    Args:
        labels: `(n,)`, 0 or 1.
        scores: `(n,)`.
        threshold: on the scale of the scores.
        weights: `(..., n)`, how often each case counts; default once.

    Examples:
        >>> float(sensitivity([0, 1, 1], [0.1, 0.5, 0.2], threshold=0.5))
        0.5
    """
    y, s = checked(labels, scores)
    w = checked_weights(weights, y.size)
    return ratio((w * y * (s >= threshold)).sum(axis=-1), (w * y).sum(axis=-1))


def specificity(
    labels: ArrayLike, scores: ArrayLike, threshold: float, weights: ArrayLike | None = None
) -> Floats:
    """Return the share of label 0 that is called negative; NaN where there is no label 0.

    Args:
        labels: `(n,)`, 0 or 1.
        scores: `(n,)`.
        threshold: on the scale of the scores.
        weights: `(..., n)`, how often each case counts; default once.

    Examples:
        >>> float(specificity([0, 0, 1], [0.1, 0.5, 0.9], threshold=0.5))
        0.5
    """
    y, s = checked(labels, scores)
    w = checked_weights(weights, y.size)
    return ratio((w * (1 - y) * (s < threshold)).sum(axis=-1), (w * (1 - y)).sum(axis=-1))


def youden_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the threshold with the largest sensitivity + specificity - 1 on these cases.

    It is half-way between two neighbouring scores, so that it does not depend on one case's exact
    value. Among equally good ones the one with the higher sensitivity is taken.

    Args:
        labels: `(n,)`, 0 or 1, both present; take validation cases, never test cases.
        scores: `(n,)`.

    Raises:
        ValueError: if only one class is present.

    Examples:
        >>> youden_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.7])
        0.4
    """
    curve = roc_curve(labels, scores)
    gain = curve.sensitivity - curve.false_positive_rate
    best = np.flatnonzero(gain >= gain.max() - 1e-12)[-1]
    return _between(curve, int(best))


def require_both_classes(labels: Floats) -> None:
    """Raise where only one class is present.

    Raises:
        ValueError: saying which one.
    """
    if labels.min() == labels.max():
        raise ValueError(
            f"All {labels.size} cases have label {int(labels[0])}, expected both classes: "
            "an ROC curve needs them; check the split."
        )


def _weight_by_score(y: Floats, s: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the weights of labels 1 and 0 at each distinct score, and the scores, ascending."""
    order = np.argsort(s, kind="stable")
    sorted_scores = s[order]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(sorted_scores) > 0]))
    w, y = w[..., order], y[order]
    positive = np.add.reduceat(w * y, starts, axis=-1)
    negative = np.add.reduceat(w * (1 - y), starts, axis=-1)
    return positive, negative, sorted_scores[starts]


def _between(curve: RocCurve, point: int) -> float:
    """Return a threshold between scores with the same calls as the curve's point.

    Beyond the outermost scores it is the next number: the data say nothing about the distance.
    """
    upper = float(curve.threshold[point])
    if point == len(curve.threshold) - 1:
        return upper
    lower = float(curve.threshold[point + 1])
    if np.isinf(upper):
        return float(np.nextafter(lower, np.inf))
    middle = (upper + lower) / 2
    return middle if middle > lower else upper


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
        ValueError: if a class has fewer than two cases.
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
